"""Notices from the ledger to a real server: signed, again after a failure, and never elsewhere."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from data.calendar import Weekday
from data.export_buckets import ExportBuckets, secret_context
from data.export_notifier import ExportNotifier, NoticeRules, open_export_notifier
from data.exports.notices import Notice, NoticeKind, Told
from data.exports.webhooks import new_webhook_secret
from data.local_secrets import LocalSecrets
from data.master_keys import add_master_key
from data.outbound.client import open_outbound
from data.postgres.engine import WRITER, Login, transaction
from data.postgres.export_destinations import SecretKind
from data.postgres.export_notices import add_notice, expire_notices
from data.postgres.sites import Site, create_site
from data.s3.clients import Pace
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database
from tests.fixtures.service import ROOT, clean_environment
from tests.fixtures.source_answers import Failing, Gated, hang, hang_up, redirect, text
from tests.fixtures.source_server import Asked, SourceServer
from tests.fixtures.webhooks import is_signed

SECONDS = 60
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
OK = text(b"", status=204)
SHORT = timedelta(seconds=0.3)

_ADD_DESTINATION = """
insert into export_destinations (
    destination_id, site_id, name, definition, places, webhook_secret, created_at, updated_at
) values ($1, 'shop', 'Lake', $2::jsonb, '[]', $3, $4, $4)
"""


@dataclass(slots=True)
class Place:
    """A ledger, a server that takes notices, and notifiers as those of several processes."""

    database: Database
    engine: AsyncEngine
    server: SourceServer
    home: Path
    now: datetime = NOON
    metrics: Metrics = field(default_factory=Metrics.create)
    secrets: dict[UUID, str] = field(default_factory=dict)

    @asynccontextmanager
    async def notifier(self, **rules: Any) -> AsyncIterator[ExportNotifier]:
        """One more process, which sends when it is told to."""
        chosen = NoticeRules(**({"allow_private": True} | rules))
        async with open_outbound(allow_private=chosen.allow_private) as outbound:
            yield ExportNotifier(
                self.engine,
                LocalSecrets(self.home).envelope,
                outbound,
                self.metrics.notices,
                lambda: self.now,
                chosen,
            )

    async def send_due(self, **rules: Any) -> int:
        """What one look of a process sends."""
        async with self.notifier(**rules) as notifier:
            return await notifier.send_due()

    async def destination(self, path: str | None = "/hook", url: str | None = None) -> UUID:
        """A destination with a webhook of the server, or of another address, or with none."""
        made, secret = uuid4(), new_webhook_secret()
        sealed = await LocalSecrets(self.home).envelope.encrypt(
            secret.encode(), secret_context(made, SecretKind.WEBHOOK)
        )
        address = url or (self.server.url(path) if path else None)
        definition = json.dumps({"webhook_url": address} if address else {})
        await self.rows(_ADD_DESTINATION, made, definition, sealed, NOON)
        self.secrets[made] = secret
        return made

    async def tell(self, destination_id: UUID, kind: NoticeKind = NoticeKind.DEAD) -> UUID | None:
        """The id of a notice of now."""
        told = Told(
            destination_id=destination_id,
            destination="Lake",
            site_id="shop",
            target="client",
            error="there is no bucket named lake",
        )
        async with transaction(self.engine) as connection:
            return await add_notice(connection, Notice(kind, self.now, told))

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the ledger holds."""
        connection = await self.database.connect()
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    async def state(self, notice_id: UUID | None) -> dict[str, Any]:
        """A notice as it is now."""
        connection = await self.database.connect()
        try:
            row = await connection.fetchrow(
                "select * from export_notices where notice_id = $1", notice_id
            )
        finally:
            await connection.close()
        assert row is not None
        return dict(row)

    async def until_delivered(self, notice_id: UUID | None) -> dict[str, Any]:
        """A notice once it was delivered."""
        async with asyncio.timeout(SECONDS):
            while (state := await self.state(notice_id))["delivered_at"] is None:
                await asyncio.sleep(0.05)
            return state

    def count(self, outcome: str) -> float | None:
        """How many attempts ended like this."""
        return self.metrics.registry.get_sample_value(
            "footfall_export_notices_total", {"outcome": outcome}
        )


