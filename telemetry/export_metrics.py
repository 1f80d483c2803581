"""What is measured of exports; a part of the catalogue in `telemetry/metrics.py`.

Each process counts the targets that it writes itself; the lag is that of its own columnar copy.
"""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

TargetOutcome = Literal["succeeded", "failed", "paused", "dead"]

_RUN_SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class ExportMetrics:
    """How exports fare, destination by destination."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag_events = Gauge(
            "footfall_export_lag_events",
            "Events of a destination's site that are in no published run of its chain.",
            ["destination"],
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "footfall_export_lag_seconds",
            "Time since the first event was committed that is in no published run; 0 without any.",
            ["destination"],
            registry=registry,
        )
        self.runs = Counter(
            "footfall_export_runs_total",
            "Runs that were planned, by destination and by what they were planned for.",
            ["destination", "trigger"],
            registry=registry,
        )
        self.targets = Counter(
            "footfall_export_targets_total",
            "Attempts to write a run into a bucket, by destination, bucket and outcome.",
            ["destination", "target", "outcome"],
            registry=registry,
        )
        self.failures = Counter(
            "footfall_export_failures_total",
            "Attempts to write a run into a bucket that failed, by reason.",
            ["reason"],
            registry=registry,
        )
        self.events = Counter(
            "footfall_export_events_total",
            "Events in runs that were published, by destination and bucket.",
            ["destination", "target"],
            registry=registry,
        )
        self.bytes = Counter(
            "footfall_export_bytes_total",
            "Bytes of files in runs that were published, by destination and bucket.",
            ["destination", "target"],
            registry=registry,
        )
        self.run_seconds = Histogram(
            "footfall_export_duration_seconds",
            "Time of an attempt that published a run, from its claim to its end, by bucket.",
            ["target"],
            buckets=_RUN_SECONDS,
            registry=registry,
        )
        self.running = Gauge(
            "footfall_export_running_targets",
            "Attempts under way in this process.",
            registry=registry,
        )
        self._shown: set[str] = set()

    def show_lags(self, lags: dict[str, tuple[int, float]]) -> None:
        """Events and seconds by destination; of those that are not given, nothing is shown."""
        for gone in self._shown - lags.keys():
            self.lag_events.remove(gone)
            self.lag_seconds.remove(gone)
        for destination, (events, seconds) in lags.items():
            self.lag_events.labels(destination).set(events)
            self.lag_seconds.labels(destination).set(seconds)
        self._shown = set(lags)
