"""Work that goes on by itself: what fails is told and begun again, and what ends is told, too."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from data import background
from data.background import SAY_AGAIN_SECONDS, Failures, Lane, Loop, in_background

SOON = 60.0

Line = MutableMapping[str, Any]


class Expected(Exception):
    """What a loop expects now and then."""


class Fatal(BaseException):
    """What nobody may catch."""


@dataclass(slots=True)
class Rounds:
    """Work that counts its rounds, and in each does what it is told to."""

    do: Callable[[int], None] = lambda _: None
    begun: int = 0
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        self.begun += 1
        self._more.set()
        self.do(self.begun)

    async def until(self, count: int) -> None:
        """Return when so many rounds have begun."""
        async with asyncio.timeout(SOON):
            while self.begun < count:
                self._more.clear()
                await self._more.wait()


def failing_in(rounds: range) -> Callable[[int], None]:
    def do(number: int) -> None:
        if number in rounds:
            raise RuntimeError(f"round {number}")

    return do


def events(logs: list[Line]) -> list[str]:
    return [line["event"] for line in logs]


async def forever() -> None:
    await asyncio.Event().wait()


async def fail_beside(rounds: Rounds, seen: list[asyncio.Task[None]]) -> None:
    async with in_background(Loop("some.work", rounds, pause=0)) as tasks:
        seen.extend(tasks)
        await rounds.until(1)
        raise ValueError("of the block")


async def turns(count: int) -> None:
    """Let everybody else have so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_rounds_follow_each_other_until_the_block_is_left() -> None:
    rounds = Rounds()
    async with in_background(Loop("some.work", rounds, pause=0)) as [task]:
        await rounds.until(5)
        assert task.get_name() == "some.work"

    begun = rounds.begun
    await turns(20)
    assert task.cancelled()
    assert rounds.begun == begun


async def test_a_pause_is_asked_for_after_each_round_and_may_come_first() -> None:
    asked = list[int]()
    rounds = Rounds()

    def pause() -> float:
        asked.append(rounds.begun)
        return 0

    async with in_background(Loop("some.work", rounds, pause=pause, waits_first=True)):
        await rounds.until(3)

    assert asked[:3] == [0, 1, 2]


async def test_a_round_that_fails_is_told_with_its_traceback_and_the_next_one_comes() -> None:
    rounds = Rounds(failing_in(range(1, 2)))
    with capture_logs() as logs:
        async with in_background(Loop("some.work", rounds, pause=0)):
            await rounds.until(3)

    assert events(logs) == ["some.work.failed"]
    assert logs[0]["log_level"] == "error"
    assert isinstance(logs[0]["exc_info"], RuntimeError)
    assert logs[0]["exc_info"].__traceback__ is not None


async def test_what_fails_always_is_told_once_and_counted_at_the_end() -> None:
    rounds = Rounds(failing_in(range(1, 1000)))
    with capture_logs() as logs:
        async with in_background(Loop("some.work", rounds, pause=0)):
            await rounds.until(3)

    assert events(logs) == ["some.work.failed", "some.work.still_failing"]
    assert logs[1]["failures"] == 3


async def test_how_often_it_failed_is_told_when_it_works_again() -> None:
    rounds = Rounds(failing_in(range(1, 4)))
    with capture_logs() as logs:
        async with in_background(Loop("some.work", rounds, pause=0)):
            await rounds.until(5)

    assert events(logs) == ["some.work.failed", "some.work.works_again"]
    assert logs[1]["failures"] == 3


async def test_an_expected_failure_is_a_line_without_a_traceback() -> None:
    def fail(number: int) -> None:
        if number == 1:
            raise Expected("the disk is full")

    rounds = Rounds(fail)
    with capture_logs() as logs:
        async with in_background(Loop("some.work", rounds, pause=0, expected=(Expected,))):
            await rounds.until(2)

    assert logs == [
        {"event": "some.work.failed", "log_level": "warning", "error": "the disk is full"}
    ]


def test_what_still_fails_is_told_every_so_often_and_another_failure_at_once() -> None:
    failures = Failures("some.work")
    errors = [RuntimeError("one"), RuntimeError("other words"), ValueError("something else")]
    with capture_logs() as logs:
        failures.tell(errors[0], 0.0)
        failures.tell(errors[1], SAY_AGAIN_SECONDS - 1)
        failures.tell(errors[1], SAY_AGAIN_SECONDS)
        failures.tell(errors[1], SAY_AGAIN_SECONDS + 1)
        failures.tell(errors[2], SAY_AGAIN_SECONDS + 2)
        failures.over()
        failures.tell(errors[0], SAY_AGAIN_SECONDS + 3)
        failures.over()
        failures.leave()

    assert [(line["event"], line.get("failures")) for line in logs] == [
        ("some.work.failed", None),
        ("some.work.still_failing", 3),
        ("some.work.failed", None),
        ("some.work.works_again", 5),
        ("some.work.failed", None),
    ]


@pytest.mark.parametrize("pause", [0, lambda: 0])
async def test_what_fails_does_not_spin(
    monkeypatch: pytest.MonkeyPatch, pause: float | Callable[[], float]
) -> None:
    monkeypatch.setattr(background, "LEAST_SECONDS", 3_600.0)
    failing, working = Rounds(failing_in(range(1, 10_000))), Rounds()
    async with in_background(
        Loop("some.failing", failing, pause=pause, retry=0),
        Loop("some.working", working, pause=pause),
        Lane("some.lane", failing),
    ):
        await working.until(1_000)

    # One of the loop, one of the lane.
    assert failing.begun == 2


