"""The questions of the reports benchmark: in GraphQL, in ClickHouse's SQL, and how answers compare.

The SQL is what one would write by hand for this one question: plain, but not clumsy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import zip_longest
from typing import Any

from benchmarks.dataset import BUSY_USER, FIRST_DAY, LAST_DAY, MAIN, TIMEZONE
from data.calendar import DAY, start_of_day, zone_of

# An answer of either side as the same plain rows, in order.
Rows = list[list[Any]]

_META = "meta { cache source }"
_30_DAYS = LAST_DAY - timedelta(days=29)
_7_DAYS = LAST_DAY - timedelta(days=6)
_WEEKS = 12


@dataclass(frozen=True, slots=True)
class Question:
    """One question, asked of both sides.

    `field` is the GraphQL field with arguments and selection, and `rows` makes plain rows of its
    value. `sql` answers the same rows in any order, each of them made plain by `plain`.
    """

    name: str
    field: str
    rows: Callable[[Any], Rows]
    sql: str
    plain: Callable[[list[Any]], list[Any]] = list

    @property
    def graphql(self) -> str:
        """The whole operation; the field is called `answer`."""
        return f"{{ answer: {self.field} }}"


def all_questions() -> list[Question]:
    """Every question, in the order of the table."""
    return [*_active_users(), *_counts(), *_retentions(), *_filtered(), *_single_events()]


def _asked(name: str, first: date, last: date, more: str = "") -> str:
    return f'{name}(siteId: "{MAIN}", range: {{from: "{first}", to: "{last}"}}{more})'


def _where(first: date, last: date) -> str:
    """The main site's events of some days, by instants, as its primary key has them."""
    zone = zone_of(TIMEZONE)
    start, end = start_of_day(first, zone), start_of_day(last + DAY, zone)
    return (
        f"site_id = '{MAIN}'"
        f" and occurred_at >= toDateTime64('{start:%F %T}', 6, 'UTC')"
        f" and occurred_at < toDateTime64('{end:%F %T}', 6, 'UTC')"
    )


_LOCAL_DAY = f"toDate(occurred_at, '{TIMEZONE}')"
_LOCAL_WEEK = f"toStartOfWeek(occurred_at, 1, '{TIMEZONE}')"
_LOCAL_MONTH = f"toStartOfMonth(occurred_at, '{TIMEZONE}')"


def _points(report: Mapping[str, Any]) -> Rows:
    """Users of each period that has any, and those of the whole range as the period ''."""
    points = [[point["date"], point["users"]] for point in report["points"] if point["users"]]
    return sorted([["", report["total"]], *points])


def _active_users() -> list[Question]:
    selection = f"{{ points {{ date users }} total {_META} }}"
    return [
        Question(
            "dau_30_days",
            f"{_asked('dau', _30_DAYS, LAST_DAY)} {selection}",
            _points,
            _active_sql(_LOCAL_DAY, _30_DAYS),
        ),
        _rolling("wau_rolling_7_over_30_days", 7, selection),
        _rolling("mau_rolling_30_over_30_days", 30, selection),
        Question(
            "monthly_actives_90_days",
            f"{_asked('activeUsers', FIRST_DAY, LAST_DAY, ', interval: MONTH')} {selection}",
            # Cut off by the range, the first month begins with it.
            _points,
            _active_sql(_LOCAL_MONTH, FIRST_DAY),
        ),
    ]


def _active_sql(period: str, first: date, condition: str = "true") -> str:
    return f"""
        select if(grouping(period) = 1, '', toString(period)) as shown, uniqExact(actor)
        from (
            select {period} as period, actor
            from events
            where {_where(first, LAST_DAY)} and actor != '' and {condition}
        )
        group by period with rollup
    """


