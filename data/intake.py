"""Where events are taken: the ledger while it answers, else the next store that keeps them safe.

A store takes the events of a request durably or not at all. Which stores there are, and in which
order they are asked, is decided when the service starts (decision 24).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from data.events import Event, Rejection
from data.group_commit import CommitterClosed, CommitterFull, GroupCommit
from data.postgres.engine import LedgerUnavailable


class NotTaken(Exception):
    """A store did not take the events of a request; the message says why."""


class StoreAway(NotTaken):
    """The store cannot take events now; another may.

    Also where it `is_unknown` whether it took them, as the same ids again are safe.
    """

    def __init__(self, reason: str, *, is_unknown: bool = False) -> None:
        super().__init__(reason)
        self.is_unknown = is_unknown


class StoreFull(NotTaken):
    """The store works, but has more to do than it may; nothing of the request was taken.

    `retry_after` is in seconds.
    """

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the events of one request.

    `fresh` says of each event, in order, whether its id was new: they are committed. None where
    they are durably queued, and it is decided later.
    """

    fresh: list[bool] | None


class Store(Protocol):
    """One way of taking events durably."""

    async def submit(
        self, events: Sequence[Event], rejections: Sequence[Rejection], size: int
    ) -> Taken:
        """Take the events of one request, which weighs `size` bytes.

        Raises `StoreAway` or `StoreFull`, or `LedgerRefused` for what no store could ever hand on.
        """
        ...


@dataclass(frozen=True, slots=True)
class LedgerStore:
    """The ledger itself, by group commit: events are committed when it answers."""

    committer: GroupCommit
    is_away: Callable[[], bool] = lambda: False

    async def submit(
        self, events: Sequence[Event], rejections: Sequence[Rejection], size: int
    ) -> Taken:
        """Commit; while the ledger is known to be away, say so at once."""
        if self.is_away():
            raise StoreAway("the ledger is away")
        try:
            return Taken(await self.committer.submit(events, rejections, size))
        except CommitterFull as error:
            raise StoreFull("more events wait for their commit than may") from error
        except CommitterClosed as error:
            raise StoreFull("the service is stopping") from error
        except LedgerUnavailable as error:
            raise StoreAway(str(error), is_unknown=True) from error


@dataclass(frozen=True, slots=True)
class Intake:
    """Stores in the order in which they are asked; itself one way of taking events.

    A full store is not passed over while the ledger works: that would hide the overload until
    everything is full. With the ledger away, what is full is full of what waits for it.
    """

    stores: Sequence[Store]
    is_ledger_away: Callable[[], bool] = lambda: False

    async def submit(
        self, events: Sequence[Event], rejections: Sequence[Rejection], size: int
    ) -> Taken:
        """What the first store that takes the events made of them.

        Raises what the last one said, `StoreAway` or `StoreFull`; also `LedgerRefused`. That one is
        full is no answer where an earlier one may have taken them: it is `StoreAway` then.
        """
        failure: NotTaken = StoreAway("no store takes events")
        unknown: StoreAway | None = None
        for store in self.stores:
            try:
                return await store.submit(events, rejections, size)
            except StoreAway as away:
                failure = away
                unknown = away if away.is_unknown else unknown
            except StoreFull as full:
                failure = unknown or full
                if not self.is_ledger_away():
                    break
        raise failure
