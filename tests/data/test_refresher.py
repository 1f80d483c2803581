"""Refreshes from end to end: real sources, real ledger, and processes that share both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from prometheus_client import generate_latest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from data.breaker import BreakerState
from data.local_secrets import LocalSecrets, NamedSecrets
from data.outbound.addresses import resolve
from data.outbound.client import open_outbound
from data.postgres.engine import WRITER, Login, transaction
from data.postgres.sources import StoredSource, delete_source, save_source, source_by_key
from data.refresher import Refresher, RefreshRules, open_refresher
from data.source_refresh import RefreshMeans, RefreshPace
from data.sources.fetch import Pace
from data.sources.fetched import Progress
from data.sources.source import Header, Paging, PagingKind, Source
from telemetry.metrics import Metrics
from tests.fixtures import source_answers as answers
from tests.fixtures.ledger import Database
from tests.fixtures.source_server import SourceServer

SECONDS = 60
IMPATIENT = Pace(tries=2, first_wait=0.01, longest_wait=1)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Place:
    """A ledger, a server of sources, and refreshers as those of several processes."""

    database: Database
    engine: AsyncEngine
    server: SourceServer
    home: Path
    metrics: Metrics = field(default_factory=Metrics.create)

    @asynccontextmanager
    async def refresher(
        self, *, allow_private: bool = True, **pace: Any
    ) -> AsyncIterator[Refresher]:
        """One more process."""
        login = Login(make_url(self.database.url(WRITER)), WRITER)
        chosen = RefreshPace(**({"fetch": IMPATIENT} | pace))
        rules = RefreshRules(allow_private=allow_private, pace=chosen)
        secrets = LocalSecrets(self.home)
        async with open_refresher(login, secrets, self.metrics.sources, now, rules) as opened:
            yield opened

    @asynccontextmanager
    async def ledger_away(self) -> AsyncIterator[None]:
        """Nobody reaches the ledger until the block is left."""
        server, name = await self.database.server_connection(), self.database.name
        await server.execute(f"alter database {name} allow_connections false")
        await server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name
        )
        try:
            yield
        finally:
            await server.execute(f"alter database {name} allow_connections true")
            await server.close()

    async def save(self, key: str, handler: Any = None, **fields: Any) -> Source:
        """A source of the server, with what it answers."""
        if handler is not None:
            self.server.at(f"/{key}", handler)
        source = Source(key=key, url=self.server.url(f"/{key}"), **fields)
        async with transaction(self.engine) as connection:
            await save_source(connection, source, now(), is_declared=False)
        return source

    async def source(self, key: str) -> StoredSource:
        """A source as it is now."""
        stored = await source_by_key(self.engine, key, now())
        assert stored is not None
        return stored

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the ledger holds."""
        connection = await self.database.connect()
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    async def ids(self, key: str) -> list[str]:
        """The external ids of the records that a source has."""
        rows = await self.rows(
            "select external_id from source_records"
            " where source_key = $1 and vanished_at is null order by external_id",
            key,
        )
        return [external_id for (external_id,) in rows]

    async def audits(self, key: str) -> list[tuple[str, str | None]]:
        """Outcome and error of every attempt, in order."""
        rows = await self.rows(
            "select outcome, error from source_audits where source_key = $1 order by audit_id", key
        )
        return [(outcome, error) for outcome, error in rows]

    async def until(self, key: str, holds: Callable[[StoredSource], bool]) -> StoredSource:
        """The source as soon as something holds of it."""
        async with asyncio.timeout(SECONDS):
            while not holds(stored := await self.source(key)):
                await asyncio.sleep(0.02)
            return stored

    def metric(self, name: str) -> float:
        """The value of one series."""
        page = generate_latest(self.metrics.registry).decode()
        values = [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith(name)]
        return float(values[0]) if values else 0.0


@pytest_asyncio.fixture
async def place(
    database: Database, writer: AsyncEngine, source_server: SourceServer, tmp_path: Path
) -> Place:
    """An empty ledger beside a server of sources."""
    return Place(database, writer, source_server, tmp_path)


def items(*ids: str) -> answers.Items:
    return answers.Items([{"id": one, "n": 1} for one in ids])


