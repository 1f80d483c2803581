"""Results: answers that are kept, exact as long as nothing they cover has changed.

An answer is exact whatever its age if nothing has come in since that it covers. If something has,
it is computed anew, once for all who ask in all processes, and they wait for it a moment; if that
is not enough, they get the answer from before while the computation goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from secrets import token_hex
from time import monotonic, perf_counter
from typing import Any

from data.background import Loop, in_background
from data.cache import CacheStatus, Entry, Question, Room
from data.flights import Compute, Computed, Flight, Group, Landed
from data.shared_results import NOBODY, SharedResults, Told, Turn
from telemetry.cache_metrics import CacheMetrics

# Longer than any request may wait for its answer.
MOST_SECONDS = 120.0
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ResultsState:
    """What a process keeps, and how its questions were answered since it started.

    `shared`: it shares its results with other processes at the moment.
    """

    entries: int
    bytes: int
    hits: int
    stale_hits: int
    misses: int
    bypasses: int
    shared: bool

    @property
    def hit_rate(self) -> float:
        """The share of questions that were answered from what was kept, old or not; 0 to 1."""
        kept = self.hits + self.stale_hits
        asked = kept + self.misses + self.bypasses
        return kept / asked if asked else 0.0


@dataclass(slots=True, eq=False)
class Results:
    """The answers of one process, and through `shared` those of others. Made by `open_results`.

    `patience` is how many seconds a question waits for a newer answer where there is an older one,
    unless its lifetimes say otherwise.
    `also` is told when everything is to be forgotten that rests on results.
    """

    room: Room
    shared: SharedResults | None
    metrics: CacheMetrics
    clock: Callable[[], datetime]
    patience: float
    also: list[Callable[[], None]] = field(default_factory=list)
    tell: Callable[[], None] = lambda: None
    _flights: dict[bytes, Flight] = field(default_factory=dict)
    _groups: dict[Flight, Group] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    # Goes up when results are dropped: what was begun before is not kept.
    _epoch: int = 0
    _counts: Counter[CacheStatus] = field(default_factory=Counter)

    @property
    def state(self) -> ResultsState:
        """What is kept at the moment, and how often it served."""
        return ResultsState(
            entries=len(self.room),
            bytes=self.room.size,
            hits=self._counts[CacheStatus.HIT],
            stale_hits=self._counts[CacheStatus.STALE],
            misses=self._counts[CacheStatus.MISS],
            bypasses=self._counts[CacheStatus.BYPASS],
            shared=self.shared is not None and self.shared.is_available,
        )

    def find(self, question: Question) -> Landed | None:
        """The answer at hand, if it is exact, or not to be computed anew yet."""
        entry = self.room.get(question.key)
        if entry is None:
            return None
        now = self.clock()
        if entry.is_exact(question):
            entry.confirm(question, now)
            return self._counted(entry, CacheStatus.HIT)
        lifetimes = question.lifetimes
        if entry.is_resting(lifetimes, now, self.patience) and entry.may_serve(lifetimes, now):
            return self._counted(entry, CacheStatus.STALE)
        return None

    async def answer(self, question: Question, batch: Batch) -> Landed:
        """The answer at hand, or computed with what else the batch asks at the moment."""
        found = self.find(question)
        if found is not None:
            return found
        asked_at = monotonic()
        while True:
            flight = self._flights.get(question.key)
            if flight is None:
                flight = batch.begin(question)
            landed = await self._wait(flight, question)
            # What had taken off before may have left without the newest events.
            is_new = flight.is_newer(question, asked_at)
            if is_new or landed.status is CacheStatus.STALE or landed.entry.is_exact(question):
                return self._counted(landed.entry, landed.status)

    async def _wait(self, flight: Flight, question: Question) -> Landed:
        with flight.waited_for() as future:
            # Who comes later waits the shorter: it is known by then to take long.
            own = question.lifetimes.patience
            patience = self.patience if own is None else own
            left = max(0.0, flight.began + patience - monotonic())
            await asyncio.wait({future}, timeout=left)
            if not future.done() and (older := self._older(question)):
                flight.goes_on = True
                return Landed(older, CacheStatus.STALE)
            try:
                return await asyncio.shield(future)
            except Exception:
                # Better what was right a moment ago than nothing.
                if older := self._older(question):
                    return Landed(older, CacheStatus.STALE)
                raise

    def _older(self, question: Question) -> Entry | None:
        entry = self.room.get(question.key)
        if entry is None or not entry.may_serve(question.lifetimes, self.clock()):
            return None
        return entry

    @property
    def epoch(self) -> int:
        """What answers belong to that are begun now; another one after each drop."""
        return self._epoch

    def keep(self, question: Question, computed: Computed, seconds: float, epoch: int) -> Entry:
        """Keep an answer that was computed without asking for others, begun in this epoch."""
        entry = self._entry(question, computed, 0, seconds)
        if epoch == self._epoch:
            self._put(question, entry)
        return self._counted(entry, CacheStatus.BYPASS).entry

    async def drop(self, site_id: str | None) -> int:
        """Forget the answers of a site, or all, here and in other processes; how many there were.

        Counted are those kept here and those that are shared, each once.
        """
        keys = self.forget(site_id)
        if self.shared is not None:
            keys |= await self.shared.drop(site_id)
            self.tell()
            self.begin(self._finish_drops(self.shared))
        return len(keys)

    async def _finish_drops(self, shared: SharedResults) -> None:
        if await shared.finish_drops():
            self.tell()

    def forget(self, site_id: str | None = None) -> set[bytes]:
        """Forget what is kept here of a site, or of all, and all that rests on it; their keys."""
        self._epoch += 1
        # Who asks from now on does not join what was begun before.
        self._flights.clear()
        for also in self.also:
            also()
        keys = self.room.drop(site_id)
        self._measure()
        return keys

    def drop_soon(self) -> None:
        """Forget everything here at once, and everywhere in a moment."""
        self.forget()
        self.begin(self._drop_all())

    def forget_all(self) -> None:
        """Forget everything here: another process has dropped results."""
        self.forget(None)

    async def _drop_all(self) -> None:
        await self.drop(None)

    def launch(self, group: Group) -> None:
        """Let the flights of a group take off, those that are still wanted."""
        for flight in group.flights:
            if not flight.is_wanted:
                self._leave(flight)
        group.flights = [flight for flight in group.flights if flight.is_wanted]
        if group.flights:
            self.begin(self._fly(group), group)

    def register(self, question: Question, group: Group) -> Flight:
        """A new flight of a group, which everybody joins who asks for the same."""
        flight = Flight(question, self._left)
        group.flights.append(flight)
        self._flights[question.key] = flight
        self._groups[flight] = group
        return flight

    def _left(self, flight: Flight) -> None:
        """Nobody waits for it any more: give it up, and all of its group if that is the last."""
        group = self._groups.get(flight)
        self._leave(flight)
        if group is not None and group.task is not None and not group.is_wanted:
            group.task.cancel()

    def _leave(self, flight: Flight) -> None:
        if self._flights.get(flight.question.key) is flight:
            del self._flights[flight.question.key]
        self._groups.pop(flight, None)

    async def _fly(self, group: Group) -> None:
        flights, token = group.flights, token_hex(8)
        try:
            async with asyncio.timeout(MOST_SECONDS):
                told = await self._ask(flights, token)
                mine = [flight for flight, one in told if one.turn in (Turn.MINE, Turn.ALONE)]
                busy = [flight for flight, one in told if one.turn is Turn.BUSY]
                await asyncio.gather(
                    self._compute(mine, group.compute, token),
                    *(self._compute_in_turn(one, group.compute, token) for one in busy),
                )
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            for flight in flights:
                flight.fail(error)
        finally:
            for flight in flights:
                self._leave(flight)
                flight.future.cancel()  # where it has not landed: then nobody waits

    async def _ask(self, flights: Sequence[Flight], token: str) -> list[tuple[Flight, Told]]:
        """What to do about each flight; those whose answer is there have landed."""
        if self.shared is None:
            return [(flight, NOBODY) for flight in flights]
        questions = [flight.question for flight in flights]
        entries = [self.room.get(question.key) for question in questions]
        own = [entry.position if entry else -1 for entry in entries]
        epoch = self._epoch
        told = await self.shared.ask(questions, own, token)
        for flight, one in zip(flights, told, strict=True):
            if one.entry is None:
                continue
            if epoch == self._epoch:
                self._put(flight.question, one.entry)
            if one.turn is Turn.FOUND:
                self.metrics.shared_hits.inc()
                one.entry.confirm(flight.question, self.clock())
                self._land(flight, one.entry, CacheStatus.HIT)
        return list(zip(flights, told, strict=True))

    async def _compute_in_turn(self, flight: Flight, compute: Compute, token: str) -> None:
        """Wait until another process has the answer, or until it is our turn to compute it."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_SECONDS)
            [(_, told)] = await self._ask([flight], token)
            if told.turn in (Turn.MINE, Turn.ALONE):
                await self._compute([flight], compute, token)
            if told.turn is not Turn.BUSY:
                return

    async def _compute(self, flights: Sequence[Flight], compute: Compute, token: str) -> None:
        if not flights:
            return
        questions = [flight.question for flight in flights]
        epoch, began = self._epoch, perf_counter()
        kept: list[tuple[Question, Entry]] = []
        try:
            async with self._renewing(questions, token):
                computed = await compute([question.asked for question in questions])
            seconds = perf_counter() - began
            self.metrics.compute_seconds.observe(seconds)
            for place, flight in enumerate(flights):
                entry = self._entry(flight.question, computed, place, seconds)
                if epoch == self._epoch:
                    self._put(flight.question, entry)
                    kept.append((flight.question, entry))
                self._land(flight, entry, CacheStatus.MISS)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            for flight in flights:
                self._leave(flight)
                flight.fail(error)
        finally:
            if self.shared is not None and not kept:
                # By a task of its own, as this one may be cancelled.
                self.begin(self.shared.release(questions, token))
        if self.shared is not None and kept:
            await self.shared.keep(kept, token)

    def _land(self, flight: Flight, entry: Entry, status: CacheStatus) -> None:
        self._leave(flight)
        flight.land(entry, status)

    @asynccontextmanager
    async def _renewing(self, questions: Sequence[Question], token: str) -> AsyncIterator[None]:
        if self.shared is None:
            yield
            return
        renew = partial(self.shared.renew, questions, token)
        every = self.shared.renew_seconds
        async with in_background(Loop("results.renew", renew, pause=every, waits_first=True)):
            yield

    def _entry(self, question: Question, computed: Computed, place: int, seconds: float) -> Entry:
        now, rows = self.clock(), computed.rows[place]
        return Entry(
            rows=rows,
            site_id=question.site_id,
            position=computed.position,
            through=computed.through,
            computed_at=now,
            exact_at=now,
            seconds=seconds,
            size=question.codec.size(rows),
        )

    def _put(self, question: Question, entry: Entry) -> None:
        self.room.put(question.key, entry)
        self._measure()

    def _measure(self) -> None:
        self.metrics.entries.set(len(self.room))
        self.metrics.bytes.set(self.room.size)

    def _counted(self, entry: Entry, status: CacheStatus) -> Landed:
        self._counts[status] += 1
        self.metrics.answers[status.value].inc()
        return Landed(entry, status)

    def begin(self, work: Coroutine[Any, Any, None], group: Group | None = None) -> None:
        """Have something done in a task of its own, which does not outlive these results."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if group is not None:
            group.task = task

    async def close(self) -> None:
        """Give up all that is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Those who were cancelled give their turns back.
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(slots=True, eq=False)
class Batch:
    """Questions of one kind and request: those asked at the same moment are computed as one."""

    results: Results
    compute: Compute
    _open: Group | None = None

    def begin(self, question: Question) -> Flight:
        """The flight of a question, which takes off in a moment, together with others."""
        if self._open is None:
            self._open = Group(self.compute)
            # Not at once: whoever waits for the same thing as we did comes just behind us.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._launch)
        return self.results.register(question, self._open)

    def _launch(self) -> None:
        group, self._open = self._open, None
        if group is not None:
            self.results.launch(group)


@asynccontextmanager
async def open_results(results: Results) -> AsyncIterator[Results]:
    """Results, whose computations end when the block is left."""
    try:
        yield results
    finally:
        await results.close()
