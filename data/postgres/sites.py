"""Sites in the ledger: the containers of events, with their calendar and allowed origins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from data.calendar import Weekday
from data.postgres.tables import sites


@dataclass(frozen=True, slots=True)
class Site:
    """A site: its calendar (IANA zone, first day of the week) and the origins it allows.

    No origins means that pages of any origin may send events.
    """

    site_id: str
    name: str
    timezone: str
    week_start: Weekday
    origins: tuple[str, ...]
    created_at: datetime


def _site(row: Row[Any]) -> Site:
    return Site(
        site_id=row.site_id,
        name=row.name,
        timezone=row.timezone,
        week_start=Weekday(row.week_start),
        origins=tuple(row.origins),
        created_at=row.created_at,
    )


async def all_sites(connection: AsyncConnection) -> list[Site]:
    """Every site, in order of id."""
    rows = await connection.execute(select(sites).order_by(sites.c.site_id))
    return [_site(row) for row in rows]


async def create_site(connection: AsyncConnection, site: Site) -> bool:
    """Add a site; False, and nothing changed, if the id is taken."""
    statement = upsert(sites).values(_values(site)).on_conflict_do_nothing()
    result = await connection.execute(statement)
    return result.rowcount == 1


async def update_site(connection: AsyncConnection, site: Site) -> None:
    """Overwrite a site's name, calendar and origins."""
    values = {key: value for key, value in _values(site).items() if key != "created_at"}
    await connection.execute(update(sites).where(sites.c.site_id == site.site_id).values(values))


def _values(site: Site) -> dict[str, object]:
    return {
        "site_id": site.site_id,
        "name": site.name,
        "timezone": site.timezone,
        "week_start": site.week_start.value,
        "origins": list(site.origins),
        "created_at": site.created_at,
    }