@pytest_asyncio.fixture
async def place(
    database: Database, writer: AsyncEngine, source_server: SourceServer, tmp_path: Path
) -> Place:
    """A ledger with a site, and a server that takes what it is told at /hook."""
    async with transaction(writer) as connection:
        await create_site(connection, Site("shop", "Shop", "UTC", Weekday.MONDAY, (), NOON))
    source_server.at("/hook", OK)
    return Place(database, writer, source_server, tmp_path)


async def test_a_notice_comes_once_and_signed(place: Place) -> None:
    destination = await place.destination()
    notice = await place.tell(destination)

    assert await place.send_due() == 1
    assert await place.send_due() == 0

    [asked] = place.server.asked
    assert (asked.method, asked.headers["content-type"]) == ("POST", "application/json")
    assert asked.headers["webhook-id"] == str(notice)
    assert asked.headers["webhook-timestamp"] == str(int(NOON.timestamp()))
    assert is_signed(asked, place.secrets[destination])
    assert json.loads(asked.body) == {
        "type": "export.dead",
        "timestamp": "2026-03-05T12:00:00Z",
        "data": {
            "destination_id": str(destination),
            "destination": "Lake",
            "site_id": "shop",
            "target": "client",
            "error": "there is no bucket named lake",
        },
    }
    state = await place.state(notice)
    assert (state["delivered_at"], state["http_status"], state["attempts"]) == (NOON, 204, 1)
    assert (state["next_attempt_at"], state["held_until"], state["error"]) == (None, None, None)
    assert place.count("delivered") == 1


async def test_a_signature_is_of_this_secret_and_this_body_alone(place: Place) -> None:
    first, second = await place.destination(), await place.destination()
    await place.tell(first)

    await place.send_due()

    [asked] = place.server.asked
    altered = Asked("POST", "/hook", {}, asked.headers, asked.body + b" ", asked.origin)
    later = {**asked.headers, "webhook-timestamp": str(int(NOON.timestamp()) + 1)}
    assert is_signed(asked, place.secrets[first])
    assert not is_signed(asked, place.secrets[second])
    assert not is_signed(altered, place.secrets[first])
    assert not is_signed(Asked("POST", "/hook", {}, later, asked.body, ""), place.secrets[first])


@pytest.mark.parametrize("kind", NoticeKind)
async def test_every_kind_can_be_told(place: Place, kind: NoticeKind) -> None:
    await place.tell(await place.destination(), kind)

    await place.send_due()

    assert json.loads(place.server.asked[0].body)["type"] == kind


async def test_nothing_is_told_of_what_was_rolled_back(place: Place) -> None:
    told = Told(destination_id=await place.destination(), destination="Lake", site_id="shop")

    async def fail() -> None:
        async with transaction(place.engine) as connection:
            assert await add_notice(connection, Notice(NoticeKind.DEAD, NOON, told)) is not None
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await place.send_due() == 0


async def test_a_destination_without_a_webhook_is_told_nothing(place: Place) -> None:
    assert await place.tell(await place.destination(path=None)) is None
    deleted = await place.destination()
    await place.rows("update export_destinations set deleted_at = now() returning true")
    assert await place.tell(deleted) is None

    assert await place.send_due() == 0


