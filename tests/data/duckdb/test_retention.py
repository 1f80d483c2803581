"""Retention of a few actors whose days can be counted by hand."""

from data.calendar import Interval
from data.duckdb.store import DuckDBStore
from data.queries import CohortRule, PeriodRule, RetentionQuery, RetentionRows
from tests.data.duckdb.examples import Feed, on, scope

RETURNING = [
    ("2024-02-20", "old"),
    ("2024-03-05", "old"),
    ("2024-03-04", "ann"),  # before the range, in its first week
    ("2024-03-07", "ann"),
    ("2024-03-12", "ann"),
    ("2024-03-07", "bob"),
    ("2024-03-08", "bob"),
    ("2024-03-25", "bob"),
    ("2024-03-13", "cid"),
    ("2024-03-28", "cid"),
]


async def kept(store: DuckDBStore, query: RetentionQuery) -> RetentionRows:
    return (await store.retention([query])).rows[0]


async def feed_returning(feed: Feed) -> None:
    await feed(*(on(day, user, n) for n, (day, user) in enumerate(RETURNING)))


async def test_first_ever_is_decided_over_all_history(store: DuckDBStore, feed: Feed) -> None:
    await feed_returning(feed)

    # Wednesday to Wednesday; the weeks begin on 4 and 11 March.
    rows = await kept(store, RetentionQuery(scope("2024-03-06", "2024-03-13"), periods=2))

    # Ann began on Monday, two days before the range.
    assert rows == RetentionRows({0: 1, 1: 1}, {(0, 0): 1, (1, 0): 1, (1, 2): 1})


async def test_recurring_cohorts_hold_everybody_who_was_there(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed_returning(feed)
    asked = scope("2024-03-06", "2024-03-13")

    rows = await kept(store, RetentionQuery(asked, periods=3, cohort=CohortRule.RECURRING))

    assert rows == RetentionRows(
        {0: 2, 1: 2}, {(0, 0): 2, (0, 1): 1, (0, 3): 1, (1, 0): 2, (1, 2): 1}
    )


async def test_without_bounds_whoever_comes_later_was_kept_until_then(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed_returning(feed)
    asked = scope("2024-03-06", "2024-03-13")

    rows = await kept(store, RetentionQuery(asked, periods=2, unbounded=True))

    # Bob came back in the third week after the first, Cid in the second after his.
    assert rows == RetentionRows(
        {0: 1, 1: 1}, {(0, 0): 1, (0, 1): 1, (0, 2): 1, (1, 0): 1, (1, 1): 1, (1, 2): 1}
    )


async def test_periods_may_be_counted_from_the_start_of_the_range(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed_returning(feed)
    asked = scope("2024-03-04", "2024-03-31")

    def months(rule: PeriodRule) -> RetentionQuery:
        return RetentionQuery(asked, Interval.MONTH, periods=1, period_rule=rule)

    weeks = RetentionQuery(asked, periods=1, period_rule=PeriodRule.RANGE_START)
    await feed(
        on("2024-04-02", "ann", 100),
        on("2024-04-03", "bob", 101),
    )

    # 30 days from 4 March on: the first period ends with 2 April.
    assert await kept(store, months(PeriodRule.RANGE_START)) == RetentionRows(
        {0: 3}, {(0, 0): 3, (0, 1): 1}
    )
    assert await kept(store, months(PeriodRule.CALENDAR)) == RetentionRows(
        {0: 3}, {(0, 0): 3, (0, 1): 2}
    )
    assert await kept(store, weeks) == RetentionRows(
        {0: 2, 1: 1}, {(0, 0): 2, (0, 1): 1, (1, 0): 1}
    )


async def test_starts_and_returns_may_be_of_their_own_types(store: DuckDBStore, feed: Feed) -> None:
    await feed(
        on("2024-03-03", "ann", 1, "view"),
        on("2024-03-04", "ann", 2, "signup"),
        on("2024-03-05", "ann", 3, "view"),
        on("2024-03-06", "ann", 4, "buy"),
        on("2024-03-04", "bob", 5, "signup"),
        on("2024-03-05", "bob", 6, "view"),
    )
    asked = scope("2024-03-01", "2024-03-31")

    rows = await kept(
        store,
        RetentionQuery(
            asked, Interval.DAY, periods=3, start_events=("signup",), return_events=("buy",)
        ),
    )
    nobody = await kept(store, RetentionQuery(asked, Interval.DAY, start_events=()))

    assert rows == RetentionRows({3: 2}, {(3, 2): 1})
    assert nobody == RetentionRows({}, {})
