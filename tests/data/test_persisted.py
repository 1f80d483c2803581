"""Texts at hand: bounded, and the one unused for longest goes first."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.persisted import MOST_CHARACTERS, BoundedTexts, OwnPersistedQueries
from telemetry.metrics import Metrics


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def held(texts: BoundedTexts, *candidates: str) -> list[str]:
    return [one for one in candidates if texts.get(one) is not None]


def test_the_text_unused_for_longest_goes_first() -> None:
    texts = BoundedTexts(most_bytes=3 * 1_500)
    for name in "abc":
        texts.put(name, name * 1_000)
    texts.get("a")

    texts.put("d", "d" * 1_000)

    assert held(texts, "a", "b", "c", "d") == ["a", "c", "d"]


def test_a_text_that_is_larger_than_all_room_is_not_held() -> None:
    texts = BoundedTexts(most_bytes=1_000)
    texts.put("a", "a" * 100)

    texts.put("b", "b" * 1_000)

    assert (len(texts), texts.size) == (0, 0)


def test_a_text_counts_with_what_it_takes_in_memory() -> None:
    narrow, wide = BoundedTexts(), BoundedTexts()
    narrow.put("a", "a" * 1_000)
    wide.put("a", "\N{SNOWMAN}" * 1_000)

    assert narrow.size > 1_000
    assert wide.size > 2_000


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(min_value=0, max_value=800)),
        max_size=60,
    )
)
def test_the_bound_holds_and_the_size_is_that_of_what_is_held(
    puts: list[tuple[str, int]],
) -> None:
    texts = BoundedTexts(most_bytes=3_000)
    sizes: dict[str, int] = {}
    for name, length in puts:
        # As with hashes: a name always stands for the same text.
        sizes.setdefault(name, length)
        texts.put(name, "x" * sizes[name])
        assert texts.size <= texts.most_bytes

    kept = [texts.get(name) for name in sizes]
    assert texts.size == sum(one.size for one in kept if one)
    assert len(texts) == sum(one is not None for one in kept)


@pytest.mark.parametrize(
    ("length", "is_kept"), [(MOST_CHARACTERS, True), (MOST_CHARACTERS + 1, False)]
)
async def test_a_very_long_text_is_not_kept(length: int, is_kept: bool) -> None:
    persisted = OwnPersistedQueries(Metrics.create().persisted)
    text = "#" * length

    await persisted.keep(hash_of(text), text)

    assert (await persisted.find(hash_of(text)) == text) is is_kept


async def test_where_texts_are_found_is_counted() -> None:
    metrics = Metrics.create()
    persisted = OwnPersistedQueries(metrics.persisted)
    await persisted.keep(hash_of("{ a }"), "{ a }")

    found = [await persisted.find(hash_of(text)) for text in ("{ a }", "{ b }", "{ a }")]

    assert found == ["{ a }", None, "{ a }"]
    count = metrics.registry.get_sample_value
    assert count("footfall_persisted_lookups_total", {"place": "memory"}) == 2
    assert count("footfall_persisted_lookups_total", {"place": "nowhere"}) == 1
