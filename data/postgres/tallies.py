"""Tallies of the ledger and of its view, to be compared with those of the columnar copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import DateRange, spans_of
from data.postgres.engine import driver_connection, ledger_errors
from data.tallies import SiteDay, SiteDays, Stretch, Tallies, Tally

LOOK_SECONDS = 60

_SETTINGS = """
select set_config('work_mem', '64MB', true), set_config('statement_timeout', '25s', true)
"""

_STRETCH = """
select min(position) - 1 as after, max(position) as last
from (
    select *, sum(events) over (order by position desc) - events as events_after
    from (
        select position, events from ingest_batches
        where position <= :position
        order by position desc
        limit :most
    ) as newest
) as counted
where events_after < :most
"""

_TALLY_STRETCH = """
select
    events.site_id,
    (events.occurred_at at time zone 'UTC')::date as day,
    count(*) as events,
    count(distinct coalesce(events.user_id, events.visitor_id)) as users
from ingest_batches as batches
join events on events.batch_id = batches.batch_id
where batches.position > :after and batches.position <= :last
group by 1, 2
"""

_VIEW_DAYS = """
select distinct day from daily_active_users where day < :before order by day desc limit :most
"""

_TALLY_VIEW = """
select
    state.position, sites.site_id, sites.timezone, sites.refilled_to is null as is_whole,
    daily.day, daily.users
from daily_users_state as state
cross join daily_users_sites as sites
left join daily_active_users as daily
    on daily.site_id = sites.site_id
    and sites.refilled_to is null
    and exists (
        select
        from unnest(cast(:first_days as date[]), cast(:last_days as date[]))
            as wanted (first_day, last_day)
        where daily.day between wanted.first_day and wanted.last_day
    )
"""

# No index leads from a site and a time to events: reading all of them once is the shortest way.
_READ_ALL = f"""
select
    set_config('enable_seqscan', 'on', true),
    set_config('enable_hashjoin', 'on', true),
    set_config('work_mem', '64MB', true),
    set_config('statement_timeout', '{LOOK_SECONDS}s', true)
"""
_TALLY_DAYS = """
select
    spans.place,
    ((events.occurred_at at time zone 'UTC') + spans.utc_offset)::date as day,
    count(*) as events,
    count(distinct coalesce(events.user_id, events.visitor_id)) as users
from events
join unnest($1::integer[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::interval[])
    as spans (place, site_id, starts_at, ends_at, utc_offset)
    on spans.site_id = events.site_id
    and events.occurred_at >= spans.starts_at
    and events.occurred_at < spans.ends_at
join ingest_batches as batches on batches.batch_id = events.batch_id and batches.position <= $6
group by 1, 2
"""


@dataclass(frozen=True, slots=True)
class ViewTally:
    """What the view has up to a position.

    `timezones` are those by whose clock it counts, of every site that it knows. Sites that are
    being filled anew have no users.
    """

    position: int
    users: Mapping[SiteDay, int]
    timezones: Mapping[str, str]
    whole_sites: frozenset[str]


async def stretch_up_to(engine: AsyncEngine, position: int, most_events: int) -> Stretch | None:
    """The last batches up to a position, as many as hold `most_events`; at least one."""
    row = (await _all(engine, _STRETCH, position=position, most=most_events))[0]
    return None if row.last is None else Stretch(row.after, row.last)


async def tally_stretch(engine: AsyncEngine, stretch: Stretch) -> Tallies:
    """Events and users of UTC days in the ledger, of a stretch of the feed alone."""
    rows = await _all(engine, _TALLY_STRETCH, after=stretch.after, last=stretch.last)
    return {(row.site_id, row.day): Tally(row.events, row.users) for row in rows}


async def view_days_before(engine: AsyncEngine, day: date, most: int) -> list[date]:
    """The last local days before a day on which the view has anybody, newest first."""
    return [row.day for row in await _all(engine, _VIEW_DAYS, before=day, most=most)]


async def tally_view(engine: AsyncEngine, days: Sequence[DateRange]) -> ViewTally:
    """Users of local days in the view, and how far it is."""
    firsts, lasts = [one.start for one in days], [one.end for one in days]
    rows = await _all(engine, _TALLY_VIEW, first_days=firsts, last_days=lasts)
    return ViewTally(
        position=rows[0].position if rows else 0,
        users={(row.site_id, row.day): row.users for row in rows if row.day is not None},
        timezones={row.site_id: row.timezone for row in rows},
        whole_sites=frozenset(row.site_id for row in rows if row.is_whole),
    )


async def tally_days(engine: AsyncEngine, asked: Sequence[SiteDays], position: int) -> Tallies:
    """Events and users of local days in the ledger up to a position: reads all events there are.

    Raises `LedgerUnavailable` where that takes longer than a minute.
    """
    spans = [
        (place, one.site_id, span.start, span.end, span.offset)
        for place, one in enumerate(asked)
        for days in one.days
        for span in spans_of(days, one.zone)
    ]
    columns = [list(column) for column in zip(*spans, strict=True)] if spans else [[]] * 5
    async with driver_connection(engine) as connection, connection.transaction(readonly=True):
        await connection.fetchrow(_READ_ALL)
        rows = await connection.fetch(_TALLY_DAYS, *columns, position, timeout=LOOK_SECONDS + 5)
    return {
        (asked[row["place"]].site_id, row["day"]): Tally(row["events"], row["users"])
        for row in rows
    }


async def _all(engine: AsyncEngine, statement: str, **values: object) -> Sequence[Row[Any]]:
    with ledger_errors():
        async with engine.begin() as connection:
            await connection.execute(text(_SETTINGS))
            return (await connection.execute(text(statement), values)).all()
