"""Schemas, documents and answers at random, for comparing executors.

A schema has object types that hold leaves, one another and lists of these, and a question,
`things`, that gives what is in the context. A document asks for it in all the ways in which a
selection can be written. Answers are as the schema says, and in odd worlds anything else as well.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from functools import lru_cache
from random import Random
from typing import Any, NewType, Optional
from uuid import UUID

import msgspec
import strawberry
from graphql import (
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    Undefined,
    get_named_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from strawberry import ID
from strawberry.schema.config import StrawberryConfig

from schema.scalars import JSON, SCALARS, BigInt


class Text(str):
    """A text that is more than a text."""

    __slots__ = ()


@strawberry.enum
class Colour(Enum):
    RED = "red"
    GREEN = 2


@strawberry.enum
class Shape(StrEnum):
    ROUND = "ROUND"
    SQUARE = "square"


@dataclass(frozen=True)
class Later:
    """Something to be awaited, as often as one likes."""

    value: Any

    def __await__(self) -> Generator[None, None, Any]:
        yield
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@dataclass(frozen=True)
class Items:
    """Many things that are no list."""

    values: list[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)


@dataclass(frozen=True)
class LateItems:
    """Many things, one after the other."""

    values: list[Any]

    async def __aiter__(self) -> AsyncIterator[Any]:
        for value in self.values:
            yield value


Even = NewType("Even", int)


def _show_even(value: Any) -> Any:
    """Even numbers, and all that a scalar should not give."""
    if value == 1:
        raise ValueError("1 is odd")
    return {3: None, 5: Undefined, 7: Later(8), 9: Decimal(10)}.get(value, value)


_SCALARS = {**SCALARS, Even: strawberry.scalar(name="Even", serialize=_show_even, parse_value=int)}
LEAVES = (int, str, float, bool, ID, Colour, Shape, date, datetime, UUID, BigInt, JSON, Even)
_NOW = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
GOOD: dict[str, tuple[object, ...]] = {
    "Int": (0, -7, 2**31 - 1, -(2**31), True, 3.0, "12"),
    "String": ("", "plain", "\N{SNOWMAN}", 12, 1.5, True),
    "Float": (0.5, -0.0, 1e308, 3, False, "2.5"),
    "Boolean": (True, False, 0, 2.0),
    "ID": ("a", "", 12, 3.0),
    "Colour": (Colour.RED, Colour.GREEN),
    "Shape": (Shape.ROUND, Shape.SQUARE),
    "Date": (date(2026, 1, 31), date(1, 1, 1)),
    "DateTime": (_NOW, datetime.max.replace(tzinfo=UTC)),
    "UUID": (UUID(int=1), UUID(int=2)),
    "BigInt": (0, 2**53, -(2**70)),
    "JSON": ({"a": [1, None]}, [], "text", 1, False),
    "Even": (0, 2, 4),
}
ODD: tuple[object, ...] = (
    *(None, Undefined, True, 1, 3, 5, 7, 9, 2**31, 2**70, 0.5, 1.5),
    *(float("nan"), float("inf"), "", "text", Text("more"), b"bytes", Decimal("1.5"), [], [1], {}),
    *(
        date(2026, 1, 1),
        datetime(2026, 1, 1),
        Colour.RED,
        Shape.ROUND,
        "RED",
        "red",
        "ROUND",
        object,
        len,
    ),
    *(ValueError("a value that is an error"), Later(2), Later(None), Later(ValueError("late"))),
)


class Open:
    """Holds attributes in its own dictionary."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)


class OpenToo(Open):
    """The same, with defaults in its class."""

    f0 = None
    f1 = "of the class"


class Secret(Exception):
    """An error that has attributes as well."""

    def __init__(self, **values: object) -> None:
        super().__init__("a holder that is an error")
        self.__dict__.update(values)


