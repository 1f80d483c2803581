"""Trusted documents in the ledger, and the directory that has them at hand."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import Weekday
from data.postgres.directory import Directory
from data.postgres.documents import (
    TrustedDocument,
    add_documents,
    all_documents,
    document_index,
    documents_version,
    remove_documents,
)
from data.postgres.engine import WRITER, LedgerRefused, LedgerUnavailable, transaction
from data.postgres.keys import ApiKey, DocumentsMode, Scope, add_key, all_keys
from data.postgres.migrate import differences
from data.postgres.sites import Site, create_site
from tests.fixtures.ledger import Database, engine_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOON = 60.0


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def document(document_id: str, text: str = "{ a }", site_id: str | None = None) -> TrustedDocument:
    return TrustedDocument(document_id, hash_of(text), "A", text, site_id, NOW)


async def make_site(writer: AsyncEngine, site_id: str) -> None:
    async with transaction(writer) as connection:
        await create_site(connection, Site(site_id, site_id, "UTC", Weekday.MONDAY, (), NOW))


async def add(writer: AsyncEngine, *documents: TrustedDocument) -> tuple[int, list[str]]:
    async with transaction(writer) as connection:
        new, taken = await add_documents(connection, documents)
    return new, [one.document_id for one in taken]


async def remove(
    writer: AsyncEngine, document_ids: Sequence[str], site_id: str | None = None
) -> list[str]:
    async with transaction(writer) as connection:
        removed = await remove_documents(connection, document_ids, site_id)
    return [one.document_id for one in removed]


async def version(writer: AsyncEngine) -> int:
    async with transaction(writer) as connection:
        return await documents_version(connection)


async def until(directory: Directory, document_id: str, sha256: str | None) -> None:
    """Return when the directory, by itself, says so of an id."""
    async with asyncio.timeout(SOON):
        while (await directory.documents()).hash_of(document_id, None) != sha256:
            await asyncio.sleep(0.05)


async def test_documents_are_kept_as_they_were_given(writer: AsyncEngine) -> None:
    await make_site(writer, "shop")
    documents = [document("b"), document("a", "{ \N{SNOWMAN} }"), document("a", "{ c }", "shop")]

    assert await add(writer, *documents) == (3, [])

    async with transaction(writer) as connection:
        assert await all_documents(connection) == [documents[1], documents[0], documents[2]]


async def test_an_id_stands_for_one_text_for_as_long_as_it_is_there(writer: AsyncEngine) -> None:
    await add(writer, document("a", "{ first }"))

    assert await add(writer, document("a", "{ first }")) == (0, [])
    assert await add(writer, document("a", "{ second }"), document("b")) == (1, ["a"])
    assert await remove(writer, ["a"]) == ["a"]
    assert await add(writer, document("a", "{ second }")) == (1, [])


async def test_a_document_of_a_site_that_is_not_there_is_refused(writer: AsyncEngine) -> None:
    with pytest.raises(LedgerRefused):
        await add(writer, document("a", site_id="nowhere"))


async def test_only_changes_raise_the_version(writer: AsyncEngine) -> None:
    versions = [await version(writer)]
    await add(writer, document("a"), document("b"))
    versions.append(await version(writer))
    await add(writer, document("a"))
    versions.append(await version(writer))
    await remove(writer, ["nothing"])
    versions.append(await version(writer))
    await remove(writer, ["a", "b", "nothing"])
    versions.append(await version(writer))

    assert versions == [0, 1, 1, 1, 2]


async def test_the_index_knows_for_whom_a_document_is(writer: AsyncEngine) -> None:
    for site_id in ("shop", "blog"):
        await make_site(writer, site_id)
    await add(
        writer,
        document("both", "{ all }"),
        document("both", "{ shop }", "shop"),
        document("own", "{ own }", "blog"),
    )
    async with transaction(writer) as connection:
        index = await document_index(connection)

    sites = (None, "shop", "blog", "another")
    assert [index.hash_of("both", site) for site in sites] == [
        hash_of(f"{{ {text} }}") for text in ("all", "shop", "all", "all")
    ]
    assert [index.hash_of("own", site) for site in sites] == [None, None, hash_of("{ own }"), None]
    assert [index.trusts(hash_of("{ all }"), site) for site in sites] == [True] * 4
    assert [index.trusts(hash_of("{ shop }"), site) for site in sites] == [
        False,
        True,
        False,
        False,
    ]
    assert not index.trusts(hash_of("{ never }"), None)


async def test_the_directory_sees_changes_of_other_processes_by_itself(
    writer: AsyncEngine,
) -> None:
    directory = Directory(writer)
    await until(directory, "a", None)

    await add(writer, document("a"))
    await until(directory, "a", hash_of("{ a }"))
    assert await directory.document_text(hash_of("{ a }")) == "{ a }"
    assert await directory.document_text(hash_of("{ b }")) is None

    await remove(writer, ["a"])
    await until(directory, "a", None)


async def test_while_nothing_changes_documents_are_not_read_again(
    writer: AsyncEngine, database: Database
) -> None:
    await add(writer, document("a"), document("b", "{ b }"))
    directory = Directory(writer)
    index = await directory.documents()
    await directory.document_text(hash_of("{ a }"))

    # Behind the back of the version: whoever reads the table now sees it empty.
    connection = await database.connect()
    await connection.execute("delete from trusted_documents")
    await connection.close()
    directory.forget()

    assert await directory.documents() is index
    assert await directory.document_text(hash_of("{ a }")) == "{ a }"
    assert await directory.document_text(hash_of("{ b }")) is None


async def test_what_is_at_hand_serves_while_the_ledger_is_away(database: Database) -> None:
    async with engine_of(database, WRITER) as engine:
        await add(engine, document("a"), document("b", "{ b }"))
        directory = Directory(engine)
        await directory.documents()
        await directory.document_text(hash_of("{ a }"))
        connection = await database.server_connection()
        await connection.execute(f"alter database {database.name} allow_connections false")
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            database.name,
        )
        # Longer than what was read counts as fresh.
        await asyncio.sleep(1.1)

        index = await directory.documents()

        assert index.hash_of("a", None) == hash_of("{ a }")
        assert await directory.document_text(hash_of("{ a }")) == "{ a }"
        with pytest.raises(LedgerUnavailable):
            await directory.document_text(hash_of("{ b }"))
        await connection.execute(f"alter database {database.name} allow_connections true")
        await connection.close()


async def test_a_key_keeps_its_mode_and_older_keys_have_apq(
    writer: AsyncEngine, database: Database
) -> None:
    connection = await database.connect()
    await connection.execute(
        "insert into api_keys (key_id, secret_hash, name, scopes, created_at) "
        "values ('old', '', 'old', '{READ}', now())"
    )
    for mode in DocumentsMode:
        async with transaction(writer) as writing:
            await add_key(
                writing,
                ApiKey(mode, mode, None, frozenset({Scope.READ}), mode, NOW, None, None, b""),
            )

    async with transaction(writer) as reading:
        modes = {key.key_id: key.documents for key in await all_keys(reading)}
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("update api_keys set documents = 'ANY'")
    await connection.close()

    assert modes == {"old": DocumentsMode.APQ, **{mode.value: mode for mode in DocumentsMode}}


async def test_the_tables_are_those_of_the_migrations(database: Database) -> None:
    assert await differences(make_url(database.url("postgres"))) == []


@pytest.mark.parametrize(
    "statement",
    [
        "select * from trusted_documents",
        "delete from trusted_documents",
        "update ledger set documents_version = 9",
    ],
)
async def test_the_reader_has_no_business_with_documents(
    statement: str, database: Database
) -> None:
    connection = await database.connect("replica_user")
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
        await connection.execute(statement)
    await connection.close()


async def test_the_writer_may_not_change_which_ledger_it_is(database: Database) -> None:
    connection = await database.connect("footfall_writer")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("update ledger set ledger_id = gen_random_uuid()")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("update trusted_documents set text = ''")
    await connection.close()
