"""Taking events in: through the pipeline, into a store, and back with a receipt for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from time import perf_counter

from data.events import (
    MAX_EVENTS_PER_REQUEST,
    Event,
    Receipt,
    ReceiptStatus,
    Rejection,
)
from data.intake import Store, StoreAway, StoreFull
from data.postgres.engine import LedgerRefused
from data.postgres.keys import Scope
from resolvers.access import require_site
from resolvers.context import Context
from resolvers.errors import BadUserInput, Overloaded, Unavailable
from resolvers.pipeline import Arrival, process
from telemetry.metrics import IngestMetrics, IngestWay
from telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Door:
    """What taking events in needs: where they are taken, counted and traced."""

    intake: Store
    metrics: IngestMetrics
    way: IngestWay
    tracing: Tracing = field(default_factory=lambda: Tracing(None))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the events of one request: `results[i]` belongs to event i.

    `fresh` says of each event that was taken, in order, whether its id was new; None where they
    are durably queued and it is decided later.
    """

    results: list[Event | Rejection]
    fresh: list[bool] | None

    @property
    def accepted(self) -> int:
        """Events that are in the ledger now and were not before."""
        return sum(self.fresh or ())

    @property
    def duplicates(self) -> int:
        """Events whose id the ledger had already."""
        return len(self.fresh or ()) - sum(self.fresh or ())

    @property
    def queued(self) -> int:
        """Events that are durably queued and not committed yet."""
        return 0 if self.fresh is not None else self._taken

    @property
    def rejected(self) -> int:
        """Events that were refused."""
        return len(self.results) - self._taken

    @property
    def _taken(self) -> int:
        if self.fresh is not None:
            return len(self.fresh)
        return sum(isinstance(result, Event) for result in self.results)

    def receipts(self) -> list[Receipt]:
        """A receipt for each event, in the order sent."""
        taken = iter(self._statuses())
        return [
            _rejected(result, index)
            if isinstance(result, Rejection)
            else Receipt(next(taken), index, result.event_id)
            for index, result in enumerate(self.results)
        ]

    def _statuses(self) -> Iterable[ReceiptStatus]:
        """The status of each event that was taken, in order."""
        if self.fresh is None:
            return repeat(ReceiptStatus.QUEUED)
        return (ReceiptStatus.ACCEPTED if one else ReceiptStatus.DUPLICATE for one in self.fresh)


def _rejected(rejection: Rejection, index: int) -> Receipt:
    return Receipt(
        ReceiptStatus.REJECTED, index, rejection.event_id, rejection.code, rejection.message
    )


async def take_in(door: Door, sent: Sequence[object], arrival: Arrival, size: int) -> Outcome:
    """Take the events of one request; bad ones are kept as rejections and sink no others.

    `size` is the weight of the request in bytes. Raises `Overloaded` before anything was taken,
    or `Unavailable` when no store answered: sending the same ids again is safe then.
    """
    with door.tracing.span("ingest.pipeline", events=len(sent)):
        started = perf_counter()
        results = [process(one, arrival) for one in sent]
        door.metrics.pipeline_seconds.inc(perf_counter() - started)
    events = [result for result in results if isinstance(result, Event)]
    rejections = [result for result in results if isinstance(result, Rejection)]
    counts = door.metrics.events
    try:
        with door.tracing.span("ingest.commit", events=len(events)):
            taken = await door.intake.submit(events, rejections, size)
    except StoreFull as error:
        counts[door.way, "overloaded"].inc(len(results))
        raise Overloaded(
            "more events are on their way than can be taken; try again", error.retry_after
        ) from error
    except (StoreAway, LedgerRefused) as error:
        counts[door.way, "unavailable"].inc(len(results))
        raise Unavailable("ledger", "events cannot be stored now; send them again") from error
    outcome = Outcome(results, taken.fresh)
    counts[door.way, "accepted"].inc(outcome.accepted)
    counts[door.way, "duplicate"].inc(outcome.duplicates)
    counts[door.way, "queued"].inc(outcome.queued)
    counts[door.way, "rejected"].inc(outcome.rejected)
    for code, number in Counter(rejection.code for rejection in rejections).items():
        door.metrics.rejected.labels(code.value).inc(number)
    return outcome


def require_batch_size(count: int) -> None:
    """Raises `BadUserInput` unless a request has 1 to 5,000 events."""
    if not 1 <= count <= MAX_EVENTS_PER_REQUEST:
        raise BadUserInput(
            "events",
            f"a request takes 1 to {MAX_EVENTS_PER_REQUEST} events, not {count}; split it",
        )


async def ingest(ctx: Context, site_id: str | None, sent: Sequence[object]) -> Outcome:
    """Events of a caller with a key."""
    site = await require_site(ctx, site_id, Scope.INGEST)
    require_batch_size(len(sent))
    resources = ctx.resources
    door = Door(resources.intake, resources.metrics.ingest, "graphql", resources.tracing)
    arrival = Arrival(site.site_id, ctx.now, largest=ctx.body_bytes or None)
    return await take_in(door, sent, arrival, ctx.body_bytes)
