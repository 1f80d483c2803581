"""What is measured while the ledger is away: for how long it is, and what waits for it on disk."""

from collections.abc import Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SpoolOutcome = Literal["spooled", "committed", "duplicate", "refused"]

_WRITE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class LedgerMetrics:
    """Whether the ledger takes writes, as far as this process knows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.away_seconds = Gauge(
            "footfall_ledger_away_seconds",
            "How long the ledger has not taken writes; 0 while it does, as far as is known.",
            registry=registry,
        )
        self.outages = Counter(
            "footfall_ledger_outages_total",
            "Times that the ledger failed after it had worked.",
            registry=registry,
        )


class SpoolMetrics:
    """What waits on the local disk for the ledger."""

    def __init__(self, registry: CollectorRegistry) -> None:
        events = Counter(
            "footfall_spool_events_total",
            "Events brought to the spool (spooled) and from there to the ledger, by outcome.",
            ["outcome"],
            registry=registry,
        )
        outcomes: tuple[SpoolOutcome, ...] = get_args(SpoolOutcome)
        self.events: Mapping[SpoolOutcome, Counter] = {
            outcome: events.labels(outcome) for outcome in outcomes
        }
        self.held_bytes = Gauge(
            "footfall_spool_held_bytes",
            "Size of what waits in the spool of this process.",
            registry=registry,
        )
        self.oldest_seconds = Gauge(
            "footfall_spool_oldest_seconds",
            "Age of the oldest segment that waits; 0 when none does.",
            registry=registry,
        )
        self.write_seconds = Histogram(
            "footfall_spool_write_duration_seconds",
            "Time to bring the requests of one group to the disk, with its fsync.",
            buckets=_WRITE_SECONDS,
            registry=registry,
        )
        self.write_failures = Counter(
            "footfall_spool_write_failures_total",
            "Groups that the disk did not take.",
            registry=registry,
        )
        self.damaged_bytes = Counter(
            "footfall_spool_damaged_bytes_total",
            "Bytes of segments that could not be read and were kept aside.",
            registry=registry,
        )
