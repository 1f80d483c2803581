"""Metrics of the queue, of its workers, and of what neither could bring into the ledger."""

from collections.abc import Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

QueueAppend = Literal["queued", "full", "unavailable"]
QueueRefusal = Literal["refused", "undecodable", "poison", "full"]

_WORK_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600, 3_600)


class QueueMetrics:
    """What waits in the queue, and what becomes of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = _gauge(registry, "waiting_events", "Events that wait in the queue.")
        self.entries = _gauge(registry, "waiting_entries", "Requests that wait in the queue.")
        self.pending_entries = _gauge(
            registry, "pending_entries", "Requests in the queue that a worker has in hand."
        )
        self.oldest_age_seconds = _gauge(
            registry, "oldest_age_seconds", "How long the oldest request has waited in the queue."
        )
        self.workers = _gauge(
            registry, "living_workers", "Workers that were heard of in the last 15 seconds."
        )
        self.dead_letters = _gauge(
            registry, "dead_letters", "Events and requests that stand among the dead letters."
        )
        self.held_bytes = _gauge(
            registry, "held_bytes", "What this process holds of what it has queued."
        )
        self.bare_events = _gauge(
            registry,
            "bare_events",
            "Events in the queue that this process had no room to hold: Redis alone has them.",
        )
        self.reappended = Counter(
            "footfall_queue_reappended_entries_total",
            "Requests that this process queued anew, as Redis had lost them.",
            registry=registry,
        )
        appended = Counter(
            "footfall_queue_appended_events_total",
            "Events that were to be queued, by outcome (unavailable: the next store was asked).",
            ["outcome"],
            registry=registry,
        )
        self.appended: Mapping[QueueAppend, Counter] = {
            outcome: appended.labels(outcome) for outcome in get_args(QueueAppend)
        }


class WorkerMetrics:
    """What a worker does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.drained = Counter(
            "footfall_worker_drained_events_total",
            "Events that this worker took out of the queue after their commit.",
            registry=registry,
        )
        self.reclaimed = Counter(
            "footfall_worker_reclaimed_entries_total",
            "Requests that this worker took over from one that has died.",
            registry=registry,
        )
        self.retries = Counter(
            "footfall_worker_retries_total",
            "Commits that were tried again, as the ledger was away.",
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "footfall_worker_commit_duration_seconds",
            "Time to commit one group of events to the ledger, attempts together.",
            buckets=_WORK_SECONDS,
            registry=registry,
        )
        refused = Counter(
            "footfall_worker_refused_events_total",
            "Events and requests for the dead letters, by reason (full: there was no room).",
            ["reason"],
            registry=registry,
        )
        self.refused: Mapping[QueueRefusal, Counter] = {
            reason: refused.labels(reason) for reason in get_args(QueueRefusal)
        }


def _gauge(registry: CollectorRegistry, name: str, description: str) -> Gauge:
    return Gauge(f"footfall_queue_{name}", description, registry=registry)
