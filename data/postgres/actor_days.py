"""Who was active on which day, brought forward along the change feed, and the view refreshed.

Days are cut by offsets that `data.calendar` finds, never by PostgreSQL's own time zones, so that
the view and the columnar copy mean the same days (decision 6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import UnknownZone, offsets_between, zone_of
from data.postgres.engine import driver_connection

# The calendar does not go further back; no report can ask for such days.
_FIRST = datetime(1, 1, 3, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Years of sites whose days are found before the server hears of us again: a tenth of a second.
_YEARS_AT_ONCE = 50

# Events are found by their batch. The planner would read whole tables before it has statistics.
_SETTINGS = """
select
    set_config('enable_seqscan', 'off', true),
    set_config('work_mem', '64MB', true),
    set_config('lock_timeout', '2s', true),
    set_config('statement_timeout', $1, true)
"""

# Whoever has this row is the only one who changes anything here.
_TAKE = """
select
    position,
    now() as started_at,
    coalesce(refreshed_at + make_interval(secs => refresh_seconds * $1) > now(), false) as rests
from daily_users_state
for update skip locked
"""

_BATCHES = """
select position, batch_id, committed_at
from (
    select *, sum(events) over (order by position) - events as events_before
    from (
        select * from ingest_batches
        where position > $1 and position <= $2
        order by position
        limit $3
    ) as following
) as counted
where events_before < $3
order by position
"""
_NO_END = 2**63 - 1

# After the batches: the site of an event was there before the event.
_ADD_SITES = """
insert into daily_users_sites (site_id, timezone)
select site_id, timezone from sites
where not exists (select from daily_users_sites as known where known.site_id = sites.site_id)
on conflict do nothing
"""
_MARK_OTHER_CLOCKS = """
update daily_users_sites as known
set timezone = sites.timezone, refilled_to = -1
from sites
where sites.site_id = known.site_id and sites.timezone <> known.timezone
"""
_SITES = "select site_id, timezone, refilled_to from daily_users_sites order by site_id"

_WHEN = """
select site_id, min(occurred_at) as first, max(occurred_at) as last
from events
where batch_id = any($1) and site_id = any($2) and occurred_at >= $3
group by site_id, extract(year from occurred_at at time zone 'UTC')
"""

_FILL = """
insert into actor_days (site_id, day, actor)
select distinct
    events.site_id,
    ((events.occurred_at at time zone 'UTC') + spans.utc_offset)::date,
    coalesce(events.user_id, events.visitor_id)
from events
join unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::interval[])
    as spans (site_id, starts_at, ends_at, utc_offset)
    on spans.site_id = events.site_id
    and events.occurred_at >= spans.starts_at
    and events.occurred_at < spans.ends_at
where events.batch_id = any($1) and coalesce(events.user_id, events.visitor_id) is not null
order by 1, 2, 3
on conflict do nothing
"""

_FORGET = """
delete from actor_days
where ctid = any (array (select ctid from actor_days where site_id = any($1) limit $2))
"""
_MARK_REFILLED = "update daily_users_sites set refilled_to = $2 where site_id = any($1)"

_KEEP = """
update daily_users_state
set position = $1,
    through = greatest(through, $2),
    refreshed_at = case when $3::double precision is null then refreshed_at else now() end,
    refresh_seconds = coalesce($3, refresh_seconds)
"""

_REFILL = """
update daily_users_sites set refilled_to = -1 where site_id = any($1) and refilled_to is null
"""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much one transaction does at most, and how long to rest after a refresh.

    Slices are of `slice_events` events, taken for `seconds` before the view is refreshed; one is
    taken in any case. Between
    two refreshes lie `rest` times as many seconds as the last one took.
    """

    slice_events: int = 20_000
    seconds: float = 10.0
    rest: float = 9.0
    refresh_seconds: float = 120.0


@dataclass(slots=True)
class Advance:
    """What one transaction did: how far the view is now, and what that took.

    `added` actor days are new. `view_rows` and `refresh_seconds` are None where nothing had
    changed. `is_complete`: no batch was left, and no site had to be filled anew.
    """

    position: int
    through: datetime
    added: int = 0
    view_rows: int | None = None
    refresh_seconds: float | None = None
    is_complete: bool = False


async def advance(engine: AsyncEngine, effort: Effort | None = None) -> Advance | None:
    """Bring actor days forward for some seconds and refresh the view, in one transaction.

    None where another process is at it, or where the last refresh was too recent for what it took.
    Nothing that ingest waits for is locked. Raises `LedgerUnavailable`.
    """
    effort = effort or Effort()
    async with driver_connection(engine) as connection, connection.transaction():
        milliseconds = str(int(effort.refresh_seconds * 1_000))
        await connection.fetchrow(_SETTINGS, milliseconds)
        state = await connection.fetchrow(_TAKE, effort.rest)
        if state is None or state["rests"]:
            return None
        filling = _Filling(connection, effort, state["position"], state["started_at"])
        return await filling.run()


async def refill(engine: AsyncEngine, site_ids: Sequence[str]) -> None:
    """Have the rows of these sites made anew by the next `advance`; until then they don't count."""
    async with driver_connection(engine) as connection, connection.transaction():
        await connection.execute("set local lock_timeout = '5s'")
        await connection.execute(_REFILL, list(site_ids))


