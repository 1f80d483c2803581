"""What the materialised view `daily_active_users` answers, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import DateRange
from data.postgres.engine import ledger_errors
from data.queries import ActiveUsersRows

# Everything in one statement, so that rows, totals and position are of one moment. A site counts
# where its rows are whole and were filled by the clock that is asked for.
_ANSWER = """
select
    asked.place,
    state.position,
    state.through,
    sites.site_id is not null as is_usable,
    points.days,
    points.users,
    total.users as total
from unnest(
    cast(:places as integer[]), cast(:site_ids as text[]), cast(:timezones as text[]),
    cast(:first_days as date[]), cast(:last_days as date[])
) as asked (place, site_id, timezone, first_day, last_day)
cross join daily_users_state as state
left join daily_users_sites as sites
    on sites.site_id = asked.site_id
    and sites.timezone = asked.timezone
    and sites.refilled_to is null
left join lateral (
    select array_agg(daily.day) as days, array_agg(daily.users) as users
    from daily_active_users as daily
    where daily.site_id = sites.site_id and daily.day between asked.first_day and asked.last_day
) as points on true
left join lateral (
    select count(*) as users
    from (
        select distinct actor
        from actor_days
        where actor_days.site_id = sites.site_id
            and actor_days.day between asked.first_day and asked.last_day
    ) as actors
) as total on true
order by asked.place
"""
_SETTINGS = """
select set_config('work_mem', '64MB', true), set_config('statement_timeout', '4s', true)
"""
_STATE = """
select position, through, refreshed_at,
    (select count(*) from daily_users_sites where refilled_to is not null) as refilling
from daily_users_state
"""


@dataclass(frozen=True, slots=True)
class DaysAsked:
    """Users of each day of a range and over all of it, on the days of a zone (IANA name)."""

    site_id: str
    days: DateRange
    timezone: str


@dataclass(frozen=True, slots=True)
class ViewAnswer:
    """What the view says at a position; every event committed before `through` is in it."""

    rows: ActiveUsersRows
    position: int
    through: datetime


@dataclass(frozen=True, slots=True)
class ViewState:
    """How far the view is. `refilling` sites are left out of it until their rows are whole again.

    `refreshed_at` is None as long as nothing has ever been in it.
    """

    position: int
    through: datetime
    refreshed_at: datetime | None
    refilling: int


async def daily_users(engine: AsyncEngine, asked: Sequence[DaysAsked]) -> list[ViewAnswer | None]:
    """The answer to each question, in the order asked, from one moment; None where it has none.

    It has none for a site by another clock than its own, or while the site is filled anew. Raises
    `LedgerUnavailable`, also where the answer takes longer than four seconds.
    """
    values = {
        "places": list(range(len(asked))),
        "site_ids": [one.site_id for one in asked],
        "timezones": [one.timezone for one in asked],
        "first_days": [one.days.start for one in asked],
        "last_days": [one.days.end for one in asked],
    }
    with ledger_errors():
        async with engine.begin() as connection:
            await connection.execute(text(_SETTINGS))
            rows = (await connection.execute(text(_ANSWER), values)).all()
    return [
        ViewAnswer(
            ActiveUsersRows(dict(zip(row.days or (), row.users or (), strict=True)), row.total),
            row.position,
            row.through,
        )
        if row.is_usable
        else None
        for row in rows
    ]


async def view_state(engine: AsyncEngine) -> ViewState:
    """How far the view is; raises `LedgerUnavailable`."""
    with ledger_errors():
        async with engine.connect() as connection:
            row = (await connection.execute(text(_STATE))).one()
    return ViewState(row.position, row.through, row.refreshed_at, row.refilling)
