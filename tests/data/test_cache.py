"""Kept results: exact ones at once, old ones for a while, and each computed once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from data.cache import (
    NO_POSITION,
    OF_NOW,
    OF_THE_PAST,
    CacheStatus,
    Codec,
    Entry,
    Question,
    Room,
    position_at,
)
from data.flights import Computed, Landed
from data.results import Batch, Results, open_results
from telemetry.metrics import Metrics

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CODEC = Codec(encode=str.encode, decode=bytes.decode, size=len)
HIT, STALE, MISS = CacheStatus.HIT, CacheStatus.STALE, CacheStatus.MISS


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Store:
    """Computes rows that tell at which position they were computed, when its gate is open."""

    position: int = 1
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[list[str]] = field(default_factory=list)
    ended: int = 0
    cancelled: int = 0
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    async def compute(self, asked: Sequence[str]) -> Computed:
        self.begun.append(list(asked))
        position = self.position
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        self.ended += 1
        through = NOON + timedelta(seconds=position)
        return Computed([f"{one}@{position}" for one in asked], position, through)


@dataclass
class Scene:
    """Results of one process, its store and its clock. Questions go by their name."""

    results: Results
    store: Store
    clock: Clock

    def question(self, name: str = "a", version: int | None = None, **fields: Any) -> Question:
        """A question whose days were touched at a position last: at the store's, unless told."""
        question = Question(
            asked=name,
            key=name.encode(),
            site_id="shop",
            version=self.store.position if version is None else version,
            position=self.store.position,
            through=NOON + timedelta(seconds=self.store.position),
            lifetimes=OF_NOW,
            codec=CODEC,
        )
        return replace(question, **fields)

    async def ask(self, *args: Any, **fields: Any) -> tuple[str, CacheStatus]:
        return told(await self.answer(*args, **fields))

    async def answer(self, *args: Any, **fields: Any) -> Landed:
        batch = Batch(self.results, self.store.compute)
        return await self.results.answer(self.question(*args, **fields), batch)

    async def is_begun(self, times: int) -> None:
        """Return when so many computations were begun."""
        async with asyncio.timeout(20):
            while len(self.store.begun) < times:
                await asyncio.sleep(0)


def told(landed: Landed) -> tuple[str, CacheStatus]:
    return landed.entry.rows, landed.status


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = Clock()
    made = Results(Room(1_000_000), None, Metrics.create().cache, clock, patience=0.02)
    async with open_results(made) as results:
        yield Scene(results, Store(), clock)


async def slow(scene: Scene, seconds: float, *args: Any) -> None:
    """Ask for something that takes some seconds, by the store's account."""
    await scene.answer(*args)
    entry = scene.results.room.get(b"a")
    assert entry is not None
    entry.seconds = seconds


async def test_what_has_not_changed_is_exact_whatever_its_age(scene: Scene) -> None:
    assert await scene.ask() == ("a@1", MISS)
    scene.clock.forward(1e7)
    scene.store.position = 9

    assert await scene.ask(version=1) == ("a@1", HIT)
    assert len(scene.store.begun) == 1


async def test_an_exact_answer_rests_on_all_that_has_come_since(scene: Scene) -> None:
    first = (await scene.answer()).entry.through
    scene.store.position = 9

    landed = await scene.answer(version=1)

    assert first == NOON + timedelta(seconds=1)
    assert landed.entry.through == NOON + timedelta(seconds=9)
    assert landed.entry.computed_at == NOON
    # It is known to hold up to 9 now, which is all that somebody at 9 may ask.
    assert await scene.ask(version=9) == ("a@1", HIT)


async def test_an_answer_that_is_newer_than_the_own_copy_keeps_what_it_rests_on(
    scene: Scene,
) -> None:
    scene.store.position = 9
    await scene.answer()
    scene.store.position = 4

    landed = await scene.answer(version=4)

    assert told(landed) == ("a@9", HIT)
    assert landed.entry.through == NOON + timedelta(seconds=9)


