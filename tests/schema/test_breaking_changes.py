"""What a release promised still holds: clients written for it go on working."""

import pytest
from graphql import build_schema

from schema.build import sdl
from schema.changes import NoSchema, breaks
from tests.architecture.rules import ROOT

# The schema of the last release, see docs/decisions/0019-breaking-changes.md.
RELEASED = ROOT / "schema" / "released.graphql"

BEFORE = """
directive @cost(weight: String!) on FIELD_DEFINITION
interface Named { name: String! }
type Query { site(id: ID, first: Int! = 10): Site kind(of: Filter): Kind! }
type Site implements Named { id: ID! name: String! origins: [String!]! size: Int }
input Filter { eq: String ne: String = "x" in: [String!] }
enum Kind { A B }
"""


def test_nothing_that_was_released_has_been_taken_back() -> None:
    assert breaks(RELEASED.read_text(encoding="utf-8"), sdl()) == []


def test_a_schema_breaks_nothing_of_its_own() -> None:
    assert breaks(sdl(), sdl()) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("size: Int", "", "Site.size"),
        ("size: Int", "size: String", "Site.size"),
        ("name: String! origins", "name: String origins", "Site.name"),
        ("[String!]! size", "[String]! size", "Site.origins"),
        ("kind(of: Filter)", "kind", "Query.kind(of:)"),
        ("id: ID,", "", "Query.site(id:)"),
        ("id: ID,", "id: ID!,", "Query.site(id:)"),
        ("id: ID,", "id: ID, at: Int!,", "Query.site(at:)"),
        ("first: Int! = 10", "first: Int!", "Query.site(first:)"),
        ("first: Int! = 10", "first: Int! = 20", "Query.site(first:)"),
        ("eq: String", "eq: String!", "Filter.eq"),
        ("eq: String", "", "Filter.eq"),
        ("eq: String", "eq: String lt: Int!", "Filter.lt"),
        ('= "x"', '= "y"', "Filter.ne"),
        ('= "x"', "", "Filter.ne"),
        ("enum Kind { A B }", "enum Kind { A }", "Kind.B"),
        ("type Site implements Named", "type Site", "Site"),
    ],
)
def test_what_breaks_clients_is_told(old: str, new: str, told: str) -> None:
    assert old in BEFORE

    [sentence] = breaks(BEFORE, BEFORE.replace(old, new, 1))

    assert told in sentence


def test_a_type_that_is_gone_is_told() -> None:
    now = BEFORE.replace("enum Kind { A B }", "").replace("Kind!", "Int!")

    assert {"Kind was removed." in sentence for sentence in breaks(BEFORE, now)} == {True, False}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size: Int", "size: Int! age: Int"),
        ("size: Int", 'size: Int @deprecated(reason: "Use `age`.") age: Int'),
        ("id: ID,", "id: ID, at: Int, to: Int! = 1,"),
        ("first: Int! = 10", "first: Int = 10"),
        ("eq: String", "eq: String lt: Int"),
        ("enum Kind { A B }", "enum Kind { A B C }"),
        ("interface Named", '"Whatever has a name." interface Named'),
        (
            "directive @cost(weight: String!) on FIELD_DEFINITION",
            "scalar Date type More { a: Date }",
        ),
        ("size: Int", 'size: Int @cost(weight: "1")'),
    ],
)
def test_what_is_added_breaks_nobody(old: str, new: str) -> None:
    assert old in BEFORE
    assert breaks(BEFORE, BEFORE.replace(old, new, 1)) == []


@pytest.mark.parametrize("text", ["", "{", "all:\n\tcc", "type Query { a: Nothing }"])
def test_what_is_no_schema_is_told(text: str) -> None:
    with pytest.raises(NoSchema):
        breaks(text, BEFORE)


def test_the_released_schema_can_be_asked() -> None:
    assert build_schema(RELEASED.read_text(encoding="utf-8")).query_type is not None
