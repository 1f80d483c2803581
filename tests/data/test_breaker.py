"""The breaker: what opens it, what closes it again, and what it does not listen to."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from data.breaker import Breaker, BreakerState, KeptBreaker

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def breaker_of(threshold: int = 1) -> tuple[Breaker, list[BreakerState]]:
    heard: list[BreakerState] = []
    return Breaker("part", threshold=threshold, on_change=heard.append), heard


async def fail(breaker: Breaker) -> None:
    await breaker.note(failed=True, begun_at=breaker.changes)


async def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker, heard = breaker_of(threshold=3)

    await fail(breaker)
    await fail(breaker)
    await breaker.note(failed=False, begun_at=breaker.changes)
    await fail(breaker)
    await fail(breaker)
    assert breaker.state is CLOSED
    await fail(breaker)

    assert (breaker.state, heard) == (OPEN, [OPEN])


async def test_a_trial_that_goes_well_closes_it() -> None:
    breaker, heard = breaker_of()
    await fail(breaker)

    async with breaker.trial():
        assert breaker.state is HALF_OPEN

    assert (breaker.state, heard) == (CLOSED, [OPEN, HALF_OPEN, CLOSED])


async def test_a_trial_that_fails_leaves_it_open_and_says_why() -> None:
    breaker, heard = breaker_of()
    await fail(breaker)

    with pytest.raises(OSError, match="still away"):
        async with breaker.trial():
            raise OSError("still away")

    assert (breaker.state, heard) == (OPEN, [OPEN, HALF_OPEN, OPEN])


async def test_there_is_one_trial_at_a_time() -> None:
    breaker, _ = breaker_of()
    await fail(breaker)

    async with breaker.trial():
        with pytest.raises(RuntimeError, match="nothing to try"):
            async with breaker.trial():
                pass

    assert breaker.state is CLOSED


async def test_a_closed_one_is_not_tried() -> None:
    breaker, heard = breaker_of()

    with pytest.raises(RuntimeError, match="nothing to try"):
        async with breaker.trial():
            pass

    assert (breaker.state, heard) == (CLOSED, [])


async def test_a_trial_that_is_cancelled_proves_nothing() -> None:
    breaker, _ = breaker_of()
    await fail(breaker)

    async def hang() -> None:
        async with breaker.trial():
            await asyncio.Event().wait()

    trying = asyncio.create_task(hang())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)

    assert breaker.state is OPEN


@pytest.mark.parametrize("failed", [True, False])
async def test_what_was_begun_before_the_last_change_says_nothing(failed: bool) -> None:
    breaker, _ = breaker_of()
    begun_at = breaker.changes
    await fail(breaker)

    await breaker.note(failed=failed, begun_at=begun_at)
    assert breaker.state is OPEN
    async with breaker.trial():
        await breaker.note(failed=failed, begun_at=begun_at)
        assert breaker.state is HALF_OPEN
    await breaker.note(failed=failed, begun_at=begun_at)

    assert breaker.state is CLOSED


AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
REST = timedelta(seconds=60)


def test_a_kept_breaker_opens_after_so_many_failures_in_a_row() -> None:
    kept = KeptBreaker()
    for failed in (True, True, False, True, True):
        kept = kept.ended(AT, failed=failed, threshold=3)
    assert (kept.state, kept.failures) == (CLOSED, 2)

    kept = kept.ended(AT, failed=True, threshold=3)

    assert kept == KeptBreaker(OPEN, 3, AT)


def test_a_kept_breaker_lets_nobody_through_until_its_rest_is_over() -> None:
    kept = KeptBreaker(OPEN, 3, AT)
    almost = AT + REST - timedelta(microseconds=1)

    assert (kept.shown(almost, REST), kept.begun(almost, REST)) == (OPEN, None)
    assert kept.shown(AT + REST, REST) is HALF_OPEN
    assert kept.begun(AT + REST, REST) == KeptBreaker(HALF_OPEN, 3, AT)


def test_the_trial_of_a_kept_breaker_closes_it_or_has_it_rest_again() -> None:
    trial = KeptBreaker(HALF_OPEN, 3, AT)
    later = AT + 2 * REST

    assert trial.shown(later, REST) is HALF_OPEN
    assert trial.begun(later, REST) == trial
    assert trial.ended(later, failed=False, threshold=3) == KeptBreaker()
    assert trial.ended(later, failed=True, threshold=3) == KeptBreaker(OPEN, 4, later)


def test_a_closed_kept_breaker_stays_as_it_is_when_a_use_begins() -> None:
    kept = KeptBreaker(CLOSED, 2)

    assert kept.begun(AT, REST) == kept