async def test_what_fails_comes_again_later_and_later_under_the_same_id(place: Place) -> None:
    destination = await place.destination()
    place.server.at("/hook", Failing(500, 3, OK))
    notice = await place.tell(destination)
    longest = []

    for attempt in range(1, 4):
        assert await place.send_due() == 1
        state = await place.state(notice)
        assert (state["attempts"], state["http_status"]) == (attempt, 500)
        assert state["error"] == "127.0.0.1 answered 500"
        wait = state["next_attempt_at"] - place.now
        longest.append(5 * 2 ** (attempt - 1))
        assert timedelta(seconds=2) <= wait <= timedelta(seconds=longest[-1])
        place.now = state["next_attempt_at"] - timedelta(milliseconds=1)
        assert await place.send_due() == 0
        place.now = state["next_attempt_at"]
    assert await place.send_due() == 1

    state = await place.state(notice)
    assert (state["delivered_at"], state["attempts"]) == (place.now, 4)
    assert (place.count("failed"), place.count("delivered")) == (3, 1)
    asked = place.server.asked
    assert {one.headers["webhook-id"] for one in asked} == {str(notice)}
    assert len({one.body for one in asked}) == 1
    # Of each attempt its own moment: receivers refuse what is old.
    assert asked[-1].headers["webhook-timestamp"] == str(int(place.now.timestamp()))
    assert all(is_signed(one, place.secrets[destination]) for one in asked)


async def test_a_notice_is_given_up_after_a_day(place: Place) -> None:
    place.server.at("/hook", hang_up)
    notice = await place.tell(await place.destination())

    async with place.notifier() as notifier:
        state = await place.state(notice)
        while state["next_attempt_at"] is not None:
            assert state["next_attempt_at"] - NOON <= timedelta(days=1)
            place.now = state["next_attempt_at"]
            assert await notifier.send_due() == 1
            assert len(place.server.asked) < 150
            state = await place.state(notice)

    assert state["given_up_at"] - NOON > timedelta(hours=22)
    assert state["delivered_at"] is None
    assert "127.0.0.1" in state["error"]
    assert place.count("given_up") == 1
    # Often at first, then about every half an hour on average.
    assert len(place.server.asked) > 25
    place.now += timedelta(days=30)
    assert await place.send_due() == 0


async def test_a_webhook_that_hangs_holds_up_its_own_notices_alone(place: Place) -> None:
    place.server.at("/hang", hang)
    slow, quick = await place.destination("/hang"), await place.destination()
    slow_ones = [await place.tell(slow) for _ in range(3)]
    quick_one = await place.tell(quick)

    assert await place.send_due(attempt=SHORT) == 2

    assert (await place.state(quick_one))["delivered_at"] == NOON
    assert len(place.server.asked_for("/hang")) == 1
    states = [await place.state(one) for one in slow_ones]
    assert sorted(state["attempts"] for state in states) == [0, 0, 1]
    assert {state["error"] for state in states} == {None, "127.0.0.1 was not told within 0.3 s"}


async def test_a_webhook_is_told_one_thing_at_a_time_by_all_processes_together(
    place: Place,
) -> None:
    gate = place.server.at("/hook", Gated(OK))
    destination = await place.destination()
    notices = [await place.tell(destination) for _ in range(2)]
    first = asyncio.create_task(place.send_due())
    async with asyncio.timeout(SECONDS):
        await gate.arrived.wait()

    assert await place.send_due() == 0

    gate.gate.set()
    assert await first == 1
    assert await place.send_due() == 1
    assert {(await place.state(one))["attempts"] for one in notices} == {1}


async def test_those_that_nobody_tried_yet_go_before_those_that_failed(place: Place) -> None:
    place.server.at("/broken", text(b"", status=500))
    for _ in range(4):
        await place.tell(await place.destination("/broken"))
    assert await place.send_due() == 4
    place.now += timedelta(minutes=1)
    fresh = [await place.tell(await place.destination()) for _ in range(2)]

    assert await place.send_due(at_once=2) == 2

    assert {(await place.state(one))["delivered_at"] for one in fresh} == {place.now}
    assert await place.send_due() == 4


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(place: Place, status: int) -> None:
    place.server.at("/hook", redirect("/elsewhere", status))
    notice = await place.tell(await place.destination())

    await place.send_due()

    assert [asked.path for asked in place.server.asked] == ["/hook"]
    state = await place.state(notice)
    assert state["http_status"] == status
    assert "redirects" in state["error"]
    assert state["next_attempt_at"] is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_not_even_connected_to(place: Place, host: str) -> None:
    url = place.server.url("/hook", host=host)
    notice = await place.tell(await place.destination(url=url))

    assert await place.send_due(allow_private=False) == 1

    assert place.server.asked == []
    state = await place.state(notice)
    assert state["given_up_at"] == NOON
    assert "not a public address" in state["error"]


