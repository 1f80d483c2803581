"""How large documents are found to be, and what is too large."""

from collections.abc import Iterator
from dataclasses import fields
from random import Random
from typing import Any

import pytest
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    get_introspection_query,
    parse,
)
from hypothesis import given
from hypothesis import strategies as st

from resolvers.errors import Code
from schema.build import graphql_schema
from schema.limits import MAX_ERRORS, MOST, Limits, Shape, measure, parse_document, problems
from schema.validation import validate_document

LIMITS = Limits()


def shapes_of(text: str) -> dict[str | None, Shape]:
    """Shapes of the operations of a document whose fragments are in order."""
    shapes = measure(parse(text))
    assert not isinstance(shapes, list), shapes
    return dict(shapes)


def shape_of(text: str) -> Shape:
    """The shape of a document's only operation."""
    (shape,) = shapes_of(text).values()
    return shape


def messages_of(text: str) -> list[str]:
    """What is wrong with a document's fragments."""
    errors = measure(parse(text))
    assert isinstance(errors, list), errors
    assert {(error.extensions or {})["code"] for error in errors} == {
        Code.GRAPHQL_VALIDATION_FAILED.value
    }
    assert all(error.locations for error in errors)
    return [error.message for error in errors]


def selection_set(random: Random, names: list[str], levels: int) -> str:
    """The inside of a selection set; it may spread the fragments of these names."""
    selections = []
    for _ in range(random.randint(1, 4)):
        directives = random.choice(["", "", "", " @a", " @a @b(c: 1)"])
        if names and random.random() < 0.3:
            selections.append(f"...{random.choice(names)}{directives}")
            continue
        alias = random.choice(["", "", "x: ", "y: "])
        name = random.choice(["a", "b", "__typename", "__schema", "__type"])
        lead = alias + name
        if levels and random.random() < 0.5:
            lead = random.choice([lead, lead, "...", "... on A"])
            inside = selection_set(random, names, levels - 1)
            directives += f" {{ {random.choice([inside, inside, ''])} }}"
        selections.append(f"{lead}{directives}")
    return " ".join(selections)


def document_of(seed: int) -> str:
    """A document whose operations use all its fragments, each of which uses later ones only."""
    random = Random(seed)
    names = [f"f{number}" for number in range(random.randint(0, 4))]
    parts = [
        f"fragment {name} on A{random.choice(['', ' @d'])}"
        f" {{ {selection_set(random, names[number + 1 :], 3)} }}"
        for number, name in enumerate(names)
    ]
    uses = " ".join(["a", *(f"...{name}" for name in names)])
    for number in range(random.randint(1, 3)):
        variables = random.choice(["", "($v: A @e, $w: B = 1 @e @f)"])
        body = f"{selection_set(random, names, 3)} z {{ {uses} }}"
        parts.append(f"query q{number} {variables} @g {{ {body} }}")
    random.shuffle(parts)
    return " ".join(parts)