async def test_what_is_due_is_refreshed_and_then_waits_for_its_interval(place: Place) -> None:
    prices = items("a", "b")
    await place.save("prices", prices, refresh_seconds=600)
    async with place.refresher() as refresher:
        assert await refresher.begin_due(now()) == 1
        stored = await place.until("prices", lambda one: one.state.records == 2)
        assert await refresher.begin_due(now()) == 0

        prices.records = [{"id": "b", "n": 2}, {"id": "c", "n": 3}]
        (audit,) = await refresher.refresh(["prices"], seconds=SECONDS)

    assert stored.state.next_attempt_at is not None
    assert stored.state.next_attempt_at > now()
    assert await place.ids("prices") == ["b", "c"]
    counted = await place.rows(
        "select seen, added, changed, vanished, http_status, pages, is_complete"
        " from source_audits where audit_id = $1",
        audit,
    )
    assert counted == [(2, 1, 1, 1, 200, 1, True)]
    refreshes = 'footfall_source_refreshes_total{outcome="SUCCESS",source="prices"}'
    assert place.metric(refreshes) == 2
    changes = 'footfall_source_record_changes_total{kind="added",source="prices"}'
    assert place.metric(changes) == 3
    assert place.metric('footfall_source_records{source="prices"}') == 2


async def test_a_source_that_has_nothing_new_is_seen_again_and_nothing_is_written(
    place: Place,
) -> None:
    await place.save("prices", items("a"))
    async with place.refresher() as refresher:
        await refresher.refresh(["prices"], seconds=SECONDS)
        first = await place.source("prices")
        await refresher.refresh(["prices"], seconds=SECONDS)

    second = await place.source("prices")
    assert place.server.asked[1].headers["if-none-match"]
    statuses = await place.rows("select http_status, seen from source_audits order by audit_id")
    assert statuses == [(200, 1), (304, 1)]
    assert first.state.last_complete_at is not None
    assert second.state.last_complete_at is not None
    assert second.state.last_complete_at > first.state.last_complete_at
    assert await place.rows("select count(*) from source_changes") == [(1,)]


@pytest.mark.parametrize(
    ("handler", "status", "word"),
    [
        (answers.html(), 200, "web page"),
        (answers.text("no", status=500), 500, "500"),
        (answers.text("no", status=404), 404, "404"),
        (answers.hang, None, "within"),
        (answers.hang_midway, 200, "within"),
        (answers.half_body, 200, "broke off"),
        (answers.huge(), 200, "larger"),
        (answers.bomb(), 200, "larger"),
        (answers.as_json([{"id": 1}, {"id": 1}]), 200, "1"),
        (answers.redirect("http://127.0.0.1:1/"), None, ""),
    ],
)
async def test_a_source_that_does_not_do_as_it_should_leaves_its_records_as_they_were(
    place: Place, handler: Any, status: int | None, word: str
) -> None:
    await place.save("prices", items("a", "b"), max_bytes=100_000, timeout_seconds=30)
    async with place.refresher() as refresher:
        await refresher.refresh(["prices"], seconds=SECONDS)
        place.server.at("/prices", handler)
        if handler in (answers.hang, answers.hang_midway):
            await place.save("prices", max_bytes=100_000, timeout_seconds=2.5)
        await refresher.refresh(["prices"], seconds=SECONDS)

    assert await place.ids("prices") == ["a", "b"]
    (outcome, error) = (await place.audits("prices"))[1]
    assert (outcome, word in (error or "")) == ("FAILURE", True), error
    assert await place.rows(
        "select http_status from source_audits order by audit_id desc limit 1"
    ) == [(status,)]
    state = (await place.source("prices")).state
    assert (state.failures, state.records, state.breaker) == (1, 2, BreakerState.CLOSED)
    failures = 'footfall_source_refreshes_total{outcome="FAILURE",source="prices"}'
    assert place.metric(failures) == 1


async def test_a_source_on_a_private_address_is_not_asked(place: Place) -> None:
    await place.save("prices", items("a"))
    address = place.server.url("/prices", "localhost")
    await place.rows(
        "update sources set definition = jsonb_set(definition, '{url}', to_jsonb($1::text))",
        address,
    )
    async with place.refresher(allow_private=False) as refresher:
        await refresher.refresh(["prices"], seconds=SECONDS)

    assert place.server.asked == []
    ((outcome, error),) = await place.audits("prices")
    assert outcome == "FAILURE"
    assert "localhost is at 127.0.0.1" in (error or "")
    assert (await place.source("prices")).state.failures == 1


