"""Questions of one shape as one statement: their sites and days become bound lists.

A day set in a time zone is a list of spans, pieces of the UTC time line with one offset each. The
statement joins the events with the spans of all its questions; an event's time plus the span's
offset is its local time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import TypeVar
from zoneinfo import ZoneInfo

from data.calendar import (
    DAY,
    FIRST_DAY,
    LAST_DAY,
    DateRange,
    Interval,
    Span,
    offsets_between,
    spans_of,
)
from data.duckdb.statements import statement
from data.queries import (
    ActiveUsersQuery,
    EventCountsQuery,
    RetentionQuery,
    Scope,
    TopEventsQuery,
)

FOREVER = datetime.max.replace(tzinfo=UTC)
_NEVER = datetime(1970, 1, 1)  # noqa: DTZ001 - columns of the copy are UTC without saying so

# The local calendar day of an event, and the period it lies in by its first day. `isodow` is 1
# for Monday; $week_start is 0 for Monday.
LOCAL_DAY = "(events.occurred_at + spans.utc_offset)::date"
PERIOD = {
    Interval.DAY: LOCAL_DAY,
    Interval.WEEK: f"{LOCAL_DAY} - (isodow({LOCAL_DAY}) + 6 - $week_start::integer)::integer % 7",
    Interval.MONTH: f"date_trunc('month', {LOCAL_DAY})::date",
}
# The UTC instant at which the local clock hour of an event began: where the clock showed minute
# 0, or where the clock was changed since, which is where a span begins.
HOUR = """greatest(
        date_trunc('hour', events.occurred_at + spans.utc_offset) - spans.utc_offset,
        spans.starts_at
    )"""


Question = TypeVar("Question", ActiveUsersQuery, TopEventsQuery, EventCountsQuery, RetentionQuery)

_NO_SCOPE = Scope("", DateRange(FIRST_DAY, FIRST_DAY), ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True)
class SpansOfQuestion:
    """The spans of the question that stands at `query` in what was asked."""

    query: int
    site_id: str
    spans: Sequence[Span]


def by_shape(queries: Sequence[Question]) -> list[dict[int, Question]]:
    """The queries in groups that differ in nothing but site, days and zone, by their place."""
    groups: dict[Question, dict[int, Question]] = {}
    for place, query in enumerate(queries):
        shape = replace(query, scope=replace(_NO_SCOPE, filter=query.scope.filter))
        groups.setdefault(shape, {})[place] = query
    return list(groups.values())


def clamped(first: date, last: date) -> DateRange:
    """The days from `first` to `last`, as far as the calendar goes."""
    return DateRange(max(first, FIRST_DAY), min(last, LAST_DAY))


def scope_spans(query: int, scope: Scope, days_before: int = 0) -> SpansOfQuestion:
    """The spans of a scope's days, and of some days before them."""
    start = max(scope.days.start.toordinal() - days_before, FIRST_DAY.toordinal())
    days = clamped(date.fromordinal(start), scope.days.end)
    return SpansOfQuestion(query, scope.site_id, spans_of(days, scope.zone))


def spans_since(day: date, exact_until: date, zone: ZoneInfo) -> tuple[Span, ...]:
    """Exactly the instants whose local date is `day` or later, without end.

    Their offsets are right up to the local day `exact_until`; what is later has some offset
    that keeps it later than that day.
    """
    first = datetime.combine(max(day, FIRST_DAY), time(), UTC)
    limit = datetime.combine(min(exact_until, LAST_DAY), time(), UTC) + 2 * DAY
    spans = []
    for span in offsets_between(first - DAY, limit, zone):
        start = max(span.start, first - span.offset)
        if start < span.end:
            spans.append(replace(span, start=start))
    return (*spans[:-1], replace(spans[-1], end=FOREVER))


def span_table(name: str) -> str:
    """A common table expression with the columns query, site_id, starts_at, ends_at, utc_offset."""
    return statement("spans", name=name)


def span_values(name: str, questions: Sequence[SpansOfQuestion]) -> dict[str, object]:
    """What `span_table` binds, and `$<name>_earliest` and `$<name>_latest` around all spans.

    The two bounds let DuckDB skip row groups, which it does not by the join alone.
    """
    rows = [(one.query, one.site_id, span) for one in questions for span in one.spans]
    spans = [span for _, _, span in rows]
    return {
        f"{name}_query": [query for query, _, _ in rows],
        f"{name}_site_id": [site_id for _, site_id, _ in rows],
        f"{name}_starts_at": [naive(span.start) for span in spans],
        f"{name}_ends_at": [naive(span.end) for span in spans],
        f"{name}_utc_offset": [span.offset for span in spans],
        f"{name}_earliest": min((naive(span.start) for span in spans), default=_NEVER),
        f"{name}_latest": max((naive(span.end) for span in spans), default=_NEVER),
    }


def naive(instant: datetime) -> datetime:
    """An instant as the copy stores it: UTC without saying so."""
    return instant.astimezone(UTC).replace(tzinfo=None)
