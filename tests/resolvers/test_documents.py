"""Which text a request means, for keys of each mode."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import Weekday
from data.persisted import OwnPersistedQueries, PersistedQueries
from data.postgres.directory import Directory
from data.postgres.documents import TrustedDocument, add_documents
from data.postgres.engine import WRITER, transaction
from data.postgres.keys import DocumentsMode, Scope
from data.postgres.sites import Site, create_site
from data.redis.client import RedisPace, open_redis
from data.redis.documents import SharedPersistedQueries
from resolvers.context import Caller
from resolvers.documents import AskedDocument, DocumentText, document_text
from resolvers.errors import (
    BadUserInput,
    Code,
    Forbidden,
    PersistedQueryNotFound,
    PersistedQueryNotSupported,
    Refusal,
    Unavailable,
)
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database, engine_of
from tests.fixtures.redis import running_redis

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OFF, APQ, TRUSTED = DocumentsMode.OFF, DocumentsMode.APQ, DocumentsMode.TRUSTED
PLAIN = "{ __typename }"
GIVEN = "query Given { __typename }"
OF_SHOP = "query OfShop { __typename }"


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def persisted(sha256: object, version: object = 1) -> dict[str, object]:
    """`extensions.persistedQuery`."""
    return {"version": version, "sha256Hash": sha256}


def caller(mode: DocumentsMode, site_id: str | None = None) -> Caller:
    return Caller("key", "test", frozenset({Scope.READ}), site_id, documents=mode)


@dataclass(frozen=True, slots=True)
class Stores:
    """Where texts are found, without the rest of a service."""

    persisted: PersistedQueries
    directory: Directory

    async def text(
        self,
        mode: DocumentsMode,
        asked: AskedDocument,
        site_id: str | None = None,
    ) -> DocumentText:
        return await document_text(self, caller(mode, site_id), asked)

    async def refusal(
        self, mode: DocumentsMode, asked: AskedDocument, site_id: str | None = None
    ) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await self.text(mode, asked, site_id)
        return refused.value

    async def send(self, text: str) -> None:
        """What a client and the engine do the first time."""
        asked = AskedDocument(text, persisted(hash_of(text)))
        found = await self.text(APQ, asked)
        assert found.keep is not None
        await found.keep()


async def trust(writer: AsyncEngine) -> None:
    """One document for all keys, under an id of its own, and one for those of a site."""
    async with transaction(writer) as connection:
        await create_site(connection, Site("shop", "Shop", "UTC", Weekday.MONDAY, (), NOW))
        added = [
            TrustedDocument("given-1", hash_of(GIVEN), "Given", GIVEN, None, NOW),
            TrustedDocument("shop-1", hash_of(OF_SHOP), "OfShop", OF_SHOP, "shop", NOW),
        ]
        assert await add_documents(connection, added) == (2, [])


@pytest_asyncio.fixture
async def stores(writer: AsyncEngine) -> Stores:
    """Nothing persisted yet, and the two trusted documents."""
    await trust(writer)
    return Stores(OwnPersistedQueries(Metrics.create().persisted), Directory(writer))


@pytest.mark.parametrize("mode", DocumentsMode)
async def test_a_request_for_nothing_is_refused(mode: DocumentsMode, stores: Stores) -> None:
    refused = await stores.refusal(mode, AskedDocument())

    assert isinstance(refused, BadUserInput)
    assert refused.details == {"argument": "query"}


# Automatic persisted queries


async def test_a_text_is_found_by_its_hash_once_it_was_accepted(stores: Stores) -> None:
    by_hash = AskedDocument(None, persisted(hash_of(PLAIN)))
    by_id = AskedDocument(document_id=f"sha256:{hash_of(PLAIN)}")
    assert isinstance(await stores.refusal(APQ, by_hash), PersistedQueryNotFound)

    sent = await stores.text(APQ, AskedDocument(PLAIN, persisted(hash_of(PLAIN))))
    # Sent, and perhaps refused by the schema: it is not there until the engine says so.
    assert isinstance(await stores.refusal(APQ, by_hash), PersistedQueryNotFound)
    assert sent.keep is not None
    await sent.keep()

    assert sent.text == PLAIN
    assert await stores.text(APQ, by_hash) == DocumentText(PLAIN)
    assert await stores.text(APQ, by_id) == DocumentText(PLAIN)


async def test_a_miss_is_said_in_the_words_that_clients_know(stores: Stores) -> None:
    missed = await stores.refusal(APQ, AskedDocument(None, persisted(hash_of(PLAIN))))
    unsupported = await stores.refusal(OFF, AskedDocument(None, persisted(hash_of(PLAIN))))

    assert (missed.message, missed.extensions) == (
        "PersistedQueryNotFound",
        {"code": "PERSISTED_QUERY_NOT_FOUND"},
    )
    assert (unsupported.message, unsupported.extensions) == (
        "PersistedQueryNotSupported",
        {"code": "PERSISTED_QUERY_NOT_SUPPORTED"},
    )


async def test_a_text_without_a_hash_is_run_and_not_kept(stores: Stores) -> None:
    assert await stores.text(APQ, AskedDocument(PLAIN)) == DocumentText(PLAIN)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (AskedDocument(PLAIN, persisted(hash_of(GIVEN))), "provided sha does not match query"),
        (AskedDocument(PLAIN, persisted("")), "provided sha does not match query"),
        (
            AskedDocument(PLAIN, persisted(hash_of(PLAIN).upper())),
            "provided sha does not match query",
        ),
        (
            AskedDocument(PLAIN, document_id=f"sha256:{hash_of(GIVEN)}"),
            "provided sha does not match query",
        ),
        (AskedDocument(PLAIN, document_id="given-1"), "provided sha does not match query"),
        (
            AskedDocument("\ud800", persisted(hash_of(PLAIN))),
            "provided sha does not match query",
        ),
        (
            AskedDocument(None, persisted(hash_of(PLAIN), 2)),
            "Unsupported persisted query version",
        ),
        (
            AskedDocument(PLAIN, persisted(hash_of(PLAIN), None)),
            "Unsupported persisted query version",
        ),
        (
            AskedDocument(None, persisted(hash_of(PLAIN), "1")),
            "Unsupported persisted query version",
        ),
        (
            AskedDocument(None, persisted(hash_of(PLAIN), version=True)),
            "Unsupported persisted query version",
        ),
        (AskedDocument(None, persisted(7)), "sha256Hash must be a text"),
        (AskedDocument(None, persisted(None)), "sha256Hash must be a text"),
        (AskedDocument(None, "abc"), "must be an object"),
        (AskedDocument(None, []), "must be an object"),
        (AskedDocument(document_id="sha256:abc"), "64 lower-case hex digits"),
        (AskedDocument(document_id=f"sha256:{hash_of(PLAIN).upper()}"), "64 lower-case"),
        (
            AskedDocument(None, persisted(hash_of(PLAIN)), f"sha256:{hash_of(GIVEN)}"),
            "name two documents",
        ),
    ],
)
@pytest.mark.parametrize("mode", [APQ, TRUSTED])
async def test_what_does_not_fit_together_is_refused(
    asked: AskedDocument, says: str, mode: DocumentsMode, stores: Stores
) -> None:
    await stores.send(PLAIN)
    refused = await stores.refusal(mode, asked)

    if mode is TRUSTED and asked.query is not None and "version" not in says:
        assert isinstance(refused, Forbidden)
    else:
        assert isinstance(refused, BadUserInput)
        assert says in refused.message


@pytest.mark.parametrize(
    "name",
    ["", "given-2", "no-hash", "sha256", "x-thing:1", "a:b", "\x00", "\ud800", "a" * 100_000],
)
@pytest.mark.parametrize("mode", [APQ, TRUSTED])
async def test_a_name_that_nothing_has_is_not_found(
    name: str, mode: DocumentsMode, stores: Stores
) -> None:
    for asked in (AskedDocument(document_id=name), AskedDocument(None, persisted(name))):
        assert isinstance(await stores.refusal(mode, asked), PersistedQueryNotFound)


async def test_a_hash_and_an_id_that_agree_are_one_name(stores: Stores) -> None:
    await stores.send(PLAIN)
    sha256 = hash_of(PLAIN)

    asked = AskedDocument(None, persisted(sha256), f"sha256:{sha256}")

    assert await stores.text(APQ, asked) == DocumentText(PLAIN)


async def test_processes_with_one_redis_share_what_clients_sent(
    writer: AsyncEngine, tmp_path: Path
) -> None:
    metrics = Metrics.create()
    async with (
        running_redis(tmp_path) as server,
        open_redis(server.url, metrics.redis, RedisPace(answer_seconds=10)) as redis,
    ):
        one, other = (
            Stores(SharedPersistedQueries(redis, metrics.persisted), Directory(writer))
            for _ in range(2)
        )
        await one.send(PLAIN)
        asked = AskedDocument(None, persisted(hash_of(PLAIN)))

        assert await other.text(APQ, asked) == DocumentText(PLAIN)


# Keys without persisted operations


@pytest.mark.parametrize(
    "asked",
    [
        AskedDocument(PLAIN),
        AskedDocument(PLAIN, persisted(hash_of(PLAIN))),
        AskedDocument(PLAIN, persisted(hash_of(GIVEN))),
        AskedDocument(PLAIN, persisted(7, "odd"), "sha256:odd"),
        AskedDocument(PLAIN, [], "given-1"),
    ],
)
async def test_a_key_without_persisted_operations_just_runs_the_text(
    asked: AskedDocument, stores: Stores
) -> None:
    assert await stores.text(OFF, asked) == DocumentText(PLAIN)


@pytest.mark.parametrize(
    "asked",
    [
        AskedDocument(None, persisted(hash_of(GIVEN))),
        AskedDocument(None, "odd"),
        AskedDocument(document_id="given-1"),
        AskedDocument(document_id=f"sha256:{hash_of(GIVEN)}"),
    ],
)
async def test_a_key_without_persisted_operations_takes_no_names(
    asked: AskedDocument, stores: Stores
) -> None:
    assert isinstance(await stores.refusal(OFF, asked), PersistedQueryNotSupported)


# Trusted documents

NAMES_OF_GIVEN = [
    AskedDocument(document_id="given-1"),
    AskedDocument(document_id=hash_of(GIVEN)),
    AskedDocument(document_id=f"sha256:{hash_of(GIVEN)}"),
    AskedDocument(None, persisted(hash_of(GIVEN))),
    # Apollo Client sends the ids of its manifest in this place.
    AskedDocument(None, persisted("given-1")),
]


@pytest.mark.parametrize("asked", NAMES_OF_GIVEN)
@pytest.mark.parametrize("mode", [APQ, TRUSTED])
async def test_a_trusted_document_is_found_by_each_of_its_names(
    asked: AskedDocument, mode: DocumentsMode, stores: Stores
) -> None:
    assert await stores.text(mode, asked) == DocumentText(GIVEN)


@pytest.mark.parametrize(
    "asked",
    [
        AskedDocument(GIVEN),
        AskedDocument(GIVEN, persisted(hash_of(GIVEN))),
        AskedDocument(GIVEN, persisted("given-1")),
        AskedDocument(GIVEN, None, "given-1"),
    ],
)
async def test_a_key_for_trusted_documents_may_send_their_exact_text(
    asked: AskedDocument, stores: Stores
) -> None:
    assert await stores.text(TRUSTED, asked) == DocumentText(GIVEN)


@pytest.mark.parametrize("text", [PLAIN, f"{GIVEN} ", GIVEN.lower(), "", "\ud800", "{" * 100_000])
async def test_a_key_for_trusted_documents_may_send_no_other_text(
    text: str, stores: Stores
) -> None:
    refused = await stores.refusal(TRUSTED, AskedDocument(text))

    assert refused.code is Code.FORBIDDEN
    assert "documentId" in refused.message
    assert "`footfall documents add`" in refused.message


async def test_a_key_for_trusted_documents_takes_nothing_that_clients_brought(
    stores: Stores,
) -> None:
    await stores.send(PLAIN)

    for asked in (
        AskedDocument(None, persisted(hash_of(PLAIN))),
        AskedDocument(document_id=f"sha256:{hash_of(PLAIN)}"),
        AskedDocument(document_id=hash_of(PLAIN)),
    ):
        assert isinstance(await stores.refusal(TRUSTED, asked), PersistedQueryNotFound)


async def test_the_text_of_one_trusted_document_under_the_name_of_another_is_refused(
    stores: Stores,
) -> None:
    asked = AskedDocument(GIVEN, None, "shop-1")

    assert isinstance(await stores.refusal(TRUSTED, asked, "shop"), BadUserInput)


@pytest.mark.parametrize("mode", [APQ, TRUSTED])
async def test_the_documents_of_a_site_are_for_its_keys_alone(
    mode: DocumentsMode, stores: Stores
) -> None:
    for asked in (
        AskedDocument(document_id="shop-1"),
        AskedDocument(document_id=f"sha256:{hash_of(OF_SHOP)}"),
        AskedDocument(None, persisted(hash_of(OF_SHOP))),
    ):
        found = await stores.text(mode, asked, "shop")
        assert found == DocumentText(OF_SHOP)
        for stranger in (None, "blog"):
            assert isinstance(await stores.refusal(mode, asked, stranger), PersistedQueryNotFound)
    assert isinstance(await stores.refusal(TRUSTED, AskedDocument(OF_SHOP), "blog"), Forbidden)


async def test_a_ledger_that_is_away_is_said_where_it_is_needed_and_only_there(
    database: Database,
) -> None:
    async with engine_of(database, WRITER) as writer:
        await trust(writer)
        stores = Stores(OwnPersistedQueries(Metrics.create().persisted), Directory(writer))
        await stores.send(PLAIN)
        connection = await database.server_connection()
        await connection.execute(f"alter database {database.name} allow_connections false")
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            database.name,
        )
        try:
            refused = await stores.refusal(TRUSTED, AskedDocument(document_id="given-1"))
            by_hash = AskedDocument(None, persisted(hash_of(PLAIN)))

            assert isinstance(refused, Unavailable)
            assert refused.details == {"part": "ledger"}
            assert await stores.text(APQ, by_hash) == DocumentText(PLAIN)
            assert await stores.text(APQ, AskedDocument(PLAIN)) == DocumentText(PLAIN)
        finally:
            await connection.execute(f"alter database {database.name} allow_connections true")
            await connection.close()