async def test_a_redirect_to_a_private_address_is_not_followed(place: Place) -> None:
    async def resolving(host: str, port: int) -> list[str]:
        # As if one address of this machine were public.
        return await resolve(host, port, allow_private=host == "127.0.0.1")

    prices = items("a")
    await place.save("prices", prices)
    place.server.at("/inside", items("secret"))
    async with open_outbound(allow_private=False, resolving=resolving) as outbound:
        secrets = LocalSecrets(place.home)
        means = RefreshMeans(place.engine, outbound, secrets, place.metrics.sources, now)
        refresher = Refresher(means, RefreshRules(pace=RefreshPace(fetch=IMPATIENT)))
        await refresher.refresh(["prices"], seconds=SECONDS)
        inside = place.server.url("/inside", "localhost")
        place.server.at("/prices", answers.redirect(inside))
        await refresher.refresh(["prices"], seconds=SECONDS)
        await refresher.close()

    assert place.server.asked_for("/inside") == []
    assert await place.ids("prices") == ["a"]
    assert [outcome for outcome, _ in await place.audits("prices")] == ["SUCCESS", "FAILURE"]


async def test_a_source_is_left_alone_for_as_long_as_it_asks(place: Place) -> None:
    limited = answers.Failing(429, 9, items("a"), retry_after="3600")
    await place.save("prices", limited, refresh_seconds=10)
    async with place.refresher() as refresher:
        await refresher.refresh(["prices"], seconds=SECONDS)

    state = (await place.source("prices")).state
    assert state.next_attempt_at is not None
    assert state.next_attempt_at > now() + timedelta(minutes=59)
    assert len(place.server.asked) == 1


async def test_the_breaker_opens_skips_tries_and_closes_for_all_processes(place: Place) -> None:
    broken = answers.Failing(500, 4, items("a"))
    await place.save(
        "prices", broken, breaker_failures=2, breaker_seconds=2, refresh_seconds=86_400
    )
    async with place.refresher() as one, place.refresher() as other:
        await one.refresh(["prices"], seconds=SECONDS)
        assert (await place.source("prices")).state.breaker is BreakerState.CLOSED
        await other.refresh(["prices"], seconds=SECONDS)
        assert (await place.source("prices")).state.breaker is BreakerState.OPEN
        asked = len(place.server.asked)

        await one.refresh(["prices"], seconds=SECONDS)
        await other.refresh(["prices"], seconds=SECONDS)
        assert len(place.server.asked) == asked
        await place.until("prices", lambda it: it.state.breaker is BreakerState.HALF_OPEN)
        await other.refresh(["prices"], seconds=SECONDS)

    assert (await place.source("prices")).state.breaker is BreakerState.CLOSED
    assert [outcome for outcome, _ in await place.audits("prices")] == [
        "FAILURE",
        "FAILURE",
        "SKIPPED_BREAKER_OPEN",
        "SKIPPED_BREAKER_OPEN",
        "SUCCESS",
    ]
    for state in ("open", "half_open", "closed"):
        series = f'footfall_source_breaker_changes_total{{source="prices",state="{state}"}}'
        assert place.metric(series) == 1


async def test_while_a_trial_is_under_way_it_shows(place: Place) -> None:
    gated = answers.Gated(items("a"))
    await place.save("prices", answers.text("no", status=404), breaker_failures=1)
    async with place.refresher() as refresher:
        await refresher.refresh(["prices"], seconds=SECONDS)
        await place.rows("update source_states set opened_at = opened_at - interval '1 hour'")
        place.server.at("/prices", gated)
        await refresher.begin(["prices"])
        await asyncio.wait_for(gated.arrived.wait(), SECONDS)
        stored = await place.source("prices")
        assert (stored.state.breaker, stored.state.is_held) == (BreakerState.HALF_OPEN, True)
        gated.gate.set()
        await place.until("prices", lambda it: it.state.breaker is BreakerState.CLOSED)


async def test_two_processes_never_refresh_one_source_at_once_and_wait_for_each_other(
    place: Place,
) -> None:
    gated = answers.Gated(items("a"))
    await place.save("prices", gated)
    async with place.refresher() as one, place.refresher() as other:
        assert await one.begin(["prices"]) == ["prices"]
        await asyncio.wait_for(gated.arrived.wait(), SECONDS)
        assert await other.begin(["prices"]) == []
        assert await other.begin_due(now()) == 0
        assert await other.refresh(["prices"], seconds=0.3) == []
        waiting = asyncio.create_task(other.refresh(["prices"], seconds=SECONDS))
        await asyncio.sleep(0.3)
        assert len(place.server.asked) == 1
        gated.gate.set()
        (audit,) = await waiting

    assert await place.rows("select audit_id from source_audits") == [(audit,)]


