"""The columnar copy: how it follows, and what is asked of it: a part of the metric catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SliceOutcome = Literal["applied", "failed"]

_WORK_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600, 3_600)
_STORE_SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)


class FollowMetrics:
    """How far the columnar copy is behind the ledger, and what following costs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.watermark_position = Gauge(
            "footfall_follow_watermark_position",
            "Position in the change feed up to which the columnar copy is complete.",
            registry=registry,
        )
        self.ledger_position = Gauge(
            "footfall_follow_ledger_position",
            "Last position in the change feed that the follower has seen.",
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "footfall_follow_lag_seconds",
            "Age of the oldest committed batch that the columnar copy lacks; 0 when it has all.",
            registry=registry,
        )
        slices = Counter(
            "footfall_follow_slices_total",
            "Slices of the change feed handled, by outcome.",
            ["outcome"],
            registry=registry,
        )
        outcomes: tuple[SliceOutcome, ...] = get_args(SliceOutcome)
        self.slices: Mapping[SliceOutcome, Counter] = {
            outcome: slices.labels(outcome) for outcome in outcomes
        }
        self.applied_rows = Counter(
            "footfall_follow_applied_rows_total",
            "Events written to the columnar copy.",
            registry=registry,
        )
        self.apply_seconds = Histogram(
            "footfall_follow_apply_duration_seconds",
            "Time to write one slice and its watermark to the columnar copy.",
            buckets=_WORK_SECONDS,
            registry=registry,
        )
        self.rebuilds = Counter(
            "footfall_follow_rebuilds_total",
            "Times that the columnar copy was built anew from the ledger, by reason.",
            ["reason"],
            registry=registry,
        )


class StoreMetrics:
    """What questions to the stores cost; `query` is the name of the function that asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.query_seconds = Histogram(
            "footfall_store_query_duration_seconds",
            "Time of one question to a store, by the name of the query.",
            ["query"],
            buckets=_STORE_SECONDS,
            registry=registry,
        )
        self.failures = Counter(
            "footfall_store_failures_total",
            "Questions that a store did not answer, by the name of the query.",
            ["query"],
            registry=registry,
        )
        self.interruptions = Counter(
            "footfall_store_interruptions_total",
            "Questions that were ended because nobody waited any more, by the name of the query.",
            ["query"],
            registry=registry,
        )
