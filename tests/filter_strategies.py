"""Texts, values and filters of events, made to be mistaken for something else.

The letters are those that Python and every database lower in the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, TypeVar

from data.queries import (
    EVERYTHING,
    EventFilter,
    Field,
    NumberFilter,
    PropertyFilter,
    StringFilter,
)

TYPES = ("view", "buy", "Buy", "a", "ä", "Ä", "\U0001f600", "\uffee", 'it\'s "x"', "\\N")
ACTORS = ("u1", "u2", "U1", "É", "é", "", "\\N", 'a,b\n"c"', "NULL")
TEXTS = (
    "",
    " ",
    "/",
    "/a",
    "/A",
    "/a/b",
    "/Straße",
    "/straße",
    "Жук",
    "жук",
    "100%",
    "1000",
    "a_b",
    "axb",
    "a%b",
    "a.b",
    "\\N",
    "\\",
    'say "hi"',
    '"',
    "it's",
    "two\nlines",
    "two\r\nlines\n",
    "tab\there",
    "a,b",
    "\U0001f600",
    "$1",
    "true",
    "12",
    "12.5",
    "null",
    "[1,2]",
)
NAMES = (
    "plan",
    "Plan",
    "a.b",
    "a",
    "$",
    "$.plan",
    "/plan",
    "*",
    "",
    "0",
    '"',
    "'",
    "ü",
    "[0]",
    "\\",
)
VALUES: tuple[Any, ...] = (
    None,
    None,
    "",
    "12",
    "12.5",
    "true",
    "null",
    "É",
    "é",
    'q"q',
    "two\nlines",
    "\\N",
    "\U0001f600",
    "a/b",
    0,
    12,
    12.5,
    -3,
    10**12,
    0.1,
    True,
    False,
    [],
    [1, 2],
    ["12"],
    {},
    {"plan": 12},
    {"a": {"b": [1, "x", None, True]}},
)
PIECES = ("", "a", "A", "/", "\\", '"', "%", "_", ".", "\n", "ß", "É", "é", "ж", "Ж", "12", "N")
PATTERNS = (
    "",
    "^/",
    "^/[a-z]",
    "a.b",
    "^$",
    "^.$",
    "b$",
    "^[^/]",
    "a|ж",
    "^(É|12)",
    "[0-9]+",
    "[0-9]{3}",
    "lines\n?$",
    r"\.",
    r"\\",
    r"\$1",
    '"',
    "(?i)straß",
    "s+e?$",
    "^[^a-zA-Z]*$",
)
TEXT_CONDITIONS = (
    "eq",
    "ne",
    "in_",
    "not_in",
    "contains",
    "starts_with",
    "ends_with",
    "matches",
    "is_set",
)
# How many of something; none at all is a question of its own.
FEW = (1, 1, 2, 1, 1, 2, 3, 0)
NUMBER_CONDITIONS = ("eq", "ne", "gt", "gte", "lt", "lte", "is_set")
SHAPES = ("all", "field", "property", "field", "property", "not", "or", "and", "everything at once")
NUMBERS = (0.0, 12.0, 12.5, -3.0, 1e12, 0.1, 1.0, 100.0)


Picked = TypeVar("Picked")


@dataclass(frozen=True, slots=True)
class Words:
    """The few words of one example: its events are made of them, and its filters ask for them."""

    types: tuple[str, ...]
    actors: tuple[str, ...]
    texts: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[Any, ...]


def coin(random: Random) -> bool:
    """Yes or no."""
    return random.choice((False, True))


def pick_some(random: Random, pool: Sequence[Picked], counts: Sequence[int]) -> tuple[Picked, ...]:
    """As many of the pool as one of the counts says, the same one perhaps twice."""
    return tuple(random.choice(pool) for _ in range(random.choice(counts)))


def draw_words(random: Random) -> Words:
    """A small choice from the pools."""
    return Words(
        pick_some(random, TYPES, (2, 3, 4)),
        pick_some(random, ACTORS, (2, 3, 4)),
        pick_some(random, TEXTS, (1, 2, 2, 3)),
        pick_some(random, NAMES, (1, 2)),
        pick_some(random, VALUES, (2, 3, 4)),
    )


def json_text(value: Any) -> str:
    """A value as the contract shows it to conditions on texts."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=4096)
