"""Compressed bodies in pieces: whole, cut off, wrong, and huge."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.inflating import MAX_MEMBERS, CutOff, Inflater, NotCompressed, TooManyMembers

TEXT = b"some text, some more of it, and some text again. " * 200


def inflated(chunks: list[bytes], size: int = 100, *, is_gzip: bool = True) -> bytes:
    inflater = Inflater(is_gzip=is_gzip)
    pieces = [piece for chunk in chunks for piece in inflater.pieces(chunk, size)]
    inflater.finish()
    assert all(0 < len(piece) <= size for piece in pieces)
    return b"".join(pieces)


@given(
    body=st.binary(max_size=2_000),
    cut=st.integers(1, 50),
    size=st.integers(1, 300),
    kind=st.sampled_from(["gzip", "members", "zlib", "raw"]),
)
def test_a_body_is_what_it_was_however_it_is_cut(
    body: bytes, cut: int, size: int, kind: str
) -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    small = {
        "gzip": gzip.compress(body),
        "members": gzip.compress(body[:100]) + gzip.compress(body[100:]),
        "zlib": zlib.compress(body),
        "raw": packer.compress(body) + packer.flush(),
    }[kind]
    # What comes first tells the two kinds of deflate apart.
    chunks = [small[:2], *(small[at : at + cut] for at in range(2, len(small), cut))]

    assert inflated(chunks, size, is_gzip=kind in ("gzip", "members")) == body


def test_nothing_is_nothing() -> None:
    assert inflated([]) == inflated([b""]) == b""


@pytest.mark.parametrize("is_gzip", [True, False])
@pytest.mark.parametrize("left_out", [1, 5, 20])
def test_a_body_that_ends_early_is_cut_off(left_out: int, *, is_gzip: bool) -> None:
    small = gzip.compress(TEXT) if is_gzip else zlib.compress(TEXT)

    with pytest.raises(CutOff):
        inflated([small[:-left_out]], is_gzip=is_gzip)


@pytest.mark.parametrize(
    ("body", "is_gzip"),
    [
        (b"plain text", True),
        (b"plain text", False),
        (gzip.compress(TEXT)[:-8] + bytes(8), True),
        (gzip.compress(TEXT) + b"and more", True),
        (zlib.compress(TEXT) + b"and more", False),
        (zlib.compress(TEXT)[:40] + b"\xff" * 200, False),
    ],
    ids=["plain", "plain deflate", "wrong sum", "more behind", "more behind deflate", "damaged"],
)
def test_what_is_not_compressed_is_told(body: bytes, *, is_gzip: bool) -> None:
    with pytest.raises(NotCompressed):
        inflated([body], is_gzip=is_gzip)


def test_there_may_be_a_few_members_and_no_more() -> None:
    assert inflated([gzip.compress(b"x") * MAX_MEMBERS]) == b"x" * MAX_MEMBERS
    with pytest.raises(TooManyMembers):
        inflated([gzip.compress(b"x") * (MAX_MEMBERS + 1)])


def test_whoever_has_enough_gets_no_more_than_a_piece() -> None:
    small = gzip.compress(bytes(100_000_000))

    first = next(Inflater().pieces(small, 1_000))

    assert first == bytes(1_000)
