"""Validation finds what graphql-core's own does, though it walks through documents its own way."""

from pathlib import Path
from random import Random

import pytest
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    Lexer,
    Source,
    TokenKind,
    parse,
    validate,
)
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hostile_documents import GOOD_FRAGMENTS, GOOD_OPERATIONS, HOSTILE
from schema.build import graphql_schema
from schema.limits import Limits, measure, parse_document
from schema.validation import MAX_MISTAKES, RULES, validate_document

SCHEMA = graphql_schema()
EXAMPLES = [
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.graphql"))
]
# What examples seldom have, and rules look at.
ODD = [
    "@skip(if: true)",
    "@include(if: $days)",
    "@unknown",
    "@deprecated @deprecated",
    "... on Site { id }",
    "... { sites { id name: id } }",
    "...Basis",
    "x: id x: name",
    "{ id }",
    '(siteId: "a", siteId: 7, limit: 99999999999)',
    "(filter: { path: { startsWith: 1, startsWith: $days, not: {} } })",
    "($days: Site = 1, $days: [Int!]! = DAY)",
    '__type(name: "Site") { fields { type { fields { type { fields { name } } } } } }',
    "} fragment Basis on Report { meta { source } ...Basis",
    "} query { sites { id }",
    "} mutation A { nothing(input: { events: null })",
    "} subscription A { liveEvents { eventId } liveActivity { users }",
    "} type A { a: Int b: Nothing",
    "} extend type Site { a: Strin",
]


def words_of(text: str) -> list[str]:
    """The tokens of a text, as they stand in it."""
    lexer = Lexer(Source(text))
    words = []
    while (token := lexer.advance()).kind is not TokenKind.EOF:
        words.append(text[token.start : token.end])
    return words


WORDS = [words_of(text) for text in EXAMPLES]
NAMES = sorted({word for words in WORDS for word in words if word.isidentifier()})


def document_of(seed: int) -> DocumentNode | None:
    """One or two examples with some words changed, or None where no document is left."""
    random = Random(seed)
    words = [word for each in random.sample(WORDS, random.randint(1, 2)) for word in each]
    for _ in range(random.randint(0, 5)):
        at = random.randrange(len(words))
        if random.random() < 0.5:
            words.insert(at, random.choice(ODD))
        elif words[at].isidentifier():
            words[at] = random.choice(NAMES)
        elif words[at] not in "{}()[]":
            del words[at]
    try:
        return parse(" ".join(words))
    except GraphQLError:
        return None


def told(errors: list[GraphQLError]) -> list[tuple[str, list[tuple[int, int]]]]:
    """Message and places of each error."""
    return [
        (error.message, [(each.line, each.column) for each in error.locations or ()])
        for error in errors
    ]


def both(schema: GraphQLSchema, document: DocumentNode) -> tuple[object, object]:
    """What we find, and what graphql-core does by the same rules."""
    ours = told(validate_document(schema, document, hide_suggestions=True))
    return ours, told(validate(schema, document, RULES, MAX_MISTAKES, hide_suggestions=True))


@given(st.integers(0, 2**64).map(document_of).filter(bool))
def test_mistakes_are_those_that_the_stock_validator_finds(document: DocumentNode) -> None:
    ours, theirs = both(SCHEMA, document)

    assert ours == theirs


def test_the_documents_of_the_property_are_good_and_bad() -> None:
    documents = [document for seed in range(300) if (document := document_of(seed))]
    counts = {len(validate(SCHEMA, document)) for document in documents}

    assert len(documents) > 100
    assert {0, 1, 2, 3} <= counts


@pytest.mark.parametrize("name", [name for name, (_, told) in HOSTILE.items() if told[1] is None])
def test_hostile_documents_are_as_wrong_as_the_stock_validator_finds(name: str) -> None:
    try:
        document = parse_document(HOSTILE[name][0], Limits())
    except GraphQLError:
        return  # there is nothing to validate
    if isinstance(measure(document), list):
        return
    ours, theirs = both(SCHEMA, document)

    assert ours == theirs != []


@pytest.mark.parametrize("text", [*EXAMPLES, GOOD_OPERATIONS, GOOD_FRAGMENTS])
def test_good_documents_are_good(text: str) -> None:
    assert both(SCHEMA, parse(text)) == ([], [])
