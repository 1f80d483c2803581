"""What a run has taken, as numbers that a copy, the ledger and a reader of the files can compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """A number of events and the exclusive or of their ids, each as a number of 128 bits.

    Whoever has the events can find it out in any order and any language. A lost, doubled or
    changed event changes it.
    """

    events: int = 0
    checksum: int = 0

    def __add__(self, other: Proof) -> Proof:
        """That of both sets of events together."""
        return Proof(self.events + other.events, self.checksum ^ other.checksum)

    @property
    def checksum_text(self) -> str:
        """The checksum in 32 hexadecimal digits."""
        return f"{self.checksum:032x}"


@dataclass(frozen=True, slots=True)
class Tally:
    """What a part of a selection holds.

    `everything` is about all events of the selection, which the ledger can count as well, `taken`
    about those that pass the filter. `days` are UTC days of `occurred_at` with the number taken.
    """

    everything: Proof = Proof()
    taken: Proof = Proof()
    days: Mapping[date, int] = field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None

    def __add__(self, other: Tally) -> Tally:
        """That of two parts that have no event in common."""
        instants = [self.first_at, self.last_at, other.first_at, other.last_at]
        known = [one for one in instants if one is not None]
        return Tally(
            everything=self.everything + other.everything,
            taken=self.taken + other.taken,
            days=dict(sorted((Counter(self.days) + Counter(other.days)).items())),
            first_at=min(known, default=None),
            last_at=max(known, default=None),
        )


def total(tallies: Iterable[Tally]) -> Tally:
    """That of all parts together."""
    return sum(tallies, start=Tally())