class Asked:
    """Is asked for every attribute, and counts."""

    reads = 0

    def __init__(self, **values: object) -> None:
        self.values = values

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        Asked.reads += 1
        return self.values[name]


class AskedFirst:
    """Is asked for every attribute, also for those that it has."""

    def __init__(self, **values: object) -> None:
        self.values = values

    def __getattribute__(self, name: str) -> object:
        if name.startswith("f"):
            Asked.reads += 1
            return object.__getattribute__(self, "values")[name]
        return object.__getattribute__(self, name)


def _slots(**values: object) -> object:
    return _slots_class(tuple(values))(**values)


@lru_cache
def _slots_class(names: tuple[str, ...]) -> Callable[..., object]:
    return make_dataclass("Slots", names, slots=True, frozen=True)


def _tuple(**values: object) -> object:
    return _tuple_class(tuple(values))(**values)


@lru_cache
def _tuple_class(names: tuple[str, ...]) -> Callable[..., object]:
    return namedtuple("Tuple", names)  # noqa: PYI024 - its names are drawn


def _struct(**values: object) -> object:
    return _struct_class(tuple(values))(**values)


@lru_cache
def _struct_class(names: tuple[str, ...]) -> Callable[..., object]:
    return msgspec.defstruct("Struct", names, frozen=True, gc=False)


def _computed(**values: object) -> object:
    """Properties that count how often they are read; one of two raises what it has."""

    def reader(value: object) -> property:
        def read(_: object) -> object:
            Asked.reads += 1
            if isinstance(value, Exception):
                raise value
            return value

        return property(read)

    return type("Computed", (), {name: reader(value) for name, value in values.items()})()


def _late(**values: object) -> object:
    return Later(Open(**values))


def _incomplete(**values: object) -> object:
    return Open(**dict(list(values.items())[1:]))


PLAIN_HOLDERS: tuple[Callable[..., object], ...] = (Open, OpenToo, _slots, _tuple, _struct)
ODD_HOLDERS: tuple[Callable[..., object], ...] = (
    *(Asked, AskedFirst, Secret, _computed, _late, _incomplete, dict),
)


# Schemas


def draw_schema(random: Random, *, with_resolvers: bool) -> GraphQLSchema:
    """A question `things` for a list of objects, some of which hold others."""
    types: list[Any] = []
    for number in range(random.randint(1, 3)):
        fields = {f"f{at}": _draw_annotation(random, types) for at in range(random.randint(1, 5))}
        body: dict[str, object] = {"__annotations__": fields}
        if with_resolvers and random.random() < 0.1:
            body["resolved"] = strawberry.field(resolver=_seven)
        types.append(strawberry.type(type(f"T{number}", (), body)))
    return schema_for(_wrapped(random, list[_wrapped(random, types[-1])]))  # type: ignore[misc]


def schema_for(answer: Any) -> GraphQLSchema:
    """A question `things` whose answer is of this type."""
    question = strawberry.field(resolver=_in_context, graphql_type=answer)
    query = strawberry.type(type("Query", (), {"things": question}))
    return strawberry.Schema(query, config=StrawberryConfig(scalar_map=_SCALARS))._schema


def _seven() -> int:
    return 7


def _in_context(info: strawberry.Info) -> object:
    return info.context


def _draw_annotation(random: Random, types: list[Any]) -> Any:
    of_type = random.choice(types) if types and random.random() < 0.4 else random.choice(LEAVES)
    annotation = _wrapped(random, of_type)
    while random.random() < 0.3:
        annotation = _wrapped(random, list[annotation])  # type: ignore[valid-type]
    return annotation


def _wrapped(random: Random, annotation: Any) -> Any:
    return Optional[annotation] if random.random() < 0.5 else annotation  # noqa: UP045


# Documents


