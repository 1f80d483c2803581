"""What operations cost, worked out the long way, and a small schema to work it out for.

The oracle walks every path of an operation, through each fragment as often as it is spread and
through each possible type, and asks graphql-core for the arguments.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from fractions import Fraction
from random import Random
from typing import Annotated, Any, TypeAlias

import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    get_argument_values,
    get_directive_values,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_composite_type,
    is_leaf_type,
    is_list_type,
    specified_directives,
)
from graphql.execution.values import VariableValues

from schema.directives import Cost, ListSize
from schema.estimates import periods_in
from schema.fields import field

Arguments: TypeAlias = Mapping[str, Any]
# The length of a list from its field's arguments, and those of the fields around it, inside out.
Size: TypeAlias = Callable[[Arguments, Sequence[Arguments]], int]


@dataclass(frozen=True)
class PriceList:
    """What is to be paid, by `Type.field`; all that is not named costs nothing by itself."""

    weights: Mapping[str, Fraction]
    sizes: Mapping[str, Size]
    inputs: Mapping[str, Callable[[Arguments], Fraction]] = attribute(default_factory=dict)


@dataclass
class Oracle:
    """Costs of the operations of a document, in points with their fractions."""

    schema: GraphQLSchema
    document: DocumentNode
    variables: VariableValues
    prices: PriceList

    def __post_init__(self) -> None:
        self.fragments = {
            node.name.value: node
            for node in self.document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }

    def cost(self, operation: OperationDefinitionNode, data: Mapping[str, Any] | None) -> Fraction:
        """What was answered; without an answer, the most that can be asked."""
        root = self.schema.get_root_type(operation.operation)
        assert root is not None
        return self.selection(operation, root, data, ())

    def selection(
        self, node: Any, type_: GraphQLObjectType, data: Any, around: Sequence[Arguments]
    ) -> Fraction:
        """The fields of one object."""
        total = Fraction(0)
        for one in node.selection_set.selections:
            if not self.is_asked(one):
                continue
            if isinstance(one, FieldNode):
                total += self.field(one, type_, data, around)
                continue
            inner = self.fragments[one.name.value] if isinstance(one, FragmentSpreadNode) else one
            assert isinstance(inner, (FragmentDefinitionNode, InlineFragmentNode))
            if self.fits(inner, type_):
                total += self.selection(inner, type_, data, around)
        return total

    def is_asked(self, node: Any) -> bool:
        """Whether `@skip` and `@include` leave a selection in."""
        skip, include = (
            next(each for each in specified_directives if each.name == name)
            for name in ("skip", "include")
        )
        skipped = get_directive_values(skip, node, self.variables)
        included = get_directive_values(include, node, self.variables)
        return not (skipped or {}).get("if", False) and (included or {}).get("if", True)

    def fits(self, node: Any, type_: GraphQLObjectType) -> bool:
        """Whether a fragment is about objects of the type."""
        if node.type_condition is None:
            return True
        wanted = self.schema.type_map[node.type_condition.name.value]
        return wanted is type_ or (
            is_abstract_type(wanted) and type_ in self.schema.get_possible_types(wanted)
        )

    def field(
        self, node: FieldNode, type_: GraphQLObjectType, data: Any, around: Sequence[Arguments]
    ) -> Fraction:
        """A field with all that lies in it."""
        key = (node.alias or node.name).value
        definition = self.schema.get_field(type_, node.name.value)
        assert definition is not None
        if data is not None and key not in data:
            return Fraction(0)
        name = f"{type_.name}.{node.name.value}"
        arguments = get_argument_values(definition, node, self.variables)
        total = self.prices.weights.get(name, Fraction(0))
        if name in self.prices.inputs:
            total += self.prices.inputs[name](arguments)
        if is_leaf_type(get_named_type(definition.type)):
            return total
        inside = (arguments, *around)
        named = get_named_type(definition.type)
        if data is None:
            is_list = is_list_type(get_nullable_type(definition.type))
            count = self.prices.sizes[name](arguments, around) if is_list else 1
            return total + count * self.object(node, named, None, inside)
        value = data[key]
        objects = value if isinstance(value, list) else [value]
        return total + sum(
            self.object(node, named, one, inside) for one in objects if one is not None
        )

    def object(
        self, node: FieldNode, named: Any, data: Any, around: Sequence[Arguments]
    ) -> Fraction:
        """An object with its fields, of the dearest type that it may have."""
        types = self.schema.get_possible_types(named) if is_abstract_type(named) else [named]
        return 1 + max(self.selection(node, each, data, around) for each in types)


def _first(most: int, name: str = "first", depth: int = 0) -> Size:
    def size(own: Arguments, around: Sequence[Arguments]) -> int:
        arguments = [own, *around][depth]
        asked: int = arguments.get(name, most)
        return max(0, min(asked, most))

    return size


SMALL_PRICES = PriceList(
    weights={
        "Query.shelf": Fraction(3),
        "Query.put": Fraction(2),
        "Book.price": Fraction(1, 4),
        "Owner.shelf": Fraction(3, 2),
    },
    sizes={
        "Shelf.things": _first(6, depth=1),
        "Shelf.books": _first(6, depth=1),
        "Book.pages": _first(5),
        "Page.words": _first(4, depth=1),
        "Disc.tracks": _first(3),
        "Query.anything": _first(2, "of"),
        "Series.rows": _first(8, "height", 1),
        "Row.cells": _first(7, "width", 2),
    },
    inputs={"Query.put": lambda arguments: Fraction(1, 2) * len(arguments["into"]["items"])},
)


def _periods(most: int, depth: int = 1) -> Size:
    def size(own: Arguments, around: Sequence[Arguments]) -> int:
        arguments = [own, *around][depth]
        days = arguments["range"]
        count = periods_in(days["from"], days["to"], arguments.get("interval"))
        assert count is not None
        return min(count, most)

    return size


def _cohort(own: Arguments, around: Sequence[Arguments]) -> int:
    return int(around[1]["periods"]) + 1


_REPORTS = ("dau", "activeUsers", "topEvents", "eventCounts", "retention", "events", "userEvents")
_OF_SOURCES = ("audits", "record", "records", "sources", "sourceSummary")
# What many destinations or runs ask of the ledger together.
_OF_EXPORTS = {
    "ExportDestination": ("lagEvents", "lastRun"),
    "ExportRun": ("days", "destination", "files"),
}
OUR_PRICES = PriceList(
    weights={
        **{f"{kind}.{one}": Fraction(5) for kind, some in _OF_EXPORTS.items() for one in some},
        "ExportDestination.filter": Fraction(20),
        "Query.exportDestinations": Fraction(100),
        "Query.exportRuns": Fraction(100),
        "Query.exportSetup": Fraction(10),
        "AdminLog.details": Fraction(20),
        "Record.data": Fraction(20),
        "RecordChange.data": Fraction(20),
        **{f"Query.{name}": Fraction(100) for name in _OF_SOURCES},
        "DeadLetter.preview": Fraction(20),
        "Query.adminLog": Fraction(100),
        "Query.deadLetters": Fraction(100),
        "Query.apiKeys": Fraction(10),
        "Event.url": Fraction(5),
        "Event.referrer": Fraction(5),
        "Event.properties": Fraction(20),
        **{f"Query.{name}": Fraction(100) for name in (*_REPORTS, "receipts", "system")},
        "Query.site": Fraction(10),
        "Query.sites": Fraction(10),
    },
    sizes={
        "ActiveUsersReport.points": _periods(1_100),
        "EventCountsReport.points": _periods(27_500),
        "TopEventsReport.events": _first(1_000, "limit", 1),
        "RetentionReport.cohorts": _periods(1_100),
        "RetentionCohort.periods": _cohort,
        "DeadLetterConnection.edges": _first(100, depth=1),
        "DeadLetterConnection.nodes": _first(100, depth=1),
        "Query.apiKeys": lambda *_: 1_000,
        "AdminLogConnection.edges": _first(1_000, depth=1),
        "AdminLogConnection.nodes": _first(1_000, depth=1),
        "EventConnection.edges": _first(1_000, depth=1),
        "EventConnection.nodes": _first(1_000, depth=1),
        "Query.receipts": lambda arguments, _: len(arguments["eventIds"]),
        "Query.sites": lambda *_: 1_000,
        **dict.fromkeys(("AuditConnection.edges", "AuditConnection.nodes"), _first(1_000, depth=1)),
        **dict.fromkeys(
            ("RecordConnection.edges", "RecordConnection.nodes"), _first(1_000, depth=1)
        ),
        "Record.history": _first(100),
        "ExportRun.days": _first(1_000),
        "ExportRun.files": _first(10_000),
        "ExportRun.targets": lambda *_: 2,
        **dict.fromkeys(
            ("ExportRunConnection.edges", "ExportRunConnection.nodes"), _first(1_000, depth=1)
        ),
        "Query.exportDestinations": lambda *_: 1_000,
        "Query.sources": lambda *_: 1_000,
        "Source.headers": lambda *_: 20,
        "SourceSummary.sources": lambda *_: 1_000,
        "System.sources": lambda *_: 1_000,
        "System.parts": lambda *_: 20,
        "System.reconciliation": lambda *_: 100,
    },
)
OUR_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "range": (
        "$days",
        '{from: "2025-01-31", to: "2025-03-02"}',
        "{from: $first, to: $last}",
        '{from: "2025-02-01", to: $last}',
    ),
    "interval": ("$interval", "HOUR", "DAY", "WEEK", "MONTH", ""),
    "periods": ("$n", "", "3"),
    "first": ("$n", "", "0", "20000"),
    "limit": ("$n", "", "7"),
    "eventIds": ("$ids", '["a", "b", "c"]', '"a"', "[]"),
    "userId": ('"u"',),
    "siteId": ("", '"shop"'),
    "id": ('"1"',),
}

Info: TypeAlias = strawberry.Info[Random, None]


def _some(info: Info, most: int, make: Callable[[], Any]) -> list[Any]:
    return [make() for _ in range(info.context.randint(0, max(0, most)))]


@strawberry.type
class Word:
    text: str = "word"


@strawberry.type
class Page:
    number: int = 1

    @field("-", directives=[ListSize(assumed_size=4, slicing_arguments=["first"])])
    @staticmethod
    def words(info: Info) -> list[Word]:
        return _some(info, 0, Word)


@strawberry.interface
class Thing:
    title: str = "title"

    @field("-")
    @staticmethod
    def owner() -> "Owner":
        return Owner()


@strawberry.type
class Book(Thing):
    price: int = strawberry.field(default=1, directives=[Cost(weight="0.25")])

    @field("-", directives=[ListSize(assumed_size=5, slicing_arguments=["first"])])
    @staticmethod
    def pages(info: Info, first: int = 3) -> list[Page]:
        return _some(info, min(first, 5), Page)


@strawberry.type
class Disc(Thing):
    @field("-", directives=[ListSize(assumed_size=3)])
    @staticmethod
    def tracks(info: Info) -> list[Word | None]:
        return _some(info, 3, lambda: info.context.choice([Word(), None]))


def _thing(info: Info) -> Thing:
    return Book() if info.context.random() < 0.5 else Disc()


@strawberry.type
class Shelf:
    most: strawberry.Private[int]
    name: str = "shelf"

    @field("-")
    def things(self, info: Info) -> list[Thing]:
        return _some(info, min(self.most, 6), lambda: _thing(info))

    @field("-")
    def books(self, info: Info) -> list[Book]:
        return _some(info, min(self.most, 6), Book)


_SHELF = ListSize(assumed_size=6, slicing_arguments=["first"], sized_fields=["things", "books"])


@strawberry.type
class Owner:
    name: str = "owner"

    @field("-")
    @staticmethod
    def favourite(info: Info) -> Thing | None:
        return info.context.choice([None, _thing(info)])

    @field("-", directives=[Cost(weight="1.5"), _SHELF])
    @staticmethod
    def shelf(first: int = 2) -> Shelf:
        return Shelf(most=first)


@strawberry.type
class Cell:
    value: int = 1


@strawberry.type
class Row:
    most: strawberry.Private[int]
    label: str = "row"

    @field("-", directives=[ListSize(assumed_size=7, slicing_arguments=["width"])])
    def cells(self, info: Info) -> list[Cell]:
        return _some(info, min(self.most, 7), Cell)


@strawberry.type
class Series:
    height: strawberry.Private[int]
    width: strawberry.Private[int]

    @field("-")
    def rows(self, info: Info) -> list[Row]:
        return _some(info, min(self.height, 8), lambda: Row(most=self.width))


@strawberry.input
class PutInput:
    items: list[int] = strawberry.field(directives=[Cost(weight="0.5")])


@strawberry.type
class Query:
    @field("-", directives=[Cost(weight="3"), _SHELF])
    @staticmethod
    def shelf(first: int = 2) -> Shelf:
        return Shelf(most=first)

    @field("-")
    @staticmethod
    def thing(info: Info) -> Thing:
        return _thing(info)

    @field("-", directives=[ListSize(assumed_size=2, slicing_arguments=["of"])])
    @staticmethod
    def anything(
        info: Info, of: int | None = strawberry.UNSET
    ) -> list[Annotated[Book | Disc, strawberry.union("Anything")]]:
        return _some(info, 2 if not isinstance(of, int) else min(of, 2), lambda: _thing(info))

    @field(
        "-",
        directives=[ListSize(assumed_size=8, slicing_arguments=["height"], sized_fields=["rows"])],
    )
    @staticmethod
    def series(height: int = 4, width: int = 3) -> Series:
        return Series(height=height, width=width)

    @field("-", directives=[Cost(weight="2")])
    @staticmethod
    def put(into: PutInput) -> int:
        return len(into.items)


def small_schema() -> GraphQLSchema:
    """A schema with everything in it that a cost can depend on."""
    return strawberry.Schema(Query)._schema


SMALL_ARGUMENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("first", "of", "height", "width"), ("", "", "0", "2", "9", "$n")),
    "into": ("{items: [1, 2, 3]}", "{items: 1}", "{items: []}", "{items: [$n, 1]}", "$input"),
}


@dataclass
class Writer:
    """Writes valid queries of a schema, with arguments chosen from those given by their names."""

    schema: GraphQLSchema
    arguments: Mapping[str, Sequence[str]]
    random: Random
    fragments: list[tuple[str, str]] = attribute(default_factory=list)

    def query(self, variables: str, levels: int) -> str:
        """A query with the variables, and with fragments that it may or may not spread."""
        types = [
            name
            for name, named in self.schema.type_map.items()
            if is_composite_type(named) and name[:2] != "__" and name != "Mutation"
        ]
        parts = []
        for number in range(self.random.randint(0, 3)):
            on = self.random.choice(types)
            # Each knows only those before it, so that there are no circles.
            parts.append(f"fragment f{number} on {on} {{ {self._many(on, levels - 1)} }}")
            self.fragments.append((f"f{number}", on))
        return f"query {variables} {{ {self._many('Query', levels)} }} {' '.join(parts)}"

    def _many(self, type_: str, levels: int) -> str:
        number = self.random.choice([1, 1, 2, 3]) if levels >= 0 else 0
        return " ".join(["__typename", *(self._one(type_, levels) for _ in range(number))])

    def _one(self, type_: str, levels: int) -> str:
        fitting = [name for name, on in self.fragments if on in self._types_in(type_)]
        if fitting and self.random.random() < 0.25:
            return f"...{self.random.choice(fitting)}{self._directive()}"
        fields = getattr(self.schema.type_map[type_], "fields", {})
        if not fields or self.random.random() < 0.2:
            on = self.random.choice(self._types_in(type_))
            return f"... on {on}{self._directive()} {{ {self._many(on, levels - 1)} }}"
        name = self.random.choice(list(fields))
        arguments = self._arguments(fields[name].args)
        # One name for one field with the same arguments, so that all of its name can be merged.
        alias = "".join(each if each.isalnum() else "_" for each in f"{name}{arguments}")
        inner = get_named_type(fields[name].type)
        inside = f" {{ {self._many(inner.name, levels - 1)} }}" if is_composite_type(inner) else ""
        return f"{alias}: {name}{arguments}{self._directive()}{inside}"

    def _types_in(self, type_: str) -> list[str]:
        named = self.schema.type_map[type_]
        possible = self.schema.get_possible_types(named) if is_abstract_type(named) else []
        return [type_, *(each.name for each in possible)]

    def _arguments(self, names: Iterable[str]) -> str:
        chosen = ((name, self.random.choice(self.arguments.get(name, ("",)))) for name in names)
        given = [f"{name}: {value}" for name, value in chosen if value]
        return f"({', '.join(given)})" if given else ""

    def _directive(self) -> str:
        if self.random.random() < 0.8:
            return ""
        value = self.random.choice(["$yes", "$no", "true", "false"])
        return f" @{self.random.choice(['skip', 'include'])}(if: {value})"
