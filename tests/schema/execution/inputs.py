"""Input types and values at random, for comparing how variables are coerced.

Types are made of graphql-core's parts, so that they have all that an input type can have. Values
are as the type says and, where `is_odd`, anything else as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from random import Random
from typing import Any

from graphql import (
    GraphQLBoolean,
    GraphQLDefaultInput,
    GraphQLEnumType,
    GraphQLEnumValue,
    GraphQLError,
    GraphQLFloat,
    GraphQLID,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    GraphQLString,
    Undefined,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
)


class Text(str):
    """A text that is more than a text."""

    __slots__ = ()


class Fields(dict[str, object]):
    """A dictionary that is more than one."""


def _read_even(value: object) -> object:
    if not isinstance(value, int):
        raise GraphQLError("Even takes numbers.", extensions={"code": "EVEN"})
    if value % 2:
        raise ValueError(f"{value} is odd")
    return Undefined if value == 8 else value // 2


class Colour(Enum):
    RED = "red"
    GREEN = 2


EVEN = GraphQLScalarType("Even", coerce_input_value=_read_even)
ANYTHING = GraphQLScalarType("Anything", coerce_input_value=lambda value: value)
COLOUR = GraphQLEnumType("Colour", {"RED": GraphQLEnumValue(Colour.RED), "BLUE": 3})
LEAVES: tuple[GraphQLInputType, ...] = (
    *(GraphQLInt, GraphQLFloat, GraphQLString, GraphQLString, GraphQLBoolean, GraphQLID),
    *(EVEN, ANYTHING, COLOUR),
)
GOOD: dict[str, tuple[object, ...]] = {
    "Int": (0, -7, 2**31 - 1, 3.0),
    "Float": (0.5, 3, -0.0),
    "String": ("", "text"),
    "Boolean": (True, False),
    "ID": ("a", 12),
    "Even": (0, 2),
    "Anything": ({"a": [1, None]}, 1, "x", [None]),
    "Colour": ("RED", "BLUE"),
}
ODD: tuple[object, ...] = (
    *(None, Undefined, True, 1, 8, 2**31, 2**70, 0.5, float("nan"), float("inf"), Decimal(1)),
    *("", "text", Text("more"), "GREEN", Colour.RED, b"bytes", [], [[]], (1,), {}, {"f0": None}),
    *(Fields(f0=1), {"f1": {"f0": []}}, {1: 2}, object),
)


# Types


def draw_type(random: Random) -> GraphQLInputType:
    """The type of a variable: an input object, lists of one, or less."""
    objects: list[GraphQLInputType] = []
    for number in range(random.randint(1, 3)):
        objects.append(_draw_object(random, f"T{number}", list(objects)))
    last = objects[-1]
    return random.choice([_wrapped(random, last), _in_list(random, last), _draw(random, objects)])


def _draw_object(
    random: Random, name: str, objects: list[GraphQLInputType]
) -> GraphQLInputObjectType:
    is_one_of, is_recursive = random.random() < 0.1, random.random() < 0.1
    fields = {
        f"f{at}": _draw_field(random, objects, is_one_of=is_one_of)
        for at in range(random.randint(1, 5))
    }
    type_ = GraphQLInputObjectType(
        name,
        lambda: {**fields, "again": GraphQLInputField(type_)} if is_recursive else fields,
        out_type=random.choice([None] * 9 + [lambda coerced: list(coerced.items())]),
        is_one_of=is_one_of,
    )
    return type_


def _draw_field(
    random: Random, objects: list[GraphQLInputType], *, is_one_of: bool
) -> GraphQLInputField:
    type_ = _draw(random, objects)
    if is_one_of:
        nullable = type_.of_type if is_non_null_type(type_) else type_
        return GraphQLInputField(nullable)
    out_name = random.choice([None, None, "renamed", "f0"])
    if random.random() > 0.2:
        return GraphQLInputField(type_, out_name=out_name)
    if random.random() < 0.5:
        return GraphQLInputField(type_, default_value=["inner"], out_name=out_name)
    default = GraphQLDefaultInput(value=Values(random, is_odd=False).value(type_))
    return GraphQLInputField(type_, default=default, out_name=out_name)


def _draw(random: Random, objects: list[GraphQLInputType]) -> GraphQLInputType:
    some = objects if objects and random.random() < 0.3 else LEAVES
    type_ = random.choice(some)
    return _in_list(random, type_) if random.random() < 0.3 else _wrapped(random, type_)


def _in_list(random: Random, type_: GraphQLInputType) -> GraphQLInputType:
    return _wrapped(random, GraphQLList(_wrapped(random, type_)))


def _wrapped(random: Random, type_: Any) -> GraphQLInputType:
    return GraphQLNonNull(type_) if random.random() < 0.5 else type_


# Values


@dataclass(slots=True)
class Values:
    """Draws what a client may send for a type."""

    random: Random
    is_odd: bool

    def value(self, type_: GraphQLInputType, depth: int = 0) -> Any:
        if self.is_odd and self.random.random() < 0.05:
            return self.random.choice(ODD)
        if is_non_null_type(type_):
            return self._present(type_.of_type, depth)
        if depth > 6 or self.random.random() < 0.2:
            return None
        return self._present(type_, depth)

    def _present(self, type_: GraphQLInputType, depth: int) -> Any:
        if is_list_type(type_):
            return [self.value(type_.of_type, depth + 1) for _ in range(self.random.randint(0, 3))]
        if is_input_object_type(type_):
            return self._object(type_, depth)
        return self.random.choice(GOOD[str(type_)])

    def _object(self, type_: GraphQLInputObjectType, depth: int) -> dict[str, Any]:
        names = list(type_.fields)
        if type_.is_one_of:
            names = [self.random.choice(names)]
        self.random.shuffle(names)
        sent = {}
        for name in names:
            field = type_.fields[name]
            may_lack = not is_non_null_type(field.type) or field.default or self.is_odd
            if type_.is_one_of:
                sent[name] = self._present(field.type, depth + 1)
            elif not may_lack or self.random.random() < 0.8:
                sent[name] = self.value(field.type, depth + 1)
        if self.is_odd and self.random.random() < 0.05:
            sent["f9"] = 1
        return sent
