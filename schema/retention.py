"""Retention: how many of the users who started in a period came back later."""

from __future__ import annotations

from datetime import date
from typing import Annotated, TypeAlias

import strawberry

from data.calendar import Interval
from data.queries import CohortRule, PeriodRule
from resolvers import retention
from resolvers.retention import RetentionAsked
from schema.directives import ListSize
from schema.enums import describe_enum
from schema.reports import Report, answered_by

describe_enum(
    CohortRule,
    "Which users belong to the cohort of a period.",
    FIRST_EVER="Those whose first matching event in all history lies in the period.",
    RECURRING="All who were active in the period; one user may belong to many cohorts.",
)
describe_enum(
    PeriodRule,
    "How time is cut into periods.",
    CALENDAR="Days, weeks and months of the calendar; weeks begin on the site's first day.",
    RANGE_START="Periods counted from `range.from`; a week has 7 days and a month 30.",
)


@strawberry.input
class RetentionOptions:
    """What counts as starting and as coming back; null is the same as left out."""

    cohort: CohortRule | None = strawberry.field(
        default=CohortRule.FIRST_EVER, description="Which users belong to the cohort of a period."
    )
    periods: PeriodRule | None = strawberry.field(
        default=PeriodRule.CALENDAR, description="How time is cut into periods."
    )
    unbounded: bool | None = strawberry.field(
        default=False,
        description="Count who came back in period k or any later one, not in period k alone.",
    )
    start_events: list[str] | None = strawberry.field(
        description="Event types that start a cohort; all types where they are left out."
    )
    return_events: list[str] | None = strawberry.field(
        description="Event types that count as coming back; all types where they are left out."
    )


Periods: TypeAlias = Annotated[
    int,
    strawberry.argument(
        "How many periods after the cohort's own to follow it: "
        f"0 to {retention.MAX_PERIODS:,}, and {retention.MAX_CELLS:,} numbers in all."
    ),
]
Options: TypeAlias = Annotated[
    RetentionOptions | None,
    strawberry.argument("What counts as starting and as coming back."),
]


def retention_asked(
    interval: Interval, periods: int, options: RetentionOptions | None
) -> RetentionAsked:
    """The arguments of a retention report besides the common ones."""
    if not options:
        return RetentionAsked(interval, periods)
    start, back = options.start_events, options.return_events
    return RetentionAsked(
        interval=interval,
        periods=periods,
        cohort=options.cohort or CohortRule.FIRST_EVER,
        period_rule=options.periods or PeriodRule.CALENDAR,
        unbounded=bool(options.unbounded),
        start_events=None if start is None else tuple(start),
        return_events=None if back is None else tuple(back),
    )


@strawberry.type
class RetentionPeriod:
    """How many users of a cohort were active in one period."""

    period: int = strawberry.field(
        description="How many periods after the cohort's own, which is 0."
    )
    start: date = strawberry.field(description="The first day of the period.")
    users: int = strawberry.field(description="Users of the cohort who were back in the period.")
    rate: float = strawberry.field(
        description="Their share of the cohort, `users / size`: 0 to 1, and 0 for an empty cohort."
    )
    complete: bool = strawberry.field(
        description=(
            "The period had ended by `dataThrough`; where false, users may still come back in it."
        )
    )


@strawberry.type
class RetentionCohort:
    """The users who started in one period, and their way from there."""

    start: date = strawberry.field(description="The first day of the period in which they started.")
    size: int = strawberry.field(description="How many users started.")
    periods: list[RetentionPeriod] = strawberry.field(
        description=(
            "The cohort's own period, then as many later ones as were asked for; "
            "also those after the end of the range."
        ),
        directives=[
            ListSize(assumed_size=retention.MAX_PERIODS + 1, slicing_arguments=["periods"])
        ],
    )


@strawberry.type
class RetentionReport(Report):
    """Cohorts by the period in which users started, and how many came back k periods later."""

    is_type_of = staticmethod(answered_by(retention.Retention))

    interval: Interval = strawberry.field(description="The length of the periods.")
    cohorts: list[RetentionCohort] = strawberry.field(
        description="A cohort for every period that touches the range, in order; empty ones too."
    )
