"""What is measured of notices to webhooks; a part of the catalogue in `telemetry/metrics.py`."""

from collections.abc import Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

# `failed` will be tried again.
NoticeOutcome = Literal["delivered", "failed", "given_up"]

_DELAY_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 300, 1_800, 3_600, 14_400, 43_200, 86_400)


class NoticeMetrics:
    """Whether those who own destinations hear of their exports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        attempts = Counter(
            "footfall_export_notices_total",
            "Attempts to tell a webhook of an export, by outcome (failed: it is tried again).",
            ["outcome"],
            registry=registry,
        )
        outcomes: tuple[NoticeOutcome, ...] = get_args(NoticeOutcome)
        self.attempts: Mapping[NoticeOutcome, Counter] = {
            outcome: attempts.labels(outcome) for outcome in outcomes
        }
        self.delay_seconds = Histogram(
            "footfall_export_notice_delay_seconds",
            "Time from what a notice tells of to its delivery.",
            buckets=_DELAY_SECONDS,
            registry=registry,
        )