async def test_what_has_changed_is_computed_anew(scene: Scene) -> None:
    scene.results.patience = 60
    await scene.ask()
    scene.store.position = 2

    assert await scene.ask() == ("a@2", MISS)
    assert await scene.ask() == ("a@2", HIT)


async def test_a_computation_that_takes_too_long_is_not_waited_for_and_goes_on(
    scene: Scene,
) -> None:
    await scene.ask()
    scene.store.position = 2
    scene.store.gate.clear()

    landed = await scene.answer()

    assert told(landed) == ("a@1", STALE)
    assert landed.entry.through == NOON + timedelta(seconds=1)
    scene.store.gate.set()
    async with asyncio.timeout(20):
        while scene.store.ended < 2:
            await asyncio.sleep(0)
    assert await scene.ask() == ("a@2", HIT)
    assert scene.store.cancelled == 0


async def test_what_is_too_old_is_not_shown(scene: Scene) -> None:
    await scene.ask()
    scene.store.position = 2
    scene.store.gate.clear()
    scene.clock.forward(OF_NOW.stale)
    asking = asyncio.create_task(scene.ask())
    await scene.is_begun(2)
    await asyncio.sleep(0.1)
    assert not asking.done()

    scene.store.gate.set()

    assert await asking == ("a@2", MISS)


async def test_the_past_may_be_shown_for_longer(scene: Scene) -> None:
    await scene.ask()
    scene.store.position = 2
    scene.store.gate.clear()
    scene.clock.forward(OF_THE_PAST.stale - 1)

    assert await scene.ask(lifetimes=OF_THE_PAST) == ("a@1", STALE)


async def test_age_counts_from_the_moment_at_which_it_was_last_known_to_be_exact(
    scene: Scene,
) -> None:
    await scene.ask()
    scene.clock.forward(1e7)
    await scene.ask()
    scene.store.position = 2
    scene.store.gate.clear()

    assert await scene.ask() == ("a@1", STALE)


@pytest.mark.parametrize(
    ("lifetimes", "seconds", "rests"),
    [(OF_NOW, 0.3, 1.2), (OF_NOW, 7.0, 2.0), (OF_THE_PAST, 0.3, 3.0), (OF_THE_PAST, 7.0, 5.0)],
)
async def test_what_took_long_is_shown_for_a_while_without_being_computed_anew(
    scene: Scene, lifetimes: Any, seconds: float, rests: float
) -> None:
    await slow(scene, seconds)
    scene.store.position = 2

    scene.clock.forward(rests - 0.01)
    assert await scene.ask(lifetimes=lifetimes) == ("a@1", STALE)
    assert len(scene.store.begun) == 1

    scene.clock.forward(0.02)
    assert await scene.ask(lifetimes=lifetimes) == ("a@2", MISS)


async def test_what_was_computed_within_patience_is_never_shown_without_asking(
    scene: Scene,
) -> None:
    scene.results.patience = 60
    await slow(scene, 60)
    scene.store.position = 2

    assert await scene.ask() == ("a@2", MISS)


async def test_many_who_ask_the_same_are_answered_by_one_computation(scene: Scene) -> None:
    answers = await asyncio.gather(*(scene.ask() for _ in range(100)))

    assert set(answers) == {("a@1", MISS)}
    assert scene.store.begun == [["a"]]


async def test_what_one_batch_asks_at_the_same_moment_is_computed_together(scene: Scene) -> None:
    batch = Batch(scene.results, scene.store.compute)
    await scene.ask("b")
    answers = await asyncio.gather(
        *(scene.results.answer(scene.question(name), batch) for name in ("a", "b", "c", "a"))
    )

    assert [told(one) for one in answers] == [
        ("a@1", MISS),
        ("b@1", HIT),
        ("c@1", MISS),
        ("a@1", MISS),
    ]
    assert scene.store.begun == [["b"], ["a", "c"]]