def _rolling(name: str, window: int, selection: str) -> Question:
    """The sets of the days, merged over a moving window."""
    since = _30_DAYS - timedelta(days=window - 1)
    more = f", interval: DAY, rolling: {window}"
    sql = f"""
        select toString(day), users
        from (
            select
                day,
                uniqExactMerge(actors) over (
                    order by day range between {window - 1} preceding and current row
                ) as users
            from (
                select {_LOCAL_DAY} as day, uniqExactState(actor) as actors
                from events
                where {_where(since, LAST_DAY)} and actor != ''
                group by day
            )
        )
        where day >= '{_30_DAYS}'
        union all
        select '', uniqExact(actor)
        from events
        where {_where(_30_DAYS, LAST_DAY)} and actor != ''
    """
    asked = _asked("activeUsers", _30_DAYS, LAST_DAY, more)
    return Question(name, f"{asked} {selection}", _points, sql)


def _counts() -> list[Question]:
    return [
        Question(
            "top_events_30_days",
            f"{_asked('topEvents', _30_DAYS, LAST_DAY, ', limit: 10')}"
            f" {{ events {{ eventType count users }} total {_META} }}",
            _top,
            f"""
            select event_type, count() as events, uniqExactIf(actor, actor != ''),
                sum(events) over ()
            from events
            where {_where(_30_DAYS, LAST_DAY)}
            group by event_type
            order by events desc, event_type
            limit 10
            """,
        ),
        _event_counts("event_counts_hourly_7_days", "HOUR", _7_DAYS),
        _event_counts("event_counts_daily_90_days", "DAY", FIRST_DAY),
    ]


def _top(report: Mapping[str, Any]) -> Rows:
    total = report["total"]
    return sorted([one["eventType"], one["count"], one["users"], total] for one in report["events"])


def _event_counts(name: str, interval: str, first: date) -> Question:
    """By the instant at which each local hour or day begins, in seconds since 1970."""
    bucket = (
        f"toStartOfHour(occurred_at, '{TIMEZONE}')"
        if interval == "HOUR"
        else f"toStartOfDay(occurred_at, '{TIMEZONE}')"
    )
    return Question(
        name,
        f"{_asked('eventCounts', first, LAST_DAY, f', interval: {interval}')}"
        f" {{ points {{ at count }} total {_META} }}",
        _count_points,
        f"""
        select formatDateTime(toTimeZone({bucket}, 'UTC'), '%Y-%m-%dT%H:%i:%SZ') as at, count()
        from events
        where {_where(first, LAST_DAY)}
        group by at
        """,
    )


def _count_points(report: Mapping[str, Any]) -> Rows:
    rows = [[point["at"], point["count"]] for point in report["points"] if point["count"]]
    if sum(count for _, count in rows) != report["total"]:
        return [["the total is not the sum", report["total"]]]
    return sorted(rows)


def _retentions() -> list[Question]:
    last_week = FIRST_DAY + timedelta(days=7 * _WEEKS - 1)
    days = _where(FIRST_DAY, last_week)
    first_ever = f"""
        select actor, {_LOCAL_WEEK.replace("occurred_at", "min(occurred_at)")} as cohort
        from events
        where site_id = '{MAIN}' and actor != ''
        group by actor
        having cohort between '{FIRST_DAY}' and '{last_week}'
    """
    recurring = f"""
        select distinct actor, {_LOCAL_WEEK} as cohort
        from events
        where {days} and actor != ''
    """
    return [
        _retention("retention_weekly_first_ever", "", last_week, _retention_sql(first_ever)),
        _retention(
            "retention_weekly_recurring", "cohort: RECURRING", last_week, _retention_sql(recurring)
        ),
        _retention(
            "retention_weekly_unbounded", "unbounded: true", last_week, _unbounded_sql(last_week)
        ),
    ]


def _retention(name: str, options: str, last: date, sql: str) -> Question:
    more = f", interval: WEEK, periods: {_WEEKS}, options: {{{options}}}"
    selection = f"{{ cohorts {{ start size periods {{ period users }} }} {_META} }}"
    asked = _asked("retention", FIRST_DAY, last, more)
    return Question(name, f"{asked} {selection}", _cohorts, sql)