def _others(pool: tuple[str, ...]) -> tuple[str, ...]:
    """The texts with capital letters for small ones and the other way round."""
    return tuple(text.swapcase() for text in pool if text.swapcase().swapcase() == text)


@lru_cache(maxsize=4096)
def _pieces(pool: tuple[str, ...]) -> tuple[str, ...]:
    """Beginnings, ends and middles of the texts."""
    found = [piece for text in pool for piece in (text, text[:2], text[-2:], text[1:-1])]
    return (*found * 3, *_others(pool), *PIECES)


def _draw_text_condition(
    random: Random, name: str, pool: tuple[str, ...]
) -> str | bool | tuple[str, ...]:
    if name == "is_set":
        return coin(random)
    if name in ("in_", "not_in"):
        return pick_some(random, (*pool, *pool, *_pieces(pool)), FEW)
    if name in ("eq", "ne"):
        return random.choice((*pool, *pool, *_others(pool)))
    if name == "matches" and coin(random):
        return random.choice(PATTERNS)
    piece = random.choice(_pieces(pool))
    return re.escape(piece) if name == "matches" else piece


def draw_string_filter(random: Random, pool: tuple[str, ...]) -> StringFilter:
    """Conditions on a text that comes from `pool`: few, as many hold for nothing."""
    names = pick_some(random, TEXT_CONDITIONS, FEW)
    given: dict[str, Any] = {name: _draw_text_condition(random, name, pool) for name in names}
    return StringFilter(**given, ignore_case=random.choice((False, False, True)))


def draw_number_filter(random: Random) -> NumberFilter:
    """Conditions on a number."""
    names = pick_some(random, NUMBER_CONDITIONS, FEW)
    given: dict[str, Any] = {
        name: coin(random) if name == "is_set" else random.choice(NUMBERS) for name in names
    }
    return NumberFilter(**given)


def draw_property_filter(random: Random, words: Words) -> PropertyFilter:
    """Conditions on one property, of one sort or of two."""
    texts = tuple(value if isinstance(value, str) else json_text(value) for value in words.values)
    sorts = random.choice(("s", "s", "n", "n", "b", "s", "s", "n", "n", "b", "sn", ""))
    return PropertyFilter(
        random.choice(words.names),
        draw_string_filter(random, texts) if "s" in sorts else None,
        draw_number_filter(random) if "n" in sorts else None,
        coin(random) if "b" in sorts else None,
    )


def _draw_field_condition(random: Random, words: Words) -> tuple[Field, StringFilter]:
    field = random.choice(list(Field))
    pool = words.texts
    if field is Field.EVENT_TYPE:
        pool = words.types
    elif field in (Field.USER_ID, Field.VISITOR_ID):
        pool = words.actors
    return field, draw_string_filter(random, pool)


def _several(
    random: Random, one: Callable[[Random, Words], Picked], words: Words
) -> tuple[Picked, ...]:
    return tuple(one(random, words) for _ in range(random.choice(FEW)))


def draw_filter(random: Random, words: Words, depth: int = 3) -> EventFilter:
    """Which events count: all of them often, else what conditions can say."""

    def inner(random: Random, words: Words) -> EventFilter:
        return draw_filter(random, words, depth - 1)

    shape = random.choice(SHAPES if depth else SHAPES[:3])
    if shape == "all":
        return EVERYTHING
    if shape == "field":
        return EventFilter(fields=(_draw_field_condition(random, words),))
    if shape == "property":
        return EventFilter(properties=(draw_property_filter(random, words),))
    if shape == "not":
        return EventFilter(negated=inner(random, words))
    if shape == "or":
        return EventFilter(any_of=_several(random, inner, words))
    if shape == "and":
        return EventFilter(all_of=_several(random, inner, words))
    return EventFilter(
        _several(random, _draw_field_condition, words),
        _several(random, draw_property_filter, words),
        _several(random, inner, words),
        _several(random, inner, words) if coin(random) else None,
        inner(random, words) if coin(random) else None,
    )