async def test_what_took_off_before_an_event_does_not_answer_those_who_know_of_it(
    scene: Scene,
) -> None:
    scene.store.gate.clear()
    first = asyncio.create_task(scene.ask())
    await scene.is_begun(1)
    scene.store.position = 2
    second = asyncio.create_task(scene.ask())
    await asyncio.sleep(0.05)

    scene.store.gate.set()

    assert await first == ("a@1", MISS)
    assert await second == ("a@2", MISS)


async def test_while_nobody_knows_what_has_changed_one_more_computation_is_for_all_who_wait(
    scene: Scene,
) -> None:
    unknown = 2**62
    scene.store.gate.clear()
    asking = [asyncio.create_task(scene.ask(version=unknown)) for _ in range(50)]
    await scene.is_begun(1)
    scene.results.patience = 60

    scene.store.gate.set()

    assert set(await asyncio.gather(*asking)) == {("a@1", MISS)}
    assert len(scene.store.begun) <= 2


async def test_who_stops_waiting_does_not_stop_the_others(scene: Scene) -> None:
    scene.store.gate.clear()
    one, other = asyncio.create_task(scene.ask()), asyncio.create_task(scene.ask())
    await scene.is_begun(1)
    one.cancel()
    await asyncio.sleep(0.05)

    scene.store.gate.set()

    assert await other == ("a@1", MISS)
    assert scene.store.cancelled == 0


async def test_what_nobody_waits_for_any_more_is_given_up(scene: Scene) -> None:
    scene.store.gate.clear()
    asking = [asyncio.create_task(scene.ask()) for _ in range(3)]
    await scene.is_begun(1)
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    async with asyncio.timeout(20):
        while not scene.store.cancelled:
            await asyncio.sleep(0)

    scene.store.gate.set()

    assert await scene.ask() == ("a@1", MISS)


async def test_a_group_goes_on_for_the_one_that_is_still_wanted(scene: Scene) -> None:
    scene.store.gate.clear()
    batch = Batch(scene.results, scene.store.compute)
    left, wanted = (
        asyncio.create_task(scene.results.answer(scene.question(name), batch)) for name in "ab"
    )
    await scene.is_begun(1)
    left.cancel()
    await asyncio.sleep(0.05)

    scene.store.gate.set()

    assert told(await wanted) == ("b@1", MISS)


