"""Compressed bodies, inflated in pieces, so that a small body cannot become a huge one unseen."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

# Each member of a gzip body costs a copy of all that is behind it, so that 5 MiB of empty ones,
# 20 bytes each, would take half a minute. Programs make one, or a few.
MAX_MEMBERS = 16
_GZIP = 16 + zlib.MAX_WBITS


class NotCompressed(Exception):
    """The bytes are not what their encoding says."""


class TooManyMembers(Exception):
    """A gzip body of more than `MAX_MEMBERS` members."""


class CutOff(Exception):
    """The compressed bytes end before their end."""


class Inflater:
    """Inflates a gzip body, or one of the encoding `deflate`, as it comes."""

    def __init__(self, *, is_gzip: bool = True) -> None:
        self._is_gzip = is_gzip
        self._member = zlib.decompressobj(_GZIP if is_gzip else zlib.MAX_WBITS)
        self._members = 1
        self._has_begun = False

    def pieces(self, data: bytes, size: int) -> Iterator[bytes]:
        """What `data` adds, in pieces of `size` bytes at most; whoever has enough stops asking.

        Raises `NotCompressed` and `TooManyMembers`.
        """
        if not data:
            return
        while data:
            if self._member.eof:
                self._begin_member()
            piece = self._inflate(data, size)
            data = self._member.unconsumed_tail or self._member.unused_data
            if piece:
                yield piece
        # What zlib still holds back because of `size`.
        while not self._member.eof and (piece := self._inflate(b"", size)):
            yield piece

    def finish(self) -> None:
        """Raises `CutOff` unless the body was whole."""
        if self._has_begun and not self._member.eof:
            raise CutOff

    def _begin_member(self) -> None:
        if not self._is_gzip:
            raise NotCompressed
        if self._members == MAX_MEMBERS:
            raise TooManyMembers
        self._members += 1
        self._member = zlib.decompressobj(_GZIP)

    def _inflate(self, data: bytes, size: int) -> bytes:
        try:
            piece = self._member.decompress(data, size)
        except zlib.error:
            if self._is_gzip or self._has_begun:
                raise NotCompressed from None
            # The name means zlib's format; some servers send what is inside of that.
            self._member = zlib.decompressobj(-zlib.MAX_WBITS)
            self._has_begun = True
            return self._inflate(data, size)
        self._has_begun = True
        return piece
