"""How long something that Vault has lent is ours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Granted for `seconds` (infinite: for ever) at the monotonic time `began`."""

    seconds: float
    began: float

    @classmethod
    def of(cls, seconds: float | None, *, asked: float) -> Lifetime:
        """A grant that was asked for at a monotonic time: counted from there, it ends no later."""
        return cls(math.inf if seconds is None else seconds, asked)

    @property
    def remaining(self) -> float:
        """Seconds until the end; 0 after it."""
        return max(0.0, self.began + self.seconds - monotonic())

    @property
    def due_in(self) -> float:
        """Seconds until it should be renewed: half of what was granted."""
        return max(0.0, self.remaining - self.seconds / 2) if self.is_finite else math.inf

    @property
    def is_finite(self) -> bool:
        """Whether it ends at all."""
        return math.isfinite(self.seconds)

    @property
    def is_in_last_quarter(self) -> bool:
        """Whether it was not renewed for much too long."""
        return self.is_finite and self.remaining <= self.seconds / 4

    def is_worth(self, former: Lifetime) -> bool:
        """Whether a renewal gave more than half of what the first grant did.

        Less of it says that the longest time allowed is nearly over: what is lent must be replaced.
        A quarter of the first grant is left at least when that is found out.
        """
        return self.seconds > former.seconds / 2