async def test_a_pause_that_fails_is_a_failure_of_its_loop() -> None:
    rounds = Rounds()

    def pause() -> float:
        if rounds.begun == 1:
            raise RuntimeError("no number")
        return 0

    with capture_logs() as logs:
        async with in_background(Loop("some.work", rounds, pause=pause, retry=0)):
            await rounds.until(3)

    assert events(logs) == ["some.work.failed"]


@pytest.mark.parametrize("pause", [0, 3_600])
async def test_a_loop_is_cancelled_at_work_and_in_its_pause(pause: float) -> None:
    cleaned = list[str]()
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        if pause == 0:
            try:
                await forever()
            finally:
                await asyncio.sleep(0)
                cleaned.append("up")

    with capture_logs() as logs:
        async with asyncio.timeout(SOON), in_background(Loop("some.work", work, pause=pause)):
            await begun.wait()
            await turns(5)

    assert cleaned == (["up"] if pause == 0 else [])
    assert logs == []


async def test_a_cancellation_that_the_work_swallows_ends_the_loop_after_the_round() -> None:
    begun, ended = asyncio.Event(), list[int]()

    async def swallow() -> None:
        begun.set()
        try:
            await forever()
        except asyncio.CancelledError:
            ended.append(1)

    async with asyncio.timeout(SOON), in_background(Loop("some.work", swallow, pause=0)):
        await begun.wait()

    assert ended == [1]


async def test_a_cancellation_of_something_else_is_a_failure_like_others() -> None:
    rounds = Rounds()

    async def wait_for_another() -> None:
        await rounds()
        if rounds.begun == 1:
            other = asyncio.ensure_future(forever())
            other.cancel()
            await other

    with capture_logs() as logs:
        async with in_background(Loop("some.work", wait_for_another, pause=0)):
            await rounds.until(3)

    assert events(logs) == ["some.work.failed"]


async def test_what_nobody_may_catch_ends_the_loop_and_is_raised_at_the_end() -> None:
    def end(_: int) -> None:
        raise Fatal("enough")

    rounds, others = Rounds(end), Rounds()
    with capture_logs() as logs, pytest.raises(Fatal, match="enough"):
        async with in_background(
            Loop("some.work", rounds, pause=0), Loop("other.work", others, pause=0)
        ):
            await others.until(10)

    assert rounds.begun == 1
    assert events(logs) == ["some.work.failed"]


async def test_several_loops_do_not_mind_each_other() -> None:
    failing, working = Rounds(failing_in(range(1, 1000))), Rounds()
    with capture_logs() as logs:
        async with in_background(
            Loop("some.failing", failing, pause=0), Loop("some.working", working, pause=0)
        ) as tasks:
            await failing.until(2)
            await working.until(working.begun + 10)
            assert [task.done() for task in tasks] == [False, False]

    assert {line["event"].rpartition(".")[0] for line in logs} == {"some.failing"}


async def test_an_exception_of_the_block_is_raised_and_the_loops_have_ended() -> None:
    rounds = Rounds(failing_in(range(1, 1000)))
    tasks = list[asyncio.Task[None]]()
    with pytest.raises(ValueError, match="of the block"):
        await fail_beside(rounds, tasks)

    assert [task.cancelled() for task in tasks] == [True]


async def test_an_exception_of_the_block_comes_before_what_ended_a_loop() -> None:
    def end(_: int) -> None:
        raise Fatal

    rounds = Rounds(end)
    with capture_logs() as logs, pytest.raises(ValueError, match="of the block"):
        await fail_beside(rounds, [])

    assert events(logs) == ["some.work.failed"]


async def test_whoever_is_cancelled_in_the_block_takes_the_loops_along() -> None:
    rounds = Rounds()
    inner = list[asyncio.Task[None]]()

    async def hold() -> None:
        async with in_background(Loop("some.work", rounds, pause=0)) as tasks:
            inner.extend(tasks)
            await forever()

    holding = asyncio.ensure_future(hold())
    await rounds.until(1)
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)

    assert holding.cancelled()
    assert inner[0].cancelled()


@pytest.mark.parametrize("fails", [True, False])
async def test_a_lane_that_ends_before_it_may_is_told_and_begins_anew(fails: bool) -> None:
    rounds = Rounds(failing_in(range(1, 2)) if fails else lambda _: None)

    async def work() -> None:
        await rounds()
        if rounds.begun > 1:
            await forever()

    with capture_logs() as logs:
        async with in_background(Lane("some.lane", work)) as [task]:
            await rounds.until(2)
            assert not task.done()

    assert events(logs) == ["some.lane.failed"]
    assert ("ended by itself" in logs[0]["error"]) is not fails


async def test_a_lane_comes_to_its_end_when_it_may_but_not_by_a_failure() -> None:
    rounds = Rounds(failing_in(range(1, 2)))
    with capture_logs() as logs:
        async with in_background(Lane("some.lane", rounds, may_end=lambda: True)) as [task]:
            async with asyncio.timeout(SOON):
                await asyncio.wait([task])
            assert (task.done(), task.cancelled()) == (True, False)

    assert rounds.begun == 2
    assert events(logs) == ["some.lane.failed"]


async def test_work_may_be_anything_that_can_be_awaited() -> None:
    rounds = Rounds()

    def work() -> Awaitable[None]:
        return asyncio.ensure_future(rounds())

    async with in_background(Loop("some.work", work, pause=0)):
        await rounds.until(3)