async def test_no_more_sources_are_fetched_at_a_time_than_the_pace_allows(place: Place) -> None:
    gates = [answers.Gated(items("a")) for _ in range(5)]
    for number, gate in enumerate(gates):
        await place.save(f"s{number}", gate)
    async with place.refresher(fetches=2) as refresher:
        assert await refresher.begin_due(now()) == 5
        await asyncio.wait_for(gates[0].arrived.wait(), SECONDS)
        await asyncio.wait_for(gates[1].arrived.wait(), SECONDS)
        await asyncio.sleep(0.2)
        assert not any(gate.arrived.is_set() for gate in gates[2:])
        for gate in gates:
            gate.gate.set()
        assert len(await refresher.refresh(None, seconds=SECONDS)) == 5


async def test_sources_that_hang_do_not_hold_up_those_that_do_not(place: Place) -> None:
    for key in ("a-hangs", "b-hangs", "well"):
        await place.save(key, answers.text("no", status=404))
    async with place.refresher(fetches=2) as refresher:
        await refresher.refresh(["a-hangs", "b-hangs"], seconds=SECONDS)
        gates = [answers.Gated(items("a")) for _ in range(2)]
        place.server.at("/a-hangs", gates[0])
        place.server.at("/b-hangs", gates[1])
        place.server.at("/well", items("a"))
        await refresher.begin(["a-hangs", "b-hangs"])
        await asyncio.wait_for(gates[0].arrived.wait(), SECONDS)

        (audit,) = await refresher.refresh(["well"], seconds=SECONDS)

        assert audit
        assert not gates[1].arrived.is_set()
        for gate in gates:
            gate.gate.set()
        assert len(await refresher.refresh(None, seconds=SECONDS)) == 3


async def test_many_sources_that_hang_leave_room_for_those_that_do_not(place: Place) -> None:
    keys = [f"hangs-{number}" for number in range(250)]
    url = place.server.url("/hangs")
    async with transaction(place.engine) as connection:
        for key in keys:
            await save_source(connection, Source(key=key, url=url), now(), is_declared=False)
    await place.rows("update source_states set failures = 1")
    place.server.at("/hangs", answers.Gated(items("a")))
    async with place.refresher() as refresher:
        # Nothing of theirs ends in the meantime.
        assert await refresher.begin_due(now()) == 200
        assert await refresher.begin_due(now()) == 0
        await place.save("well", items("a"))
        assert await refresher.begin_due(now()) == 1
        await place.until("well", lambda it: it.state.records == 1)


async def test_what_the_ledger_refuses_and_what_secrets_lack_is_told_without_their_words(
    place: Place,
) -> None:
    NamedSecrets(place.home).set("token", "geheim")
    (place.home / "named-secrets.json").write_text("{")
    await place.save("prices", items("a"), headers=(Header("X-Token", secret="token"),))
    await place.save("odd", items("a"))
    await place.rows(
        "alter table source_records add constraint odd check (source_key <> 'odd' or seen_at is null)"
    )
    async with place.refresher() as refresher:
        await refresher.refresh(None, seconds=SECONDS)

    log = "the log of the service says why"
    assert await place.audits("prices") == [
        ("FAILURE", f"the secrets of its headers cannot be read now; {log}")
    ]
    assert await place.audits("odd") == [
        ("FAILURE", f"the ledger does not take what the source sent; {log}")
    ]


async def test_progress_shows_while_pages_come_in(place: Place) -> None:
    paged = answers.Paged([{"id": n} for n in range(4)], 2, "link")
    gated = answers.Gated(paged)
    await place.save("prices", gated, paging=Paging(PagingKind.LINK_HEADER))
    async with place.refresher(show_every=0.05) as refresher:
        await refresher.begin(["prices"])
        await place.until(
            "prices",
            lambda it: it.state.is_held and it.state.progress == Progress(tries=1),
        )
        gated.gate.set()
        stored = await place.until("prices", lambda it: it.state.records == 4)

    assert stored.state.progress is None
    assert (await place.rows("select pages, tries from source_audits")) == [(2, 2)]


