"""What results may ask of a place that several processes share: entries, and whose turn it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from data.cache import Entry, Question


class Turn(Enum):
    """What a process is to do about a question."""

    FOUND = auto()  # nothing: the exact answer is there
    MINE = auto()  # compute it; the others wait
    BUSY = auto()  # wait: another process computes it
    ALONE = auto()  # compute it; nobody can be asked, or told


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a question. `entry` is exact where it was found; else it may be an older one."""

    turn: Turn
    entry: Entry | None = None


NOBODY = Told(Turn.ALONE)


class SharedResults(Protocol):
    """Entries that processes share, and turns to compute them. None of this raises.

    `token` is of whoever asks: a turn is theirs for some seconds, or until they keep or release it.
    """

    renew_seconds: float

    @property
    def is_available(self) -> bool:
        """Whether others can be asked at the moment, as far as is known."""

    async def ask(
        self, questions: Sequence[Question], own: Sequence[int], token: str
    ) -> list[Told]:
        """For each question what to do; `own` has the position of the entry that is at hand, or -1.

        Whoever asks takes the turns that are free.
        """

    async def look(self) -> tuple[int, int] | None:
        """Position and id of the newest batch that shared entries rest on; None if unknown.

        Entries that others have dropped unheard are forgotten here.
        """

    async def keep(self, kept: Sequence[tuple[Question, Entry]], token: str) -> None:
        """Share entries that were computed, and end the turns."""

    async def renew(self, questions: Sequence[Question], token: str) -> None:
        """Say that the turns are still used."""

    async def release(self, questions: Sequence[Question], token: str) -> None:
        """End turns without an answer."""

    async def drop(self, site_id: str | None) -> set[bytes]:
        """Forget what is shared of a site, or of all; the keys of it.

        What is being computed anywhere meanwhile will not be shared. Where it cannot be done at
        once, nothing is found or shared from here until it is; see `finish_drops`.
        """

    async def finish_drops(self) -> bool:
        """Return when everything is forgotten that was to be; whether that was not at once."""
