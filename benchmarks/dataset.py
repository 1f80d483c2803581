"""Made-up events for reports and imports: the same at every run, whatever the machine.

One main site with three fifths of the events and four others with a tenth each, over 90 days. Events
come in visits of five by one user of one site; users are unevenly busy, join over the whole time and
come less and less; event types and paths follow Zipf's law. One event in ten has a visitor instead of
a user, one in a hundred neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Self

import duckdb

MAIN = "main"
SITES = (MAIN, "site-1", "site-2", "site-3", "site-4")
TIMEZONE = "Europe/Berlin"
# A Monday; the clocks go forward on 30 March, which is one of the last days.
FIRST_DAY = date(2025, 1, 6)
DAYS = 90
LAST_DAY = FIRST_DAY + timedelta(days=DAYS - 1)
# No site's day is cut off by its time zone.
ALL_DAYS = (str(FIRST_DAY - timedelta(days=1)), str(LAST_DAY + timedelta(days=1)))
BUSY_USER = "u-0000000"

_COLUMNS = (
    "event_id, occurred_at, user_id, visitor_id, session_id, event_type, url, path, properties_json"
)
_RFC_3339 = "strftime(events.occurred_at, '%Y-%m-%dT%H:%M:%S.%gZ') as occurred_at"

# 64 random bits of a text: by md5 and not by DuckDB's own hash, which may change with its version.
_BITS = "md5_number_lower('{salt} ' || {number})"
# Uniform numbers in [0, 1), two of each 64 bits.
_HIGH = "({bits} >> 32)::double / 4294967296"
_LOW = "({bits} & 4294967295)::double / 4294967296"

_EVENTS = """
create table events as
with visits as (
    select visit, {visit_a} as a, {visit_b} as b, {visit_c} as c
    from range($events // 5) as numbers (visit)
),
numbered as (
    select *, visit * 5 + place as i, {event_d} as d, {event_e} as e
    from visits
    cross join range(5) as places (place)
),
drawn as (
    select
        visit, place, i,
        {high_a} as r_user, {low_a} as r_site, {high_b} as r_day, {low_b} as r_time,
        {high_c} as r_kind,
        {high_d} as r_type, {low_d} as r_path, {high_e} as r_amount, {low_e} as r_pause
    from numbered
),
placed as (
    select
        *,
        floor($users * r_user ** 1.7)::bigint as user_number,
        case when r_site < 0.6 then 0 else 1 + floor((r_site - 0.6) * 10)::int end as site_number
    from drawn
),
timed as (
    select
        *,
        -- Half of the users were there from the start; visits thin out after the first day.
        case when user_number % 2 = 0 then 0 else (user_number * 7919) % {days} end as joined
    from placed
)
select
    md5('event ' || i)::uuid as event_id,
    ['main', 'site-1', 'site-2', 'site-3', 'site-4'][site_number + 1] as site_id,
    timestamp '{first_day} 00:00:00'
        + interval 1 day * (joined + floor(({days} - joined) * r_day ** 1.5))::int
        + interval 1 millisecond * (
            floor(r_time * 85000000) + place * 40000 + floor(r_pause * 40000)
        )::bigint as occurred_at,
    case when r_kind < 0.89 then printf('u-%07d', user_number) end as user_id,
    case when r_kind between 0.89 and 0.99 then printf('v-%07d', user_number) end as visitor_id,
    case when r_kind < 0.99 then printf('s-%08d', visit) end as session_id,
    [
        'page_view', 'click', 'scroll', 'search', 'add_to_cart', 'video', 'share', 'signup',
        'checkout', 'purchase', 'refund', 'feedback'
    ][floor(exp(r_type * ln(13)))::int] as event_type,
    printf('https://shop.example/p/%d', floor(exp(r_path * ln(201)))::int) as url,
    printf('/p/%d', floor(exp(r_path * ln(201)))::int) as path,
    printf(
        '{{"plan":"%s","amount":%d.5,"mobile":%s}}',
        ['free', 'plus', 'team'][user_number % 3 + 1],
        floor(r_amount * 200)::int,
        case when visit % 2 = 0 then 'true' else 'false' end
    ) as properties_json
from timed
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How many events, a multiple of five, of how many users."""

    events: int

    @property
    def users(self) -> int:
        """One for twenty events."""
        return max(1, self.events // 20)

    @property
    def name(self) -> str:
        """How figures call it: 1m, 10m, 50k."""
        millions, rest = divmod(self.events, 1_000_000)
        return f"{self.events // 1_000}k" if rest else f"{millions}m"


class Dataset:
    """The events of one size in a table of DuckDB, for as long as it is open."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.size = size
        self._connection = duckdb.connect(
            str(folder / "dataset.duckdb"),
            config={"threads": 2, "memory_limit": "4GB", "temp_directory": str(folder / "spill")},
        )
        bits = {f"visit_{one}": _BITS.format(salt=one, number="visit") for one in "abc"}
        bits |= {
            f"event_{one}": _BITS.format(salt=one, number="(visit * 5 + place)") for one in "de"
        }
        draws = {f"high_{one}": _HIGH.format(bits=one) for one in "abcde"}
        draws |= {f"low_{one}": _LOW.format(bits=one) for one in "abcde"}
        statement = _EVENTS.format(**bits, **draws, days=DAYS, first_day=FIRST_DAY)
        self._connection.execute(statement, {"events": size.events, "users": size.users})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def count(self, site: str) -> int:
        """The events of a site."""
        [(found,)] = self._connection.execute(
            "select count(*) from events where site_id = $site", {"site": site}
        ).fetchall()
        return int(found)

    def write_csv(self, site: str | None, path: Path, *, gzip: bool = False) -> None:
        """A file for `footfall import`, in order of time: the events of a site, or all of them.

        The file does not say which site an event is for, so all can be imported into one.
        """
        options = ", compression gzip" if gzip else ""
        self._connection.execute(
            f"""
            copy (
                select {_COLUMNS.replace("occurred_at", _RFC_3339)}
                from events
                where {"true" if site is None else f"site_id = '{site}'"}
                order by events.occurred_at, event_id
            ) to '{path}' (format csv, header{options})
            """
        )

    def batches(self, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """All events in order of time: site_id and then the columns of the files."""
        cursor = self._connection.execute(
            f"select site_id, {_COLUMNS} from events order by occurred_at, event_id"
        )
        while rows := cursor.fetchmany(size):
            yield rows
