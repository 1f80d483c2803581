"""TLS to PostgreSQL by URL: who is believed, and what somebody reads who is not.

The bundled server has no TLS, so that a relay in front of it takes that part, as PgBouncer does.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from data.postgres.checkup import server_of
from data.postgres.engine import (
    WRITER,
    LedgerUnavailable,
    Login,
    open_engine,
    parse_url,
    transaction,
)
from data.postgres.migrate import pending
from data.postgres.tls import with_tls
from tests.fixtures.certificates import Authority, Certificate
from tests.fixtures.ledger import Database
from tests.server.cli.commands import ended

_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def relay(database: Database, certificate: Certificate | None) -> AsyncIterator[int]:
    """The port of a relay that speaks TLS with clients, or tells them that it does not."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if certificate:
        context.load_cert_chain(certificate.certificate, certificate.key)
    socket = f"{database.server.socket_dir}/.s.PGSQL.{database.server.port}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            rest = b""
            if first != _SSL_REQUEST:
                rest = first
            elif certificate:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(context)
            else:
                writer.write(b"N")
            there, back = await asyncio.open_unix_connection(socket)
            back.write(rest)
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def url(database: Database, port: int, host: str, query: str) -> str:
    return f"postgresql://postgres@{host}:{port}/{database.name}{query}"


async def ask(address: str) -> int:
    async with (
        open_engine(Login(parse_url(address), WRITER, connections=1)) as engine,
        transaction(engine) as connection,
    ):
        answer: int = (await connection.execute(text("select 1"))).scalar_one()
        return answer


@pytest.mark.parametrize(
    ("host", "query"),
    [
        ("localhost", "?sslmode=verify-full&sslrootcert={roots}"),
        ("127.0.0.1", "?sslmode=verify-full&sslrootcert={roots}"),
        ("localhost", "?sslrootcert={roots}"),
        ("localhost", "?sslmode=verify-ca&sslrootcert={roots}"),
        ("localhost", "?sslmode=require"),
        ("localhost", "?sslmode=prefer"),
        ("localhost", ""),
        ("localhost", "?sslmode=disable"),
    ],
)
async def test_who_is_known_is_spoken_with(
    database: Database, tmp_path: Path, host: str, query: str
) -> None:
    authority = Authority(tmp_path / "ca")
    async with relay(database, authority.certificate_for("localhost", "127.0.0.1")) as port:
        address = url(database, port, host, query.format(roots=authority.roots))

        assert await ask(address) == 1
        # What the commands ask on connections of their own.
        assert (await server_of(parse_url(address))).major >= 15
        assert await pending(parse_url(address)) == []


@pytest.mark.parametrize(
    ("named", "query", "words"),
    [
        ("localhost", "?sslmode=verify-full&sslrootcert={other}", "certificate is not trusted"),
        ("localhost", "?sslmode=verify-ca&sslrootcert={other}", "certificate is not trusted"),
        ("localhost", "?sslmode=require&sslrootcert={other}", "certificate is not trusted"),
        ("localhost", "?sslmode=verify-full", "certificate is not trusted"),
        ("localhost", "?sslmode=verify-full&sslrootcert=system", "certificate is not trusted"),
        ("db.example", "?sslmode=verify-full&sslrootcert={roots}", "Hostname mismatch"),
        ("db.example", "?sslrootcert={roots}", "Hostname mismatch"),
    ],
)
async def test_who_is_not_is_refused_in_a_clear_line(
    database: Database, tmp_path: Path, named: str, query: str, words: str
) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    async with relay(database, authority.certificate_for(named)) as port:
        sent = query.format(roots=authority.roots, other=other.roots)

        with pytest.raises(LedgerUnavailable, match=words) as refused:
            await ask(url(database, port, "localhost", sent))
    assert "\n" not in str(refused.value)


async def test_an_authority_alone_may_vouch_for_a_server_of_another_name(
    database: Database, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    async with relay(database, authority.certificate_for("db.example")) as port:
        query = f"?sslmode=verify-ca&sslrootcert={authority.roots}"

        assert await ask(url(database, port, "localhost", query)) == 1


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_server_without_tls_is_not_spoken_with_where_it_is_required(
    database: Database, tmp_path: Path, mode: str
) -> None:
    roots = Authority(tmp_path / "ca").roots
    async with relay(database, None) as port:
        with pytest.raises(LedgerUnavailable, match="SSL"):
            await ask(url(database, port, "localhost", f"?sslmode={mode}&sslrootcert={roots}"))
        assert await ask(url(database, port, "localhost", "?sslmode=prefer")) == 1


async def test_a_client_shows_its_own_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    own = authority.certificate_for("footfall_writer")
    query = f"?sslmode=require&sslcert={own.certificate}&sslkey={own.key}&application_name=x"

    bare, told = with_tls(parse_url(f"postgresql://u@db/x{query}"))

    assert dict(bare.query) == {"application_name": "x"}
    assert isinstance(told["ssl"], ssl.SSLContext)


def test_a_certificate_of_its_own_without_a_mode_is_shown_to_the_right_server_only(
    tmp_path: Path,
) -> None:
    own = Authority(tmp_path / "ca").certificate_for("footfall_writer")

    _, told = with_tls(parse_url(f"postgresql://u@db/x?sslcert={own.certificate}&sslkey={own.key}"))

    assert told["ssl"].check_hostname
    assert told["ssl"].verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?sslmode=prefer&sslcert=/c.pem", "its sslcert needs TLS: sslmode=prefer may do without"),
        ("?sslmode=disable&sslcert=/c.pem", "sslmode=disable may do without"),
        ("?sslmode=require&sslkey=/k.pem", "its sslkey belongs to a sslcert"),
        ("?sslmode=full", "its sslmode must be one of disable, allow"),
        ("?sslmode=require&sslmode=disable", "it says sslmode twice"),
        ("?sslmode=verify-full&sslrootcert=/nowhere.pem", "/nowhere.pem cannot be read"),
        ("?sslmode=verify-full&sslrootcert={odd}", "is no PEM file that fits"),
        ("?sslmode=require&sslcert={odd}", "is no PEM file that fits"),
    ],
)
def test_what_cannot_be_followed_is_said_at_the_start(
    tmp_path: Path, query: str, words: str
) -> None:
    odd = tmp_path / "odd.pem"
    odd.write_text("this is no certificate")

    with pytest.raises(ValueError, match=words):
        parse_url(f"postgresql://u@db/x{query.format(odd=odd)}")


async def test_a_command_ends_with_one_line_about_the_certificate(
    database: Database, tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    async with relay(database, authority.certificate_for("localhost")) as port:
        query = f"?sslmode=verify-full&sslrootcert={other.roots}"
        address = url(database, port, "localhost", query)
        (tmp_path / ".env").write_text(f"DATABASE_URL={address}\n")

        listed = await ended(tmp_path / "home", "keys", "list")

    assert listed.code == 1
    assert "the server's certificate is not trusted" in listed.line
