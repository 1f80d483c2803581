"""Budgets of points: what is taken, what comes back, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolvers.errors import QueryTooExpensive, RateLimited
from resolvers.throttle import MAX_KEYS, Allowance, Throttle, ThrottleState

SMALL = Allowance(operation=100, maximum=300, restore_rate=10)


def test_a_new_key_has_its_whole_budget() -> None:
    assert Throttle(SMALL).state("a", 5.0) == ThrottleState(300, 300, 10)


def test_what_an_operation_reserves_is_gone_for_its_key_alone() -> None:
    throttle = Throttle(SMALL)

    throttle.reserve("a", 80, 0.0)

    assert throttle.state("a", 0.0).available == 220
    assert throttle.state("b", 0.0).available == 300


def test_the_budget_fills_up_with_time_and_not_beyond_its_size() -> None:
    throttle = Throttle(SMALL)
    throttle.reserve("a", 100, 0.0)

    assert throttle.state("a", 4.0).available == 240
    assert throttle.state("a", 60.0).available == 300


def test_what_was_not_needed_is_given_back() -> None:
    throttle = Throttle(SMALL)
    throttle.reserve("a", 100, 0.0)

    throttle.settle("a", 60, 0.0)

    assert throttle.state("a", 0.0).available == 260


def test_an_empty_budget_refuses_and_says_when_to_come_back() -> None:
    throttle = Throttle(SMALL)
    for _ in range(3):
        throttle.reserve("a", 100, 0.0)

    with pytest.raises(RateLimited) as refused:
        throttle.reserve("a", 45, 0.0)

    assert refused.value.retry_after == 5
    assert throttle.state("a", 0.0).available == 0
    throttle.reserve("a", 45, 5.0)


def test_one_operation_may_not_cost_more_than_an_operation_may() -> None:
    throttle = Throttle(SMALL)

    with pytest.raises(QueryTooExpensive) as refused:
        throttle.reserve("a", 101, 0.0)

    assert refused.value.details == {"limit": "cost", "maximum": 100, "found": 101}
    assert throttle.state("a", 0.0).available == 300


def test_keys_are_remembered_up_to_a_bound() -> None:
    throttle = Throttle(SMALL)
    throttle.reserve("first", 100, 0.0)

    for number in range(MAX_KEYS):
        throttle.reserve(str(number), 1, 0.0)

    assert throttle.state("first", 0.0).available == 300


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.integers(0, 100), st.integers(0, 60), st.integers(0, 20)
        )
    )
)
def test_it_agrees_with_a_plain_account(steps: list[tuple[str, int, int, int]]) -> None:
    """Each step waits, spends, and gives some of it back."""
    throttle = Throttle(SMALL)
    plain = {"a": 300, "b": 300}
    now = 0
    for key, points, unused, wait in steps:
        now += wait
        plain = {name: min(300, left + wait * 10) for name, left in plain.items()}
        if points > plain[key]:
            with pytest.raises(RateLimited):
                throttle.reserve(key, points, now)
            continue
        throttle.reserve(key, points, now)
        throttle.settle(key, min(points, unused), now)
        plain[key] = min(300, plain[key] - points + min(points, unused))

    assert {name: throttle.state(name, now).available for name in plain} == plain