def draw_document(random: Random, schema: GraphQLSchema) -> str:
    """A query for `things`, with the variables `$yes` and `$no`."""
    asked = get_named_type(schema.query_type.fields["things"].type)  # type: ignore[union-attr]
    assert is_object_type(asked)
    fragments: list[str] = []
    selections = [_draw_selections(random, asked, fragments) for _ in range(2)]
    fields = f"things {selections[0]} more: things {selections[1]}"
    return "\n".join([f"query ($yes: Boolean!, $no: Boolean = false) {{ {fields} }}", *fragments])


def _draw_selections(random: Random, type_: GraphQLObjectType, fragments: list[str]) -> str:
    names = [name for name in type_.fields if random.random() < 0.7]
    names += [name for name in names if random.random() < 0.15]
    random.shuffle(names)
    parts = [_draw_field(random, type_, name, fragments) for name in names]
    if not parts or random.random() < 0.2:
        parts.insert(random.randint(0, len(parts)), f"__typename{_draw_directive(random)}")
    cut = random.randint(0, len(parts))
    within = " ".join(parts[cut:])
    if within and random.random() < 0.2:
        condition = random.choice(["", f" on {type_.name}"])
        parts[cut:] = [f"...{condition}{_draw_directive(random)} {{ {within} }}"]
    elif within and random.random() < 0.2:
        name = f"F{len(fragments)}"
        fragments.append(f"fragment {name} on {type_.name} {{ {within} }}")
        parts[cut:] = [f"...{name}{_draw_directive(random)}"]
    return f"{{ {' '.join(parts)} }}"


def _draw_field(random: Random, type_: GraphQLObjectType, name: str, fragments: list[str]) -> str:
    alias = f"{name}{random.choice('xy')}: " if random.random() < 0.2 else ""
    of_type = get_named_type(type_.fields[name].type)
    selections = _draw_selections(random, of_type, fragments) if is_object_type(of_type) else ""
    return f"{alias}{name}{_draw_directive(random)} {selections}"


def _draw_directive(random: Random) -> str:
    if random.random() < 0.85:
        return ""
    name, value = random.choice(["skip", "include"]), random.choice(["true", "$yes", "$no"])
    return f" @{name}(if: {value})"


# Answers


@dataclass(slots=True)
class Answers:
    """Draws values of types. In an odd world, one in `oddity` is not what the type asks for."""

    random: Random
    is_odd: bool

    def to(self, schema: GraphQLSchema) -> Any:
        """An answer to the question of the schema."""
        assert schema.query_type is not None
        return self.value(schema.query_type.fields["things"].type)

    def value(self, type_: GraphQLOutputType) -> Any:
        """A value for a field of the type."""
        if self._is_out_of_the_ordinary():
            return self.random.choice(ODD)
        if is_non_null_type(type_):
            return self._present(type_.of_type)
        return None if self.random.random() < 0.2 else self._present(type_)

    def _present(self, type_: GraphQLOutputType) -> Any:
        if is_list_type(type_):
            values = [self.value(type_.of_type) for _ in range(self.random.randint(0, 4))]
            if self._is_out_of_the_ordinary():
                return self.random.choice([Items, LateItems, Later, _keys])(values)
            return self.random.choice([list, list, list, tuple])(values)
        if is_object_type(type_):
            return self._object(type_.fields)
        good = GOOD[get_named_type(type_).name]
        # A column is of one kind more often than not.
        return self.random.choice(good[:2] if self.random.random() < 0.7 else good)

    def _object(self, fields: Mapping[str, Any]) -> object:
        values = {
            name: self.value(field.type) for name, field in fields.items() if name != "resolved"
        }
        odd = self._is_out_of_the_ordinary()
        return self.random.choice(ODD_HOLDERS if odd else PLAIN_HOLDERS)(**values)

    def _is_out_of_the_ordinary(self) -> bool:
        return self.is_odd and self.random.random() < 0.06


def _keys(values: list[Any]) -> Any:
    """What can be gone through and still is no list: the keys of a dictionary."""
    return dict.fromkeys(map(str, values)).keys()