async def test_what_a_receiver_says_beside_its_status_is_not_listened_to(place: Place) -> None:
    async def talk_for_ever(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
        while True:
            writer.write(b"thanks " * 1_000)
            await writer.drain()

    place.server.at("/hook", talk_for_ever)
    notice = await place.tell(await place.destination())

    await place.send_due()

    assert (await place.state(notice))["delivered_at"] == NOON


async def test_a_receiver_that_is_gone_for_good_is_asked_no_more(place: Place) -> None:
    place.server.at("/hook", text(b"", status=410))
    notice = await place.tell(await place.destination())

    await place.send_due()

    assert (await place.state(notice))["given_up_at"] == NOON


async def test_a_notice_goes_where_the_destination_says_at_that_moment(place: Place) -> None:
    moved, dropped, deleted = [await place.destination("/old") for _ in range(3)]
    notices = [await place.tell(one) for one in (moved, dropped, deleted)]
    change = "update export_destinations set {} where destination_id = $1 returning true"
    new = json.dumps({"webhook_url": place.server.url("/hook")})
    await place.rows(change.format("definition = $2::jsonb"), moved, new)
    await place.rows(change.format("definition = '{}'"), dropped)
    await place.rows(change.format("deleted_at = now()"), deleted)

    await place.send_due()

    assert [asked.path for asked in place.server.asked] == ["/hook"]
    states = [await place.state(one) for one in notices]
    assert [state["delivered_at"] for state in states] == [NOON, None, None]
    assert [state["given_up_at"] for state in states] == [None, NOON, NOON]
    assert states[1]["error"] == "the destination has no webhook any more"


async def test_processes_that_look_at_once_send_each_notice_once(place: Place) -> None:
    for _ in range(12):
        destination = await place.destination()
        for _ in range(3):
            await place.tell(destination)

    async def work() -> None:
        async with place.notifier() as notifier:
            while await notifier.send_due():
                pass

    await asyncio.gather(*(work() for _ in range(4)))
    await work()

    ids = [asked.headers["webhook-id"] for asked in place.server.asked]
    assert (len(ids), len(set(ids))) == (36, 36)
    assert place.count("delivered") == 36


async def test_a_secret_that_cannot_be_read_is_waited_for(place: Place) -> None:
    notice = await place.tell(await place.destination())
    keys = place.home / "master-keys.json"
    away = keys.rename(place.home / "away.json")

    await place.send_due()
    state = await place.state(notice)
    assert place.server.asked == []
    assert "secret cannot be read" in state["error"]

    away.rename(keys)
    place.now = state["next_attempt_at"]
    await place.send_due()
    assert (await place.state(notice))["delivered_at"] == place.now


async def test_a_secret_that_was_moved_on_to_a_newer_key_still_signs(place: Place) -> None:
    destination = await place.destination()
    keys = place.home / "master-keys.json"
    add_master_key(keys)
    buckets = ExportBuckets(place.engine, LocalSecrets(place.home), True, Pace())
    assert await buckets.rewrap() == 1
    content = json.loads(keys.read_text())
    del content["keys"]["1"]
    keys.write_text(json.dumps(content))
    await place.tell(destination)

    await place.send_due()

    [asked] = place.server.asked
    assert is_signed(asked, place.secrets[destination])


async def test_neither_secret_nor_path_of_a_webhook_is_told_to_anybody(place: Place) -> None:
    place.server.at("/hook-7f3a", text(b"", status=500))
    destination = await place.destination("/hook-7f3a?token=7f3b")
    notice = await place.tell(destination)
    secret = place.secrets[destination].removeprefix("whsec_")

    with capture_logs() as lines:
        await place.send_due()
        place.server.at("/hook-7f3a", hang_up)
        place.now += timedelta(minutes=1)
        await place.send_due()

    state = await place.state(notice)
    assert state["attempts"] == 2
    said = repr(lines) + repr(state)
    assert not any(hidden in said for hidden in (secret, "7f3a", "7f3b"))


async def test_notices_are_kept_for_as_long_as_they_wait(place: Place) -> None:
    place.server.at("/broken", text(b"", status=500))
    waiting = await place.tell(await place.destination("/broken"))
    done = [await place.tell(await place.destination()) for _ in range(3)]
    await place.send_due()

    later = NOON + timedelta(days=30)
    assert await expire_notices(place.engine, NOON, limit=10) == 0
    assert await expire_notices(place.engine, later, limit=2) == 2
    assert await expire_notices(place.engine, later, limit=2) == 1
    assert await expire_notices(place.engine, later, limit=2) == 0
    assert await place.rows("select notice_id from export_notices") == [(waiting,)]
    assert None not in done


async def test_notices_are_sent_by_themselves_also_after_the_ledger_was_away(
    place: Place,
) -> None:
    login = Login(make_url(place.database.url(WRITER)), WRITER)
    rules = NoticeRules(allow_private=True, look_every=timedelta(seconds=0.1))
    envelope, metrics = LocalSecrets(place.home).envelope, place.metrics.notices
    server, name = await place.database.server_connection(), place.database.name
    destination = await place.destination()
    async with open_export_notifier(login, envelope, metrics, lambda: place.now, rules):
        await place.until_delivered(await place.tell(destination))
        gate = place.server.at("/hook", Gated(OK))
        lost = await place.tell(destination)
        async with asyncio.timeout(SECONDS):
            await gate.arrived.wait()
        await server.execute(f"alter database {name} allow_connections false")
        await server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name
        )
        gate.gate.set()
        await asyncio.sleep(0.5)
        await server.execute(f"alter database {name} allow_connections true")
        await server.close()
        # Its hold ends by the ledger's clock, which nobody turns forward here.
        await place.rows("update export_notices set held_until = now() returning true")
        await place.until_delivered(lost)
        await place.until_delivered(await place.tell(destination))

    ids = [asked.headers["webhook-id"] for asked in place.server.asked]
    assert ids.count(str(lost)) == 2


