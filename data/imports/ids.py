"""Event ids for rows that bring none, or one that is not a UUID: the same at every reading."""

from __future__ import annotations

import re
from hashlib import blake2b
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid5

# Fixed for ever: another namespace would make every repeated import count everything again.
_NAMESPACE = UUID("10178570-96e9-4fac-8359-8a0c736ef718")

# Positions in the filter for every row, all taken from one digest of 128 bits.
_FILTER_HASHES = 4

_UUID = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}"
).fullmatch

_canonical = msgspec.json.Encoder(order="sorted").encode


def event_id_of(site_id: str, raw_id: str) -> UUID:
    """The UUID that `raw_id` is (32 hex digits, with the four hyphens or without), else a stable one.

    Stricter than `uuid.UUID`, which also takes braces, stray hyphens and digits of other scripts:
    two different ids of a source must not become one.
    """
    if _UUID(raw_id):
        return UUID(raw_id)
    return stable_event_id(site_id, raw_id)


def stable_event_id(site_id: str, raw_id: str) -> UUID:
    """The UUIDv5 of a site and the id that a source gave to one of its events."""
    return uuid5(_NAMESPACE, f"{site_id}\0id\0{raw_id}")


class RowIds:
    """Ids for the rows of one file that bring none: one object per reading, rows in order.

    The id is a UUIDv5 of site, content, and how many equal rows came before in the file. So the
    same file gives the same ids again; so does one that has grown, lost its broken rows, or been
    rotated and joined with others; and two equal rows of a file stay two events. A row number in
    place of the count would be simpler, but then one line taken out at the top makes all the
    others new, and a repeated import counts them twice. The price: a row that equals one of
    another file of this site is taken for the same event, as if the files overlapped.

    Counting equal rows exactly takes memory for every row. Here a Bloom filter (16 MiB) knows
    which rows are surely new, and only the others are counted. It errs to one side: a new row may
    be taken for a repeated one (at 5 M rows one in 2,500), which changes its id and nothing else.
    When there are more than `max_counted` rows to count, the number of the row stands in for the
    count. All depends on the rows before alone, so a second reading errs in the same places.

    `filter_bits` is the size of the filter, as a power of two (3 to 32). Both limits decide about
    ids, so those in use stay as they are.
    """

    def __init__(self, site_id: str, *, filter_bits: int = 27, max_counted: int = 131_072) -> None:
        self._site_id = site_id
        self._filter_bits = filter_bits
        self._max_counted = max_counted
        self._seen = bytearray()
        self._counts: dict[bytes, int] = {}

    def next_id(self, number: int, event: dict[str, object]) -> UUID:
        """The id of the row with this number and content; raises RecursionError when too deep."""
        digest = blake2b(_canonical(event), digest_size=16).digest()
        before = self._equal_rows_before(digest, number)
        return uuid5(_NAMESPACE, f"{self._site_id}\0row\0{digest.hex()}\0{before}")

    def _equal_rows_before(self, digest: bytes, number: int) -> int:
        before = self._counts.get(digest)
        if before is None:
            if not self._mark(digest):
                return 0
            if len(self._counts) >= self._max_counted:
                return number
            before = 1
        self._counts[digest] = before + 1
        return before

    def _mark(self, digest: bytes) -> bool:
        """Whether the digest was there before, as far as the filter knows; it is from now on."""
        if not self._seen:
            # Most files bring ids; they never pay for this.
            self._seen = bytearray(1 << (self._filter_bits - 3))
        seen, bits = self._seen, self._filter_bits
        known = True
        positions = int.from_bytes(digest, "big")
        for _ in range(_FILTER_HASHES):
            position = positions & ((1 << bits) - 1)
            positions >>= bits
            mask = 1 << (position & 7)
            if not seen[position >> 3] & mask:
                seen[position >> 3] |= mask
                known = False
        return known