class Oracle:
    """Walks every path of an operation, through each fragment as often as it is spread."""

    def __init__(self, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        nodes = document.definitions
        self.fragments = {
            node.name.value: node for node in nodes if isinstance(node, FragmentDefinitionNode)
        }
        self.counts: dict[str, Any] = {each.name: 0 for each in fields(Shape)}
        self.counts["uses_introspection"] = False
        self.counts["operations"] = sum(isinstance(node, OperationDefinitionNode) for node in nodes)
        self.directives(operation)
        for variable in operation.variable_definitions or ():
            self.directives(variable)
        self.walk(operation, 0, None, set())

    def directives(self, node: Any) -> None:
        """Count those of one place."""
        found = len(node.directives or ())
        self.counts["directives"] += found
        self.top("directives_in_one_place", found)

    def top(self, name: str, value: int) -> None:
        """Keep the largest value."""
        self.counts[name] = max(self.counts[name], value)

    def walk(self, node: Any, depth: int, below_schema: int | None, seen: set[str]) -> None:
        """Count what lies in a node; `below_schema` is the depth from there."""
        for one in node.selection_set.selections:
            self.directives(one)
            if isinstance(one, InlineFragmentNode):
                self.walk(one, depth, below_schema, seen)
                continue
            key = self.key(one)
            self.counts["repeated_fields"] += key in seen
            seen.add(key)
            if isinstance(one, FragmentSpreadNode):
                fragment = self.fragments[one.name.value]
                self.directives(fragment)
                self.walk(fragment, depth, below_schema, set())
            else:
                self.field(one, depth, below_schema)

    def key(self, node: FieldNode | FragmentSpreadNode) -> str:
        """By what a repetition is known."""
        if isinstance(node, FragmentSpreadNode):
            return f"...{node.name.value}"
        return (node.alias or node.name).value

    def field(self, node: FieldNode, depth: int, below_schema: int | None) -> None:
        """Count a field and what lies in it."""
        self.counts["fields"] += 1
        self.counts["aliases"] += node.alias is not None
        self.counts["root_fields"] += depth == 0 and below_schema is None
        inside = None if below_schema is None else below_schema + 1
        if inside is None:
            self.top("depth", depth + 1)
        else:
            self.top("introspection_depth", inside)
        if node.name.value in ("__schema", "__type"):
            self.counts["uses_introspection"] = True
            inside = 0
        if node.selection_set:
            self.walk(node, depth + 1, inside, set())


def operations_of(document: DocumentNode) -> Iterator[OperationDefinitionNode]:
    """The operations of a document."""
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            yield node


@given(st.integers(0, 2**64).map(document_of))
def test_a_shape_is_what_walking_every_path_finds(text: str) -> None:
    document = parse(text)
    shapes = shapes_of(text)

    for operation in operations_of(document):
        assert operation.name
        expected = Shape(**Oracle(document, operation).counts)
        assert shapes[operation.name.value] == expected


def test_each_operation_is_measured_by_its_name() -> None:
    shapes = shapes_of("query One { a } query Two { a { b } }")

    assert {name: shape.depth for name, shape in shapes.items()} == {"One": 1, "Two": 2}
    assert list(shapes_of("{ a }")) == [None]


def test_operations_of_the_same_name_are_as_large_as_the_larger() -> None:
    shape = shapes_of("query A { a { b } } query A { a b x: c }")["A"]

    assert (shape.depth, shape.fields, shape.aliases, shape.operations) == (2, 3, 1, 2)


def test_a_fragment_below_the_schema_counts_there() -> None:
    shape = shape_of("{ a { __schema { ...f } } } fragment f on A { a { b { c } } }")

    assert (shape.depth, shape.introspection_depth) == (2, 3)
    assert shape.uses_introspection


def test_what_a_type_is_called_is_no_introspection() -> None:
    assert not shape_of("{ __typename a { __typename } }").uses_introspection


def test_numbers_stop_growing_where_an_int_ends() -> None:
    levels = 100
    text = (
        "{ ...f0 } "
        + " ".join(f"fragment f{n} on A {{ ...f{n + 1} ...f{n + 1} }}" for n in range(levels))
        + f" fragment f{levels} on A {{ a @b }}"
    )

    shape = shape_of(text)

    assert (shape.fields, shape.root_fields, shape.directives) == (MOST, MOST, MOST)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("{ ...A }", ["Unknown fragment 'A'."]),
        ("{ ...A ...A x { ...B } }", ["Unknown fragment 'A'.", "Unknown fragment 'B'."]),
        ("{ a } fragment A on T { a }", ["Fragment 'A' is never used."]),
        ("fragment A on T { a }", ["Fragment 'A' is never used."]),
        ("{ ...A } fragment A on T { x { ...A } }", ["Cannot spread fragment 'A' within itself."]),
        (
            "{ ...A } fragment A on T { ...B } fragment B on T { ...C } fragment C on T { ...B }",
            ["Cannot spread fragment 'B' within itself."],
        ),
        (
            "{ a } fragment A on T { ...B } fragment B on T { ...A }",
            ["Fragment 'A' is never used.", "Fragment 'B' is never used."],
        ),
        (
            "{ ...A } fragment A on T { a } fragment A on T { b }",
            ["There can be only one fragment named 'A'."],
        ),
    ],
)
def test_fragments_that_cannot_be_measured_are_mistakes(text: str, messages: list[str]) -> None:
    assert messages_of(text) == messages


def test_a_document_with_many_mistakes_is_told_a_few() -> None:
    spreads = " ".join(f"...f{number}" for number in range(100))

    assert len(messages_of(f"{{ {spreads} }}")) == MAX_ERRORS


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("depth", "depth"),
        ("introspection_depth", "introspectionDepth"),
        ("fields", "fields"),
        ("aliases", "aliases"),
        ("repeated_fields", "repeatedFields"),
        ("directives", "directives"),
        ("directives_in_one_place", "directivesInOnePlace"),
        ("root_fields", "rootFields"),
        ("operations", "operations"),
    ],
)
def test_a_limit_holds_from_one_above_it(name: str, told: str) -> None:
    maximum = getattr(LIMITS, name)

    assert problems(Shape(**{name: maximum}), LIMITS) == []
    (error,) = problems(Shape(**{name: maximum + 1}), LIMITS)
    assert error.extensions == {
        "code": "QUERY_TOO_EXPENSIVE",
        "limit": told,
        "maximum": maximum,
        "found": maximum + 1,
    }
    assert f"{maximum:,} is the most" in error.message