async def test_a_process_that_is_killed_between_sending_and_noting_it_has_it_sent_again(
    place: Place,
) -> None:
    gate = place.server.at("/hook", Gated(OK))
    destination = await place.destination()
    place.now = datetime.now(UTC)
    notice = await place.tell(destination)
    arguments = (place.database.url(WRITER), str(place.home), "5")

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.data.notifier_process", *arguments),
            cwd=ROOT,
            env=clean_environment(place.home),
        )

    first = await start()
    try:
        async with asyncio.timeout(SECONDS):
            await gate.arrived.wait()
    finally:
        first.kill()
        await first.wait()
    assert (await place.state(notice))["attempts"] == 0
    gate.gate.set()
    second = await start()
    try:
        state = await place.until_delivered(notice)
    finally:
        second.kill()
        await second.wait()

    assert (state["attempts"], state["hold_id"]) == (1, 2)
    sent = place.server.asked
    assert [one.headers["webhook-id"] for one in sent] == [str(notice)] * 2
    assert all(is_signed(one, place.secrets[destination]) for one in sent)


async def test_a_process_that_was_frozen_changes_nothing_of_what_another_has_noted(
    place: Place,
) -> None:
    gate = place.server.at("/hook", Gated(OK))
    notice = await place.tell(await place.destination())
    first = asyncio.create_task(place.send_due())
    async with asyncio.timeout(SECONDS):
        await gate.arrived.wait()
    # As if its hold had ended long ago.
    await place.rows("update export_notices set held_until = now() returning true")
    place.server.at("/hook", text(b"", status=500))
    place.now += timedelta(minutes=1)
    assert await place.send_due() == 1
    before = await place.state(notice)

    gate.gate.set()
    assert await first == 1

    assert await place.state(notice) == before
    assert (before["attempts"], before["http_status"]) == (1, 500)