async def test_a_secret_is_sent_and_one_that_is_missing_is_a_failure_by_name(
    place: Place,
) -> None:
    NamedSecrets(place.home).set("prices_token", "geheim")
    headers = (Header("X-Token", "Bearer {}", "prices_token"),)
    await place.save("prices", items("a"), headers=headers)
    await place.save("other", items("a"), headers=(Header("X-Token", secret="unset"),))
    async with place.refresher() as refresher:
        await refresher.refresh(None, seconds=SECONDS)

    (asked,) = place.server.asked
    assert asked.headers["x-token"] == "Bearer geheim"
    ((outcome, error),) = await place.audits("other")
    assert outcome == "FAILURE"
    assert "unset" in (error or "")


async def test_a_source_that_is_changed_or_deleted_while_it_is_fetched_is_let_go(
    place: Place,
) -> None:
    changed, deleted = answers.Gated(items("a")), answers.Gated(items("b"))
    source = await place.save("changed", changed)
    await place.save("deleted", deleted)
    async with place.refresher(show_every=0.05, renew_every=0.05) as refresher:
        await refresher.begin(None)
        await asyncio.gather(changed.arrived.wait(), deleted.arrived.wait())
        async with transaction(place.engine) as connection:
            off = msgspec.structs.replace(source, enabled=False)
            await save_source(connection, off, now(), is_declared=False)
            await delete_source(connection, "deleted")
        await place.until("changed", lambda it: not it.state.is_held)
        assert await refresher.begin(None) == []

    ((outcome, error),) = await place.audits("changed")
    assert outcome == "FAILURE"
    assert "was changed" in (error or "")
    assert await place.rows("select * from source_records") == []


async def test_a_process_that_closes_leaves_its_work_to_others_at_once(place: Place) -> None:
    gated = answers.Gated(items("a"))
    await place.save("prices", gated)
    async with place.refresher() as one:
        await one.begin(["prices"])
        await asyncio.wait_for(gated.arrived.wait(), SECONDS)
    place.server.at("/prices", items("a"))

    async with place.refresher() as other:
        assert await other.begin_due(now()) == 1
        await place.until("prices", lambda it: it.state.records == 1)

    assert [outcome for outcome, _ in await place.audits("prices")] == ["FAILURE", "SUCCESS"]


async def test_a_refresher_outlives_a_ledger_that_does_not_answer_for_a_while(
    place: Place,
) -> None:
    gated = answers.Gated(items("a"))
    await place.save("prices", gated)
    async with place.refresher() as refresher:
        await refresher.begin(["prices"])
        await asyncio.wait_for(gated.arrived.wait(), SECONDS)
        async with place.ledger_away():
            gated.gate.set()
            await asyncio.sleep(1)
        await place.until("prices", lambda it: it.state.records == 1)


async def test_whoever_cannot_renew_its_claim_stops_fetching_before_it_ends(
    place: Place,
) -> None:
    gated = answers.Gated(items("a"))
    await place.save("prices", gated)
    # So that 3 seconds without the ledger are enough.
    async with place.refresher(show_every=0.1, renew_every=0.5, renewal=11.9) as refresher:
        await refresher.begin(["prices"])
        await asyncio.wait_for(gated.arrived.wait(), SECONDS)
        running = "footfall_source_running_refreshes"
        assert place.metric(running) == 1
        async with place.ledger_away(), asyncio.timeout(SECONDS):
            while place.metric(running):
                await asyncio.sleep(0.05)
        # By the ledger's clock it is still held.
        assert (await place.source("prices")).state.is_held

    assert await place.audits("prices") == []


async def test_a_source_that_does_not_exist_is_no_more_waited_for_than_one_switched_off(
    place: Place,
) -> None:
    await place.save("off", items("a"), enabled=False)
    async with place.refresher() as refresher:
        assert await refresher.refresh(["off", "unknown"], seconds=SECONDS) == []

    assert place.server.asked == []


async def test_history_is_kept_for_as_long_as_the_rules_say(place: Place) -> None:
    await place.save("prices", items("a"))
    async with place.refresher() as refresher:
        await refresher.refresh(None, seconds=SECONDS)
        assert await refresher.expire(now() + timedelta(days=29)) == (0, 0)
        assert await refresher.expire(now() + timedelta(days=31)) == (1, 0)
        assert await refresher.expire(now() + timedelta(days=91)) == (0, 1)

    assert await place.ids("prices") == ["a"]
