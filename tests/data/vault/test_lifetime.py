"""How long what Vault has lent is ours, and when to renew it."""

import math
from time import monotonic

import pytest

from data.vault.lifetime import Lifetime


def test_it_is_due_at_half_and_ends_with_all_of_it() -> None:
    life = Lifetime.of(100, asked=monotonic())

    assert life.remaining == pytest.approx(100, abs=5)
    assert life.due_in == pytest.approx(50, abs=5)
    assert not life.is_in_last_quarter


@pytest.mark.parametrize(("ago", "due_in", "late"), [(60, 0, False), (80, 0, True), (200, 0, True)])
def test_it_is_late_in_the_last_quarter(ago: float, due_in: float, late: bool) -> None:
    life = Lifetime.of(100, asked=monotonic() - ago)

    assert life.due_in == due_in
    assert life.is_in_last_quarter == late
    assert life.remaining == pytest.approx(max(0, 100 - ago), abs=5)


def test_what_never_ends_is_never_due() -> None:
    life = Lifetime.of(None, asked=monotonic())

    assert (life.remaining, life.due_in) == (math.inf, math.inf)
    assert not life.is_in_last_quarter


@pytest.mark.parametrize(("seconds", "worth"), [(100, True), (51, True), (50, False), (0, False)])
def test_half_of_the_first_grant_is_too_little(seconds: float, worth: bool) -> None:
    first = Lifetime.of(100, asked=monotonic())

    assert Lifetime.of(seconds, asked=monotonic()).is_worth(first) == worth
