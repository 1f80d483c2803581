"""How large a document may be, found out before anybody asks what it means.

A few hundred characters can stand for millions of fields, as fragments may spread fragments. So
each fragment is measured once and its numbers are used wherever it is spread: measuring takes as
long as reading, whatever the document stands for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    parse,
)

from resolvers.errors import Code
from schema.presenting import coded, with_code

# Numbers stop growing here, so that a chain of fragments that each spread the next one twice is
# added up in no time; it still is an Int for clients.
MOST = 2**31 - 1
# Mistakes in the use of fragments that are told at once.
MAX_ERRORS = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document, and each operation in it, may have at most.

    Wide enough for a board of thirty reports, and for the questions that GraphiQL and code
    generators ask about the schema; narrow enough that reading, measuring and validating together
    take a few hundredths of a second at worst.
    """

    # Rarely more than 20,000, and most of that are descriptions in comments and literal filters.
    characters: int = 100_000
    # Whoever tells where a mistake is counts lines from the start, so each mistake costs as much as
    # there are lines. Twenty characters are a short line.
    lines: int = 5_000
    # Reading and validating cost some 12 microseconds a token, so this bounds the time of both. A
    # report takes about 60, the introspection query 200; long lists belong into variables.
    tokens: int = 1_500
    # Comments cost as much as tokens do; examples of ours have a handful.
    comments: int = 1_000
    # The deepest path through our types has 5 fields; whoever asks for more goes in circles.
    depth: int = 15
    # Below `__schema` and `__type`, where code generators unwrap nine levels of lists and non-null.
    introspection_depth: int = 30
    # After expansion of fragments. A board of 30 reports with all their fields has some 400.
    fields: int = 2_000
    # Several reports of one kind need an alias each, and their inner fields may have some, too.
    aliases: int = 100
    # A field written twice in one place, by hand or by a generator, is merged: rarely of use, and
    # comparing those that are to be merged takes the square of their number.
    repeated_fields: int = 100
    # On fields and fragments after expansion, mostly `@include` of what a page shows on demand.
    directives: int = 50
    # There are but a few directives, and none of them twice in one place.
    directives_in_one_place: int = 5
    # Each may ask a store; what they cost together is limited as well.
    root_fields: int = 50
    # Files with examples have a dozen; fragments that they share are validated for each of them.
    operations: int = 50


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of an operation with its fragments expanded, in the terms of `Limits`."""

    depth: int = 0
    introspection_depth: int = 0
    fields: int = 0
    aliases: int = 0
    repeated_fields: int = 0
    directives: int = 0
    directives_in_one_place: int = 0
    root_fields: int = 0
    # Of the whole document.
    operations: int = 0
    uses_introspection: bool = False


# What is too much of something, by the name of the limit for clients.
_TOO_MUCH = {
    "depth": "nests fields {found:,} deep",
    "introspection_depth": "nests fields of the schema {found:,} deep",
    "fields": "asks for {found:,} fields",
    "aliases": "has {found:,} aliases",
    "repeated_fields": "repeats fields in the same place {found:,} times",
    "directives": "has {found:,} directives",
    "directives_in_one_place": "has {found:,} directives in one place",
    "root_fields": "has {found:,} fields at its root",
    "operations": "is one of {found:,} in the document",
}


def parse_document(text: str, limits: Limits) -> DocumentNode:
    """The document of a text; raises `GraphQLError` with the code GRAPHQL_PARSE_FAILED."""
    if len(text) > limits.characters:
        raise coded(
            Code.GRAPHQL_PARSE_FAILED,
            f"the document has {len(text):,} characters; {limits.characters:,} are the most",
        )
    lines = text.count("\n") + text.count("\r") - text.count("\r\n") + 1
    if lines > limits.lines:
        raise coded(
            Code.GRAPHQL_PARSE_FAILED,
            f"the document has {lines:,} lines; {limits.lines:,} are the most",
        )
    try:
        return parse(text, max_lexical_tokens=limits.tokens, max_comments=limits.comments)
    except GraphQLError as error:
        # Without the parser's frames, which hold the whole text and all that was read of it.
        raise with_code(error, Code.GRAPHQL_PARSE_FAILED).with_traceback(None) from None


def problems(shape: Shape, limits: Limits) -> list[GraphQLError]:
    """What an operation has too much of, one error for each limit that it breaks."""
    return [
        coded(
            Code.QUERY_TOO_EXPENSIVE,
            f"the operation {text.format(found=found)}; {maximum:,} is the most",
            limit=_camel_case(name),
            maximum=maximum,
            found=found,
        )
        for name, text in _TOO_MUCH.items()
        if (found := getattr(shape, name)) > (maximum := getattr(limits, name))
    ]


def measure(document: DocumentNode) -> Mapping[str | None, Shape] | list[GraphQLError]:
    """The shape of each operation by its name, or what is wrong with the document's fragments.

    Every fragment must be used, known and free of circles, so that no part of the document goes
    unmeasured. Operations of the same name, which validation refuses, have one shape that is as
    large as the larger one in everything.
    """
    fragments: dict[str, FragmentDefinitionNode] = {}
    operations: list[OperationDefinitionNode] = []
    totals = _Totals(fragments)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            operations.append(node)
        elif isinstance(node, FragmentDefinitionNode):
            name = node.name.value
            if name in fragments:
                totals.add_error(f"There can be only one fragment named '{name}'.", node)
            fragments[name] = node
    shapes: dict[str | None, Shape] = {}
    for operation in operations:
        name_or_none = operation.name.value if operation.name else None
        shape = replace(totals.of_operation(operation), operations=len(operations))
        shapes[name_or_none] = _larger(shape, shapes.get(name_or_none, shape))
    for name, fragment in fragments.items():
        if name not in totals.used:
            totals.add_error(f"Fragment '{name}' is never used.", fragment)
    return totals.errors or shapes


@dataclass(frozen=True, slots=True)
class _Spread:
    """A fragment spread, and how many fields lie above it; below `__schema`, from there."""

    node: FragmentSpreadNode
    depth: int
    is_introspection: bool

    @property
    def name(self) -> str:
        return self.node.name.value


@dataclass(slots=True)
class _Outline:
    """What an operation or a fragment has itself, and the spreads in it."""

    counts: dict[str, int]
    spreads: list[_Spread]
    uses_introspection: bool = False


@dataclass(slots=True)
class _Totals:
    """Shapes of fragments with everything that they spread, each worked out once."""

    fragments: Mapping[str, FragmentDefinitionNode]
    used: set[str] = field(default_factory=set)
    errors: list[GraphQLError] = field(default_factory=list)
    _shapes: dict[str, Shape] = field(default_factory=dict)

    def of_operation(self, operation: OperationDefinitionNode) -> Shape:
        """The shape of an operation; mistakes are added to `errors`."""
        outline = _outline_of(operation)
        for node in operation.variable_definitions or ():
            _count_directives(outline.counts, node.directives)
        self._work_out(outline)
        return self._total(outline)

    def add_error(self, message: str, node: FragmentDefinitionNode | FragmentSpreadNode) -> None:
        """One more mistake in the document, if it still is to be told."""
        # An error looks up its line in the text, which takes as long as reading it.
        if len(self.errors) < MAX_ERRORS:
            code = {"code": Code.GRAPHQL_VALIDATION_FAILED.value}
            self.errors.append(GraphQLError(message, node, extensions=code))

    def _work_out(self, outline: _Outline) -> None:
        """The shapes of all fragments below, the innermost first.

        Without recursion: a chain may be as long as the document.
        """
        path: list[tuple[str | None, _Outline, Iterator[_Spread]]] = []
        path.append((None, outline, iter(outline.spreads)))
        on_path: dict[str, None] = {}
        while path:
            name, outline, spreads = path[-1]
            spread = next(spreads, None)
            if spread is None:
                path.pop()
                if name is not None:
                    del on_path[name]
                    self._shapes[name] = self._total(outline)
            elif spread.name in on_path:
                self.add_error(
                    f"Cannot spread fragment '{spread.name}' within itself.", spread.node
                )
            elif spread.name not in self.used:
                self.used.add(spread.name)
                fragment = self.fragments.get(spread.name)
                if fragment is None:
                    self.add_error(f"Unknown fragment '{spread.name}'.", spread.node)
                    continue
                on_path[spread.name] = None
                inner = _outline_of(fragment)
                path.append((spread.name, inner, iter(inner.spreads)))

    def _total(self, outline: _Outline) -> Shape:
        counts = dict(outline.counts)
        uses_introspection = outline.uses_introspection
        for spread in outline.spreads:
            # Unknown fragments and circles have none; they are errors already.
            inner = self._shapes.get(spread.name)
            if inner is None:
                continue
            uses_introspection = uses_introspection or inner.uses_introspection
            for name in ("fields", "aliases", "repeated_fields", "directives"):
                counts[name] = min(counts[name] + getattr(inner, name), MOST)
            _raise(counts, "directives_in_one_place", inner.directives_in_one_place)
            _raise(counts, "introspection_depth", inner.introspection_depth)
            # Fields of a fragment of the schema's own types count as what they are there.
            kind = "introspection_depth" if spread.is_introspection else "depth"
            _raise(counts, kind, min(spread.depth + inner.depth, MOST) if inner.depth else 0)
            if spread.depth == 0 and not spread.is_introspection:
                counts["root_fields"] = min(counts["root_fields"] + inner.root_fields, MOST)
        return Shape(**counts, uses_introspection=uses_introspection)


@dataclass(slots=True)
class _Place:
    """Selections that are merged with one another, and how many fields lie above them."""

    selections: Sequence[SelectionNode]
    depth: int
    is_introspection: bool
    seen: set[str] = field(default_factory=set)


def _outline_of(node: OperationDefinitionNode | FragmentDefinitionNode) -> _Outline:
    counts = dict.fromkeys(_TOO_MUCH, 0)
    outline = _Outline(counts, [])
    _count_directives(counts, node.directives)
    places = [_Place(node.selection_set.selections, 0, is_introspection=False)]
    while places:
        place = places.pop()
        for selection in place.selections:
            _count_directives(counts, selection.directives)
            if isinstance(selection, FieldNode):
                inner = _count_field(outline, place, selection)
                if inner is not None:
                    places.append(inner)
            elif isinstance(selection, InlineFragmentNode):
                inside = selection.selection_set.selections
                places.append(_Place(inside, place.depth, place.is_introspection, place.seen))
            elif isinstance(selection, FragmentSpreadNode):
                _count_repetition(counts, place, f"...{selection.name.value}")
                outline.spreads.append(_Spread(selection, place.depth, place.is_introspection))
    return outline


def _count_field(outline: _Outline, place: _Place, node: FieldNode) -> _Place | None:
    """The place inside of the field, if it has one."""
    counts, name, depth = outline.counts, node.name.value, place.depth + 1
    counts["fields"] += 1
    counts["aliases"] += node.alias is not None
    counts["root_fields"] += depth == 1 and not place.is_introspection
    _raise(counts, "introspection_depth" if place.is_introspection else "depth", depth)
    _count_repetition(counts, place, node.alias.value if node.alias else name)
    enters_schema = name in ("__schema", "__type")
    if enters_schema:
        outline.uses_introspection = True
    if node.selection_set is None:
        return None
    selections = node.selection_set.selections
    if enters_schema:
        return _Place(selections, 0, is_introspection=True)
    return _Place(selections, depth, place.is_introspection)


def _count_repetition(counts: dict[str, int], place: _Place, key: str) -> None:
    counts["repeated_fields"] += key in place.seen
    place.seen.add(key)


def _count_directives(counts: dict[str, int], nodes: Sequence[DirectiveNode] | None) -> None:
    if nodes:
        counts["directives"] += len(nodes)
        _raise(counts, "directives_in_one_place", len(nodes))


def _raise(counts: dict[str, int], name: str, value: int) -> None:
    counts[name] = max(counts[name], value)


def _larger(one: Shape, other: Shape) -> Shape:
    return Shape(
        *(max(getattr(one, each.name), getattr(other, each.name)) for each in fields(Shape))
    )


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