@dataclass(slots=True)
class _Filling:
    """One transaction at work. `started_at` is older than anything that it reads."""

    connection: asyncpg.Connection
    effort: Effort
    position: int
    started_at: datetime
    through: datetime = _FIRST
    added: int = 0
    has_changed: bool = False
    _refilling: dict[str, int] = field(default_factory=dict)
    _zones: dict[str, ZoneInfo] = field(default_factory=dict)

    async def run(self) -> Advance:
        until = perf_counter() + self.effort.seconds
        # One slice at least, or there would be no end.
        while not (is_complete := not (await self._follow() or await self._refill())):
            if perf_counter() >= until:
                break
        done = Advance(self.position, self.through, self.added, is_complete=is_complete)
        if self.has_changed:
            began = perf_counter()
            # To count all rows, reading them all is best.
            await self.connection.execute("set local enable_seqscan = on")
            done.view_rows = await self.connection.fetchval(
                "select refresh_daily_active_users()", timeout=self.effort.refresh_seconds + 5
            )
            done.refresh_seconds = perf_counter() - began
        await self.connection.execute(_KEEP, self.position, self.through, done.refresh_seconds)
        return done

    async def _follow(self) -> bool:
        """Take the next slice of the feed; False if there is none."""
        batches = await self._batches(self.position, _NO_END)
        await self._look_at_sites()
        if not batches:
            self.through = max(self.through, self.started_at)
            return False
        await self._fill(batches, self._zones)
        self.position = batches[-1]["position"]
        self.through = max(self.through, batches[-1]["committed_at"])
        return True

    async def _batches(self, after: int, last: int) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.connection.fetch(
            _BATCHES, after, last, self.effort.slice_events
        )
        return found

    async def _look_at_sites(self) -> None:
        """Which sites there are, by whose clocks, and which of them must be filled anew."""
        await self.connection.execute(_ADD_SITES)
        marked = await self.connection.execute(_MARK_OTHER_CLOCKS)
        self.has_changed |= _count(marked) > 0
        rows = await self.connection.fetch(_SITES)
        self._zones = dict(_known_zones(rows))
        if unknown := [row["site_id"] for row in rows if row["site_id"] not in self._zones]:
            await self.connection.execute(_REFILL, unknown)
        self._refilling = {
            row["site_id"]: row["refilled_to"] for row in rows if row["refilled_to"] is not None
        }

    async def _refill(self) -> bool:
        """Do one step for the sites that are least filled of those that must be; False if none."""
        waiting = {site: to for site, to in self._refilling.items() if site in self._zones}
        if not waiting:
            return False
        # What was marked has left the view; what is done comes back.
        self.has_changed = True
        place = min(waiting.values())
        sites = [site for site, to in waiting.items() if to == place]
        following = await (self._forget(sites) if place < 0 else self._fill_again(sites, place))
        await self.connection.execute(_MARK_REFILLED, sites, following)
        return True

    async def _forget(self, sites: Sequence[str]) -> int:
        """Delete some of the old rows; where filling is then: still at -1, or at the start."""
        most = 10 * self.effort.slice_events
        gone = _count(await self.connection.execute(_FORGET, sites, most))
        return -1 if gone else 0

    async def _fill_again(self, sites: Sequence[str], place: int) -> int | None:
        """Fill from the slice after `place`; where filling is then, None for the end."""
        batches = await self._batches(place, self.position)
        if not batches:
            return None
        await self._fill(batches, {site: self._zones[site] for site in sites})
        last: int = batches[-1]["position"]
        return last if last < self.position else None

    async def _fill(self, batches: Sequence[Any], zones: Mapping[str, ZoneInfo]) -> None:
        ids = [batch["batch_id"] for batch in batches]
        when = await self.connection.fetch(_WHEN, ids, list(zones), _FIRST)
        spans: list[tuple[str, datetime, datetime, timedelta]] = []
        # Days of many years take a while to find, and the server ends a transaction whose client
        # is silent for as long.
        for start in range(0, len(when), _YEARS_AT_ONCE):
            some = [tuple(row) for row in when[start : start + _YEARS_AT_ONCE]]
            spans += await asyncio.to_thread(_spans, some, zones)
            await self.connection.execute("select")
        if not spans:
            return
        columns = [list(column) for column in zip(*spans, strict=True)]
        added = _count(await self.connection.execute(_FILL, ids, *columns))
        self.added += added
        self.has_changed |= added > 0


def _known_zones(rows: Iterable[Any]) -> Iterable[tuple[str, ZoneInfo]]:
    for row in rows:
        try:
            yield row["site_id"], zone_of(row["timezone"])
        except UnknownZone:
            # An older time-zone database than that of the process which saved the site. No report
            # can be asked by such a clock, either.
            continue


def _spans(
    when: Sequence[tuple[str, datetime, datetime]], zones: Mapping[str, ZoneInfo]
) -> list[tuple[str, datetime, datetime, timedelta]]:
    """Site, start, end and offset of the pieces of time in which events of a site lie."""
    return [
        (site_id, span.start, span.end, span.offset)
        for site_id, first, last in when
        for span in offsets_between(first, last + _MICROSECOND, zones[site_id])
    ]


def _count(status: str) -> int:
    """The number of rows in what PostgreSQL says of a statement that it has carried out."""
    return int(status.rsplit(" ", 1)[1])