def test_every_limit_that_is_broken_is_told() -> None:
    errors = problems(Shape(depth=16, aliases=101), LIMITS)

    assert [error.message for error in errors] == [
        "the operation nests fields 16 deep; 15 is the most",
        "the operation has 101 aliases; 100 is the most",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{ a",
        "query",
        "\ud800",
        "{ a(b: " + "9" * 5_000,
        "{ a }" + " " * LIMITS.characters,
        "{ a }" + "\n" * LIMITS.lines,
        "{ a }" + "\r" * LIMITS.lines,
        "{ a }" + "\n#" * (LIMITS.comments + 1),
        "{ " + "a " * (LIMITS.tokens) + "}",
        "{a" * 500 + "}" * 500,
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_a_code(text: str) -> None:
    with pytest.raises(GraphQLError) as refused:
        parse_document(text, LIMITS)

    assert (refused.value.extensions or {})["code"] == "GRAPHQL_PARSE_FAILED"


def test_a_text_at_the_limits_is_read() -> None:
    # The braces and the end of the text are tokens, too.
    names = LIMITS.tokens - 3
    text = "{ " + "a " * names + "}" + "\n#" * LIMITS.comments
    text += " " * (LIMITS.characters - len(text))

    assert isinstance(parse_document(text, LIMITS), Node)


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_a_text_of_as_many_lines_as_may_be_is_read(line_end: str) -> None:
    assert isinstance(parse_document("{ a }" + line_end * (LIMITS.lines - 1), LIMITS), Node)


def test_the_questions_of_tools_about_the_schema_pass() -> None:
    text = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
    )

    shape = shape_of(text)

    assert shape.uses_introspection
    assert problems(shape, LIMITS) == []
    document = parse_document(text, LIMITS)
    assert validate_document(graphql_schema(), document, hide_suggestions=True) == []


BOARD = """
query Board($site: ID, $range: DateRange!, $more: Boolean!) {
  %s
  funnel: topEvents(siteId: $site, range: $range, limit: 20) { ...Top }
  retention(siteId: $site, range: $range) {
    cohorts { start size periods { period users rate complete } } ...Basis
  }
  latest: events(siteId: $site, range: $range, first: 100) @include(if: $more) {
    edges { cursor node { eventId eventType occurredAt path properties } }
    pageInfo { hasNextPage endCursor }
  }
}
fragment Users on ActiveUsersReport { points { date users complete } total ...Basis }
fragment Counts on EventCountsReport { points { at count complete } total ...Basis }
fragment Top on TopEventsReport { events { eventType count users } total ...Basis }
fragment Basis on Report { meta { dataThrough computedAt cache timezone } }
"""


def test_a_board_of_thirty_reports_passes_with_room_to_spare() -> None:
    reports = "\n".join(
        f"users{number}: dau(siteId: $site, range: $range,"
        f' filter: {{ path: {{ startsWith: "/{number}" }} }}) {{ ...Users }}'
        f"counts{number}: eventCounts(siteId: $site, range: $range, interval: HOUR) {{ ...Counts }}"
        for number in range(14)
    )
    document = parse_document(BOARD % reports, LIMITS)
    shapes = measure(document)

    assert not isinstance(shapes, list)
    assert problems(shapes["Board"], LIMITS) == []
    assert shapes["Board"].fields < LIMITS.fields / 3
    assert validate_document(graphql_schema(), document, hide_suggestions=True) == []


@pytest.mark.parametrize("number", [2, 15])
def test_fragments_that_ask_for_the_same_fields_are_merged(number: int) -> None:
    fields_of_site = "id name timezone weekStart origins createdAt a: id b: name c: origins d: id"
    spreads = " ".join(f"...f{each}" for each in range(number))
    fragments = " ".join(
        f"fragment f{each} on Site {{ {fields_of_site} }}" for each in range(number)
    )
    document = parse_document(f"{{ sites {{ {spreads} }} }} {fragments}", LIMITS)

    assert validate_document(graphql_schema(), document, hide_suggestions=True) == []


def test_a_page_of_48_components_with_a_fragment_each_passes() -> None:
    spreads = " ".join(f"...f{each}" for each in range(48))
    fragments = " ".join(
        f'fragment f{each} on Query {{ s{each}: site(id: "shop") {{ id name timezone }} }}'
        for each in range(48)
    )
    document = parse_document(f"{{ {spreads} }} {fragments}", LIMITS)
    shapes = measure(document)

    assert not isinstance(shapes, list)
    assert problems(shapes[None], LIMITS) == []
    assert validate_document(graphql_schema(), document, hide_suggestions=True) == []


def test_mistakes_are_told_with_a_code_and_few_at_once() -> None:
    document = parse(" ".join(["{", *(f"unknown{number}" for number in range(40)), "}"]))

    errors = validate_document(graphql_schema(), document, hide_suggestions=True)

    assert len(errors) <= 11
    assert {(error.extensions or {})["code"] for error in errors} == {"GRAPHQL_VALIDATION_FAILED"}


@pytest.mark.parametrize(("hide", "found"), [(True, False), (False, True)])
def test_suggestions_are_told_only_where_they_may_be(hide: bool, found: bool) -> None:
    document = parse("{ site { nam } }")

    (error,) = validate_document(graphql_schema(), document, hide_suggestions=hide)

    assert ("Did you mean" in error.message) is found
