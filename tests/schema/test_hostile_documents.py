"""Documents that are made to keep a server busy: refused with a code, and for next to no work."""

import pytest
from graphql import GraphQLError

from benchmarks.hostile_documents import HOSTILE
from schema.build import graphql_schema
from schema.documents import BadDocument, Documents
from tests.fixtures.work import calls_in

# Calls of functions, in Python or in C, until a document is refused. They are counted, as time
# depends on who else uses the machine; benchmarks/hostile.py measures that. Where this was written
# a millisecond holds 7,000 to 11,000 calls, and 8,500 or more of those documents that have most:
# so 200,000 are some 24 ms, and 47 on a machine half as fast.
MOST_CALLS = 200_000


@pytest.fixture(scope="module")
def documents() -> Documents:
    made = Documents(graphql_schema(), hide_suggestions=True)
    # Types work out their fields when they are first asked for them.
    made.of("{ sites { id } }")
    return made


def refusal_of(documents: Documents, name: str) -> list[GraphQLError]:
    """What is wrong with a document."""
    with pytest.raises(BadDocument) as refused:
        documents.of(HOSTILE[name][0])
    return refused.value.errors


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_refused_by_the_limit_that_it_breaks(
    name: str, documents: Documents
) -> None:
    _, (code, limit) = HOSTILE[name]

    extensions = [error.extensions or {} for error in refusal_of(documents, name)]

    assert 1 <= len(extensions) <= 11
    assert {each["code"] for each in extensions} == {code.value}
    if limit:
        assert limit in {each["limit"] for each in extensions}
        assert all(each["found"] > each["maximum"] for each in extensions)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_refused_for_little_work(name: str, documents: Documents) -> None:
    refusal_of(documents, name)  # what is worked out once is worked out

    assert calls_in(lambda: refusal_of(documents, name)) < MOST_CALLS
