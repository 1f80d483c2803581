"""What is measured of sources; a part of the catalogue in `telemetry/metrics.py`.

Each process counts the refreshes that it makes itself, which is mostly the one that leads.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_REFRESH_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_DELAY_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 300)


class SourceMetrics:
    """How the refreshes of each source end, and what they bring."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refreshes = Counter(
            "footfall_source_refreshes_total",
            "Attempts to refresh a source, by source and by outcome.",
            ["source", "outcome"],
            registry=registry,
        )
        self.refresh_seconds = Histogram(
            "footfall_source_refresh_duration_seconds",
            "Time of one refresh, from its beginning to its commit, by outcome.",
            ["outcome"],
            buckets=_REFRESH_SECONDS,
            registry=registry,
        )
        self.delay_seconds = Histogram(
            "footfall_source_refresh_delay_seconds",
            "Time by which a refresh began later than it was due.",
            buckets=_DELAY_SECONDS,
            registry=registry,
        )
        self.changes = Counter(
            "footfall_source_record_changes_total",
            "Records that a refresh found to be added, changed or vanished, by source.",
            ["source", "kind"],
            registry=registry,
        )
        self.bytes = Counter(
            "footfall_source_received_bytes_total",
            "Bytes that a source answered with, decompressed.",
            ["source"],
            registry=registry,
        )
        self.records = Gauge(
            "footfall_source_records",
            "Records of a source that have not vanished, as of the last refresh here.",
            ["source"],
            registry=registry,
        )
        self.last_success = Gauge(
            "footfall_source_last_success_timestamp_seconds",
            "When a refresh last succeeded here, as a Unix time.",
            ["source"],
            registry=registry,
        )
        self.breaker_changes = Counter(
            "footfall_source_breaker_changes_total",
            "Changes of a source's circuit breaker that were made here, by the new state.",
            ["source", "state"],
            registry=registry,
        )
        self.running = Gauge(
            "footfall_source_running_refreshes",
            "Refreshes that this process makes now.",
            registry=registry,
        )

    def forget(self, source: str) -> None:
        """Drop the series of a source that is no more."""
        for metric in (
            self.refreshes,
            self.changes,
            self.bytes,
            self.records,
            self.last_success,
            self.breaker_changes,
        ):
            metric.remove_by_labels({"source": source})
