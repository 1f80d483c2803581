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

# In groups of what may be taken for one another; an example's words come from one or two.
TYPES = (
    ("view", "buy", "Buy"),
    ("a", "ä", "Ä", "b"),
    ("\U0001f600", "\uffee", "z"),
    ('it\'s "x"', "\\N", "NULL"),
)
ACTORS = (("u1", "u2", "U1"), ("É", "é", "e"), ("", "\\N", "NULL"), ('a,b\n"c"', "u1", " u1"))
TEXTS = (
    ("/", "/a", "/A", "/a/b"),
    ("/Straße", "/straße", "Жук", "жук"),
    ("a_b", "axb", "a%b", "a.b", "a"),
    ("100%", "1000", "100", "$1"),
    ("\\N", "\\", "", " "),
    ('say "hi"', '"', "it's", "'", "a,b"),
    ("two\nlines", "two\r\nlines\n", "two", "tab\there"),
    ("\U0001f600", "", "é"),
)
NAMES = (
    ("plan", "Plan"),
    ("a.b", "a"),
    ("$", "$.plan", "plan"),
    ("/plan", "~1plan", "plan"),
    ("*", "", "0"),
    ('"', "'", "\\"),
    ("ü", "[0]", "-"),
)
VALUES: tuple[tuple[Any, ...], ...] = (
    (True, "true", False, None),
    (12, "12", 12.5, "12.5", 12.0, ["12"]),
    (0, False, "", "0", None, -3),
    ([1, 2], "[1,2]", [], 12),
    ({"plan": 12}, '{"plan":12}', {}, {"a": {"b": [1, "x", None, True]}}),
    (None, "null", "\\N"),
    ("É", "é", 'q"q', "two\nlines"),
    ("\U0001f600", "a/b", 10**12, 0.1),
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
SHAPES = ("all", "field", "property", "field", "property", "property", "not", "or", "and", "mixed")
NUMBERS = (0.0, 12.0, 12.5, -3.0, 1e12, 0.1, 1.0, 100.0)


Picked = TypeVar("Picked")


@dataclass(frozen=True, slots=True)
class Words:
    """The few words of one example: its events are made of them, and its filters ask for them.

    `properties` are names and values that events really have, once they are made.
    """

    types: tuple[str, ...]
    actors: tuple[str, ...]
    texts: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[Any, ...]
    properties: tuple[tuple[str, Any], ...] = ()


def coin(random: Random) -> bool:
    """Yes or no."""
    return random.choice((False, True))


def pick_some(random: Random, pool: Sequence[Picked], counts: Sequence[int]) -> tuple[Picked, ...]:
    """As many of the pool as one of the counts says, the same one perhaps twice."""
    return tuple(random.choice(pool) for _ in range(random.choice(counts)))


def _draw_group(random: Random, groups: Sequence[tuple[Picked, ...]]) -> tuple[Picked, ...]:
    return random.choice(groups) + (random.choice(groups) if coin(random) else ())


def draw_words(random: Random) -> Words:
    """A small choice from the pools."""
    return Words(
        random.choice(TYPES),
        random.choice(ACTORS),
        _draw_group(random, TEXTS),
        random.choice(NAMES),
        _draw_group(random, VALUES),
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
    """Beginnings, ends and middles of the texts, also with what SQL has for "any letter"."""
    found = [piece for text in pool for piece in (text, text[:2], text[-2:], text[1:-1])]
    wild = [piece for text in pool for piece in (f"{text[:1]}_{text[2:]}", f"%{text[1:]}")]
    return (*found * 3, *wild, *_others(pool), *PIECES)


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


def draw_number_filter(random: Random, numbers: tuple[float, ...]) -> NumberFilter:
    """Conditions on a number that is likely to be one of `numbers`."""
    names = pick_some(random, NUMBER_CONDITIONS, FEW)
    given: dict[str, Any] = {
        name: coin(random) if name == "is_set" else random.choice((*numbers, *numbers, *NUMBERS))
        for name in names
    }
    return NumberFilter(**given)


def _numbers_in(value: Any) -> tuple[float, ...]:
    """The number that a value is, or that somebody might take it for."""
    try:
        return (float(value),)
    except (TypeError, ValueError):
        return ()


def _sorts_that_fit(value: Any) -> tuple[str, ...]:
    """What to ask about a value such as this: as a (s)tring, a (n)umber, a (b)oolean."""
    if value is True or value is False or value == "true":
        return ("b", "b", "s", "n")
    if _numbers_in(value):
        return ("n", "n", "s", "b")
    return ("s", "s", "n", "b", "sn", "")


def draw_property_filter(random: Random, words: Words) -> PropertyFilter:
    """Conditions on one property, of one sort or of two."""
    name, value = random.choice(words.names), random.choice(words.values)
    is_real = random.choice((True, True, False))
    if words.properties and is_real:
        name, value = random.choice(words.properties)
    text = value if isinstance(value, str) else json_text(value)
    texts = tuple(one if isinstance(one, str) else json_text(one) for one in words.values)
    sorts = random.choice(_sorts_that_fit(value))
    return PropertyFilter(
        name,
        draw_string_filter(random, (text, *texts)) if "s" in sorts else None,
        draw_number_filter(random, _numbers_in(value)) if "n" in sorts else None,
        random.choice((value in (True, "true"), False)) if "b" in sorts else None,
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
