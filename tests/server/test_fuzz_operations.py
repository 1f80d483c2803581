"""Operations that a generator finds in the schema: whatever they ask, the answer is one of ours.

With the profile of CI these are 5,000 documents; HYPOTHESIS_PROFILE=thorough asks ten times as
many.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import pytest
import pytest_asyncio
from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    ValueNode,
    get_named_type,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import Mode, from_schema, nodes

from data.postgres.keys import Scope
from schema.build import graphql_schema
from tests.fixtures.app import App
from tests.fixtures.ledger import Database
from tests.server.fuzzing import SECONDS, open_production, require_sound

# Jobs of the application are due a little late at random, in a thread beside the one that generates.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

SCHEMA = graphql_schema()
QUERIES = SCHEMA.query_type.fields if SCHEMA.query_type else {}
MUTATIONS = SCHEMA.mutation_type.fields if SCHEMA.mutation_type else {}
FILTERED = [name for name, field in QUERIES.items() if "filter" in field.args]
PLAIN = [name for name in QUERIES if name not in FILTERED]
BATCHES = ["ingest"]
COMMANDS = [name for name in MUTATIONS if name not in BATCHES]

# Small pools, so that operations get past the first check and meet what is there.
WORDS = (
    "page_view", "sign_up", "u1", "shop", "/a", "n", "s", "Europe/Berlin", "UTC", "",
    "Nowhere/Land", "^p.*w$", "(", "[[:alpha:]]{1000}", "%", "_", 'a"b\\', "'; drop table events --",
    "\0", "https://a\0.example", "https://a.example", "\ud7ff", "é😀", "x" * 600,
)  # fmt: skip
DAYS = (
    "2026-01-01", "2026-01-31", "2025-03-30", "2024-02-29", "2023-02-29", "0001-01-01",
    "9999-12-31", "1969-12-31", "2026-01-31T00:00:00Z", "", "today",
)  # fmt: skip
MOMENTS = (
    "2026-01-01T00:00:00Z", "2026-01-31T12:00:00.250+02:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-12:00", "2026-01-01", "soon",
)  # fmt: skip
UUIDS = ("0192f0c1-7a3e-7cc3-8f5d-3c1f5a0d9b11", "0192F0C17A3E7CC38F5D3C1F5A0D9B11", "", "x")
NUMBERS = (0, 1, 2, 7, 50, 366, 1_000, 1_001, 1_100, -1, 2**31 - 1, -(2**31))
BIG = (0, 1, 2**53, -(2**53) - 1, 2**63, 10**30)


def any_of(values: tuple[Any, ...]) -> st.SearchStrategy[ValueNode]:
    """A literal for one of the values."""
    return st.sampled_from(
        [nodes.String(v) if isinstance(v, str) else nodes.Int(v) for v in values]
    )


LITERALS = {
    "BigInt": any_of(BIG),
    "Date": any_of(DAYS),
    "DateTime": any_of((*MOMENTS, *BIG)),
    "ID": any_of(("shop", "shop", "shop", "blog", "nowhere", "", "\0", "x" * 600)),
    "Int": any_of(NUMBERS),
    "JSON": st.recursive(
        any_of(("x", "", "\0", 1, 10**400))
        | st.just(nodes.Null)
        | st.booleans().map(nodes.Boolean),
        lambda inner: st.lists(inner, max_size=3).map(nodes.List),
        max_leaves=5,
    )
    | st.just(nodes.Object([])),
    "String": any_of(WORDS),
    "UUID": any_of(UUIDS),
}


def documents(fields: list[str], mode: Mode = Mode.POSITIVE) -> st.SearchStrategy[str]:
    """Documents with some of the root fields."""
    return from_schema(SCHEMA, fields=fields, custom_scalars=LITERALS, mode=mode)


class Share(NamedTuple):
    """A kind of documents; `examples` for each example that the profile asks for."""

    documents: st.SearchStrategy[str]
    examples: int


# Small documents are many: a filter or a list of events takes longest to make up and to answer.
SHARES = {
    "filters": Share(st.one_of([documents([name]) for name in FILTERED]), 4),
    "queries": Share(documents(PLAIN[::2]) | documents(PLAIN[1::2]), 27),
    "batches": Share(documents(BATCHES), 2),
    "mutations": Share(st.one_of([documents([name]) for name in COMMANDS]), 6),
    "mistakes": Share(documents([*PLAIN, *COMMANDS], Mode.NEGATIVE), 11),
}
PER_EXAMPLE = sum(share.examples for share in SHARES.values())
ACCEPTS = ("application/json", "application/graphql-response+json", "*/*", "")


@dataclass(slots=True)
class Stranger:
    """Asks by one key or the other; what had a sound answer is not asked again."""

    app: App
    keys: list[str]
    sound: set[str] = field(default_factory=set)

    async def ask(self, request: dict[str, Any]) -> None:
        """Send a request, whose answer must be sound."""
        body = json.dumps(request)
        if body in self.sound:
            return
        # By the request, so that it is the same whenever Hypothesis comes back to it.
        choice = crc32(body.encode())
        headers = {
            "content-type": "application/json",
            "x-api-key": self.keys[choice % len(self.keys)],
            "accept": ACCEPTS[choice % len(ACCEPTS)],
        }
        async with asyncio.timeout(SECONDS):
            response = await self.app.client.post("/graphql", content=body, headers=headers)
        require_sound(response)
        self.sound.add(body)

    async def ask_all(self, requests: st.SearchStrategy[dict[str, Any]], examples: int) -> None:
        """Ask so many of the requests for each example of the profile."""
        loop = asyncio.get_running_loop()

        @settings(
            deadline=None,
            max_examples=examples * settings().max_examples,
            suppress_health_check=list(HealthCheck),
        )
        @given(requests)
        def each(request: dict[str, Any]) -> None:
            asyncio.run_coroutine_threadsafe(self.ask(request), loop).result()

        # Hypothesis drives its examples from a thread, this loop answers them.
        await asyncio.to_thread(each)


@pytest_asyncio.fixture
async def stranger(database: Database, tmp_path: Path) -> AsyncIterator[Stranger]:
    async with open_production(database, tmp_path / "home") as app:
        # One may do everything, one everything on a site, one only ask.
        keys = [app.admin_key, await app.key("shop"), await app.key("blog", Scope.READ)]
        yield Stranger(app, keys)


def test_the_profile_of_ci_asks_5_000_operations() -> None:
    assert PER_EXAMPLE * settings.get_profile("ci").max_examples == 5_000


@pytest.mark.parametrize("share", SHARES.values(), ids=SHARES)
async def test_any_operation_of_the_schema_has_a_sound_answer(
    stranger: Stranger, share: Share
) -> None:
    await stranger.ask_all(
        st.builds(lambda query: {"query": query}, share.documents), share.examples
    )


def asking(kind: str, name: str, root: GraphQLField) -> str:
    """A document for a root field, with a variable for each of its arguments."""
    variables = ", ".join(f"${argument}: {a.type}" for argument, a in root.args.items())
    arguments = ", ".join(f"{argument}: ${argument}" for argument in root.args)
    head = f"{kind} ({variables})" if variables else kind
    call = f"{name}({arguments})" if arguments else name
    return f"{head} {{ {call} {chosen(root, 4)} }}"


def chosen(field: GraphQLField, depth: int) -> str:
    """All that can be chosen below a field without arguments of its own."""
    named = get_named_type(field.type)
    if not isinstance(named, GraphQLObjectType):
        return ""
    parts = [
        f"{name} {chosen(inner, depth - 1)}"
        for name, inner in named.fields.items()
        if depth > 1 or not isinstance(get_named_type(inner.type), GraphQLObjectType)
    ]
    return f"{{ {' '.join(['__typename', *parts])} }}"


ASKING = [
    *(asking("query", name, field) for name, field in QUERIES.items()),
    *(asking("mutation", name, field) for name, field in MUTATIONS.items()),
]
ARGUMENTS = sorted(
    {name for field in (*QUERIES.values(), *MUTATIONS.values()) for name in field.args}
)
FIELDS = sorted(
    {
        name
        for named in SCHEMA.type_map.values()
        if isinstance(named, GraphQLInputObjectType)
        for name in named.fields
    }
)
LEAVES = st.none() | st.booleans() | st.sampled_from([*WORDS, *DAYS, *MOMENTS, *NUMBERS, *BIG, 0.5])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
        | st.fixed_dictionaries({"from": inner, "to": inner})
        | st.fixed_dictionaries({"id": inner, "name": inner, "scopes": inner})
        | st.fixed_dictionaries({"siteId": inner, "events": st.lists(inner, max_size=3)})
    ),
    max_leaves=10,
)
RANGE = st.just({"from": "2026-01-01", "to": "2026-01-31"})
VARIABLES = st.builds(
    lambda good, odd: {**good, **odd},
    st.fixed_dictionaries(
        {"range": RANGE, "userId": st.just("u1"), "eventIds": st.just([]), "id": st.just("shop")}
    ),
    st.dictionaries(st.sampled_from(ARGUMENTS), VALUES, max_size=3),
)


REQUESTS = st.fixed_dictionaries({"query": st.sampled_from(ASKING), "variables": VARIABLES})


async def test_any_variables_have_a_sound_answer(stranger: Stranger) -> None:
    await stranger.ask_all(REQUESTS, 5)
