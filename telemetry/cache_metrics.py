"""What keeping results of reports saves: a part of the metric catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

CachedFrom = Literal["HIT", "STALE", "MISS", "BYPASS"]

_COMPUTE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class CacheMetrics:
    """What keeping results of reports saves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        answers = Counter(
            "footfall_cache_answers_total",
            "Answers of reports, by where they came from, as their `meta.cache` says.",
            ["status"],
            registry=registry,
        )
        statuses: tuple[CachedFrom, ...] = get_args(CachedFrom)
        self.answers: Mapping[str, Counter] = {
            status: answers.labels(status.lower()) for status in statuses
        }
        self.shared_hits = Counter(
            "footfall_cache_shared_hits_total",
            "Exact results that another process had computed and that were found in Redis.",
            registry=registry,
        )
        self.compute_seconds = Histogram(
            "footfall_cache_compute_duration_seconds",
            "Time to compute results that were not kept, all that one request asks at once.",
            buckets=_COMPUTE_SECONDS,
            registry=registry,
        )
        self.entries = Gauge(
            "footfall_cache_kept_results",
            "Results that this process keeps in its memory.",
            registry=registry,
        )
        self.bytes = Gauge(
            "footfall_cache_kept_bytes",
            "What the results take that this process keeps in its memory.",
            registry=registry,
        )
