"""Five minutes of one site in memory, kept up by what changes from second to second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import nsmallest

from data.queries import ACTIVITY_WINDOW, TOP_PATHS, Activity, ActivityChanges

SECONDS = int(ACTIVITY_WINDOW.total_seconds())


@dataclass(slots=True)
class Window:
    """Who was there and what happened in the seconds from `at` - 299 to `at`.

    An actor counts by the last second in which they did something: a table of actors and not
    of events, and whoever is not seen again leaves with that second. Paths are counted by second,
    so that a second takes its own counts with it. Both are exact, in whatever order events come.
    """

    at: int = 0
    _last_seconds: dict[str, int] = field(default_factory=dict)
    _actors: Counter[int] = field(default_factory=Counter)
    _events: Counter[int] = field(default_factory=Counter)
    _paths: dict[int, dict[str, int]] = field(default_factory=dict)
    _path_totals: Counter[str] = field(default_factory=Counter)
    _path_entries: int = 0

    @property
    def entries(self) -> int:
        """What it takes of memory, in entries of some 250 bytes."""
        return len(self._last_seconds) + self._path_entries

    def move(self, at: int, changes: ActivityChanges) -> Activity:
        """What the window holds when it ends at `at`.

        `changes` is what it did not know, of the seconds from `at` - 299 to `at` alone. `at` must
        not be before the one of the last time.
        """
        self.at = at
        self._let_go()
        self._see(changes.actors)
        self._count(changes.paths)
        first = nsmallest(
            TOP_PATHS, self._path_totals.items(), key=lambda total: (-total[1], total[0])
        )
        return Activity(
            at=datetime.fromtimestamp(at, UTC),
            users=self._actors.total(),
            events=self._events.total(),
            top_paths=tuple(path for path, _ in first),
        )

    def _see(self, actors: Iterable[tuple[str, int]]) -> None:
        last_seconds, in_second = self._last_seconds, self._actors
        for actor, second in actors:
            before = last_seconds.get(actor, 0)
            if second > before:
                last_seconds[actor] = second
                in_second[second] += 1
                if before in in_second:
                    in_second[before] -= 1

    def _count(self, paths: Iterable[tuple[int, str | None, int]]) -> None:
        for second, path, events in paths:
            self._events[second] += events
            if path is not None:
                of_second = self._paths.setdefault(second, {})
                if path not in of_second:
                    self._path_entries += 1
                of_second[path] = of_second.get(path, 0) + events
                self._path_totals[path] += events

    def _let_go(self) -> None:
        """Forget the seconds that the window has left behind."""
        gone = [second for second in self._events if second <= self.at - SECONDS]
        for second in gone:
            del self._events[second]
            self._actors.pop(second, None)
            paths = self._paths.pop(second, {})
            self._path_entries -= len(paths)
            for path, events in paths.items():
                self._path_totals[path] -= events
                if not self._path_totals[path]:
                    del self._path_totals[path]
        # Actors who left stand there still; now and then, not each second.
        if len(self._last_seconds) > 2 * self._actors.total() + SECONDS:
            self._last_seconds = {
                actor: second
                for actor, second in self._last_seconds.items()
                if second in self._actors
            }