def _cohorts(report: Mapping[str, Any]) -> Rows:
    """Users of each cohort and period that has any; a cohort's size is its period 0."""
    rows = []
    for cohort in report["cohorts"]:
        users = {one["period"]: one["users"] for one in cohort["periods"]}
        if users[0] != cohort["size"]:
            return [["the size is not period 0", cohort["start"], cohort["size"]]]
        rows += [[cohort["start"], period, found] for period, found in users.items() if found]
    return sorted(rows)


def _retention_sql(starts: str) -> str:
    return f"""
        select toString(cohort), intDiv(week - cohort, 7) as k, count()
        from ({starts}) as starts
        join (
            select distinct actor, {_LOCAL_WEEK} as week
            from events
            where site_id = '{MAIN}' and actor != ''
        ) as returns on returns.actor = starts.actor
        where week >= cohort and week <= cohort + {7 * _WEEKS}
        group by cohort, k
    """


def _unbounded_sql(last_week: date) -> str:
    first, latest = (
        _LOCAL_WEEK.replace("occurred_at", f"{name}(occurred_at)") for name in ("min", "max")
    )
    return f"""
        select toString(cohort), k, sum(actors)
        from (
            select cohort, least(intDiv(latest - cohort, 7), {_WEEKS}) as furthest,
                count() as actors
            from (
                select {first} as cohort, {latest} as latest
                from events
                where site_id = '{MAIN}' and actor != ''
                group by actor
                having cohort between '{FIRST_DAY}' and '{last_week}'
            )
            group by cohort, furthest
        )
        array join range(toUInt32(furthest + 1)) as k
        group by cohort, k
    """


def _filtered() -> list[Question]:
    condition = (
        ', filter: {path: {startsWith: "/p/1"}, properties: [{name: "plan", string: {eq: "plus"}}]}'
    )
    return [
        Question(
            "dau_30_days_filtered",
            f"{_asked('dau', _30_DAYS, LAST_DAY, condition)}"
            f" {{ points {{ date users }} total {_META} }}",
            _points,
            _active_sql(
                _LOCAL_DAY,
                _30_DAYS,
                "startsWith(path, '/p/1') and JSONExtractString(properties, 'plan') = 'plus'",
            ),
        )
    ]


def _single_events() -> list[Question]:
    nodes = "{ nodes { eventId eventType path properties } }"
    columns = "toString(event_id), event_type, path, properties"
    newest = "order by occurred_at desc, arrival desc limit 50"
    return [
        Question(
            "events_page_of_50",
            f"{_asked('events', _30_DAYS, LAST_DAY, ', first: 50')} {nodes}",
            _nodes,
            f"select {columns} from events where {_where(_30_DAYS, LAST_DAY)} {newest}",
            _plain_node,
        ),
        Question(
            "user_events_page_of_50",
            f'userEvents(siteId: "{MAIN}", userId: "{BUSY_USER}", first: 50) {nodes}',
            _nodes,
            f"select {columns} from events"
            f" where site_id = '{MAIN}' and actor = '{BUSY_USER}' {newest}",
            _plain_node,
        ),
    ]


def _nodes(page: Mapping[str, Any]) -> Rows:
    return sorted(
        [one["eventId"], one["eventType"], one["path"], sorted(one["properties"].items())]
        for one in page["nodes"]
    )


def _plain_node(row: list[Any]) -> list[Any]:
    *others, properties = row
    return [*others, sorted(json.loads(properties).items())]


def difference(question: Question, ours: Rows, theirs: Rows) -> str | None:
    """Where two answers differ, in one line; None if they are the same, and not empty."""
    plain = sorted(question.plain(row) for row in theirs)
    if not ours:
        return f"{question.name}: nothing was found"
    if ours == plain:
        return None
    pairs = zip_longest(ours, plain, fillvalue="nothing")
    first = next(f"{one} and {other}" for one, other in pairs if one != other)
    return f"{question.name}: {len(ours)} rows and {len(plain)}, first {first}"
