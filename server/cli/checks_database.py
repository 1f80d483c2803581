"""What `footfall doctor` asks the ledger, and how far the columnar copies are behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from data.duckdb.copy_file import CopyInUse, CopyUnusable
from data.duckdb.store import open_copy
from data.event_store import StoreUnavailable
from data.postgres.checkup import can_write, partitions_until, server_of
from data.postgres.feed import feed_state
from data.postgres.ledger import Ledger, LedgerUrls, ledger_urls, open_ledger
from data.postgres.migrate import pending
from data.postgres.reads import Replica
from data.slots import is_taken
from server.cli.checks import Check, Status, problem_of
from server.cli.rebuild import slots_in
from server.cli.session import opened_address
from server.cli.terminal import waiting
from server.clock import utc_now
from server.settings import Settings

_OLDEST_POSTGRES = 15
_CLOCK_TOLERANCE = timedelta(seconds=2)
_REBUILD = "run `footfall rebuild`"


async def database_checks(settings: Settings) -> list[Check]:
    """The ledger and everything that hangs on it; stops at the first thing that is down."""
    checks: list[Check] = []
    try:
        with waiting("Asking the database"):
            async with opened_address(settings) as address, ledger_urls(address) as urls:
                async for check in _server_checks(settings, urls):
                    checks.append(check)
                    if check.status is Status.PROBLEM:
                        return checks
                async with open_ledger(address) as ledger:
                    async for check in _ledger_checks(settings, ledger):
                        checks.append(check)  # noqa: PERF401 - kept when a later one fails
    except Exception as error:  # noqa: BLE001 - raised again unless it is an expected one
        checks.append(problem_of("database", error))
    return checks


async def _server_checks(settings: Settings, urls: LedgerUrls) -> AsyncIterator[Check]:
    asked = utc_now()
    server = await server_of(urls.admin)
    answered = utc_now()
    place = "at DATABASE_URL" if settings.database_url else f"embedded in {settings.home}"
    yield Check(
        "database",
        Status.OK if server.major >= _OLDEST_POSTGRES else Status.PROBLEM,
        f"PostgreSQL {server.version.split()[0]}, {place}",
        None if server.major >= _OLDEST_POSTGRES else f"move to {_OLDEST_POSTGRES} or newer",
    )
    # Whatever the answer took on its way, the clocks agree if the server's lies in between.
    apart = max(asked - server.now, server.now - answered, timedelta(0))
    is_close = apart <= _CLOCK_TOLERANCE
    yield Check(
        "clock",
        Status.OK if is_close else Status.WARNING,
        f"{apart.total_seconds():.1f} s apart from the database's",
        None if is_close else "synchronise the clocks of both machines by NTP",
    )
    missing = await pending(urls.admin)
    if not missing:
        yield Check("migrations", Status.OK, "all applied")
    elif settings.database_url:
        yield Check(
            "migrations", Status.PROBLEM, f"{len(missing)} missing", "run `footfall migrate`"
        )
    else:
        yield Check("migrations", Status.OK, f"{len(missing)} applied just now")


async def _ledger_checks(settings: Settings, ledger: Ledger) -> AsyncIterator[Check]:
    for check in (await _writer(ledger), await _reader(ledger), await _partitions(ledger)):
        yield check
    state = await feed_state(ledger.writer, 0)
    if ledger.reads.replica is not None:
        yield _replica(ledger.reads.replica, state.newest)
    for slot in slots_in(settings.home / "columnar"):
        yield await _columnar(slot, ledger, state.newest)


async def _writer(ledger: Ledger) -> Check:
    if await can_write(ledger.writer):
        return Check("writer role", Status.OK, "footfall_writer can write")
    return Check(
        "writer role",
        Status.PROBLEM,
        "footfall_writer cannot write",
        "let DATABASE_URL name the primary, and grant the role what the migrations grant it",
    )


async def _reader(ledger: Ledger) -> Check:
    if not await can_write(ledger.reads.primary):
        return Check("reader role", Status.OK, "replica_user can only read")
    return Check(
        "reader role",
        Status.PROBLEM,
        "replica_user can write",
        "revoke insert, update and delete on all tables from replica_user",
    )


async def _partitions(ledger: Ledger) -> Check:
    newest, today = await partitions_until(ledger.writer), utc_now().date()
    if newest is None:
        return Check("partitions", Status.OK, "none yet: the service makes them when it starts")
    words = f"ready through {newest:%B %Y}"
    if newest > today:
        return Check("partitions", Status.OK, words)
    advice = "start the service: it makes them ahead of need"
    return Check("partitions", Status.WARNING, words, advice)


def _replica(replica: Replica, newest: int) -> Check:
    # The ledger has looked at it while it was being opened.
    seen = replica.state
    if seen is None:
        return Check(
            "replica",
            Status.WARNING,
            f"REPLICA_DATABASE_URL cannot be read from ({replica.reason})",
            "start it, or let the URL name a hot standby of DATABASE_URL; until then reads go to "
            "the primary",
        )
    behind = newest - seen.newest
    if behind <= 0:
        return Check("replica", Status.OK, "a standby that has every commit")
    since = f", the last one {seen.lag:.1f} s old" if seen.lag is not None else ""
    return Check(
        "replica",
        Status.WARNING,
        f"a standby that lacks {behind:,} commits{since}",
        "run this again; if the number does not fall, see the standby's log",
    )


async def _columnar(slot: Path, ledger: Ledger, newest: int) -> Check:
    name = f"columnar copy {slot.name}"
    if is_taken(slot):
        return Check(name, Status.OK, "in use by a running service: see its /health")
    current = _current_copy(slot)
    if current is None:
        return Check(name, Status.OK, "none yet: the service makes it")
    try:
        async with open_copy(current, ledger_id=str(ledger.ledger_id)) as store:
            watermark = await store.watermark()
            size = await store.size()
    except (CopyUnusable, StoreUnavailable) as error:
        return Check(name, Status.WARNING, str(error), f"{_REBUILD}, or let the service do it")
    except CopyInUse:
        return Check(name, Status.OK, "in use by a running process")
    behind = newest - (watermark.position if watermark else 0)
    words = f"{behind:,} commits behind" if behind > 0 else "complete"
    if behind < 0:
        return Check(name, Status.WARNING, "ahead of the ledger", _REBUILD)
    return Check(name, Status.OK, f"{size / 1024**2:,.1f} MB, {words}")


def _current_copy(slot: Path) -> Path | None:
    """The newest file of a slot that nobody works on; older ones are remainders."""
    numbers = [path.stem.removeprefix("copy-") for path in slot.glob("copy-*.duckdb")]
    newest = max((int(number) for number in numbers if number.isdecimal()), default=None)
    return None if newest is None else slot / f"copy-{newest}.duckdb"