async def test_a_failure_reaches_all_who_wait_and_nothing_is_kept_of_it(scene: Scene) -> None:
    scene.store.failure = ValueError("broken")
    answers = await asyncio.gather(*(scene.ask() for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in answers] == [ValueError] * 3
    scene.store.failure = None

    assert await scene.ask() == ("a@1", MISS)


async def test_where_computing_fails_the_answer_from_before_serves(scene: Scene) -> None:
    await scene.ask()
    scene.store.position, scene.store.failure = 2, ValueError("broken")

    assert await scene.ask() == ("a@1", STALE)


async def test_what_is_dropped_is_computed_anew(scene: Scene) -> None:
    await scene.ask("a")
    await scene.ask("b", site_id="blog")

    assert await scene.results.drop("shop") == 1
    assert await scene.ask("a") == ("a@1", MISS)
    assert await scene.ask("b", site_id="blog") == ("b@1", HIT)
    assert await scene.results.drop(None) == 2
    assert await scene.ask("b") == ("b@1", MISS)


async def test_what_was_begun_before_a_drop_answers_who_waited_and_is_not_kept(
    scene: Scene,
) -> None:
    scene.store.gate.clear()
    before = asyncio.create_task(scene.ask())
    await scene.is_begun(1)
    await scene.results.drop(None)
    after = asyncio.create_task(scene.ask())
    await scene.is_begun(2)

    scene.store.gate.set()

    assert await before == await after == ("a@1", MISS)
    assert await scene.ask() == ("a@1", HIT)


async def test_who_else_keeps_what_rests_on_results_is_told_of_a_drop(scene: Scene) -> None:
    heard: list[str] = []
    scene.results.also.append(lambda: heard.append("dropped"))

    await scene.results.drop("shop")

    assert heard == ["dropped"]


async def test_a_result_that_was_asked_for_anew_is_kept_for_others(scene: Scene) -> None:
    await scene.ask()
    scene.store.position = 2

    scene.results.keep(scene.question(), Computed(["a@2"], 2, None), 0.001, scene.results.epoch)

    assert await scene.ask() == ("a@2", HIT)


async def test_a_result_that_was_asked_for_anew_before_a_drop_is_not_kept(scene: Scene) -> None:
    epoch = scene.results.epoch
    await scene.results.drop(None)

    entry = scene.results.keep(scene.question(), Computed(["a@0"], 9, None), 0.001, epoch)

    assert entry.rows == "a@0"
    assert await scene.ask() == ("a@1", MISS)


async def test_the_state_counts_where_answers_came_from(scene: Scene) -> None:
    assert scene.results.state.hit_rate == 0
    for _ in range(3):
        await scene.ask()
    await slow(scene, 60)
    scene.store.position = 2
    await scene.ask()
    scene.results.keep(scene.question("b"), Computed(["b"], 2, None), 0.001, scene.results.epoch)

    state = scene.results.state
    assert (state.entries, state.hits, state.stale_hits, state.misses, state.bypasses) == (
        *(2, 3, 1, 1, 1),
    )
    assert state.hit_rate == 4 / 6
    assert not state.shared
    assert state.bytes == scene.results.room.size > 0


def entry(size: int, position: int = 1) -> Entry:
    return Entry("rows", "shop", position, None, NOON, NOON, 0.001, size)


def test_room_is_bounded_and_what_was_used_last_stays() -> None:
    room = Room(20_000)
    for number in range(100):
        room.put(b"%d" % number, entry(1_000))
        room.get(b"0")

    assert room.size <= 20_000
    assert len(room) == 10
    assert room.get(b"0") is not None
    assert room.get(b"99") is not None
    assert room.get(b"50") is None


def test_what_is_too_large_is_not_kept() -> None:
    room = Room(20_000)
    room.put(b"a", entry(2_000))

    assert room.get(b"a") is None
    assert room.size == 0
    assert Room(0).drop(None) == set()


def test_what_rests_on_less_does_not_take_the_place_of_what_rests_on_more() -> None:
    room = Room(20_000)
    room.put(b"a", newer := entry(10, position=7))
    room.put(b"a", entry(10, position=6))
    assert room.get(b"a") is newer

    room.put(b"a", again := entry(20, position=7))
    assert room.get(b"a") is again
    assert room.size == 1_020


async def test_a_question_of_the_clock_is_exact_for_a_while(scene: Scene) -> None:
    async def compute(asked: Sequence[str]) -> Computed:
        return Computed(asked, position_at(scene.clock.now), None)

    async def ask(seconds: float) -> Landed:
        scene.clock.forward(seconds)
        fresh = position_at(scene.clock.now - timedelta(seconds=1))
        question = scene.question(version=fresh, position=NO_POSITION)
        return await scene.results.answer(question, Batch(scene.results, compute))

    landed = [await ask(seconds) for seconds in (0, 0.75, 0.25, 0.25)]

    assert [one.status for one in landed] == [MISS, HIT, HIT, MISS]
    assert landed[-1].entry.position - landed[0].entry.position == 1_250


async def test_lifetimes_may_have_a_patience_of_their_own(scene: Scene) -> None:
    scene.results.patience = 60
    impatient = replace(OF_NOW, patience=0)
    await scene.ask()
    scene.store.position = 2
    scene.store.gate.clear()

    stale = await scene.ask(lifetimes=impatient)
    scene.store.gate.set()
    exact = await scene.ask()

    assert stale == ("a@1", STALE)
    assert exact[0] == "a@2"
