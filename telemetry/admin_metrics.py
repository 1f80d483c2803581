"""What the service measures about its administration: the log of it, and keys that are no good."""

from collections.abc import Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

LogOutcome = Literal["written", "dropped"]


class AdminLogMetrics:
    """How long the admin log is, and whether it is whole."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.position = Gauge(
            "footfall_admin_log_position",
            "Newest position of the admin log that was seen; it never falls in a log that is "
            "whole.",
            registry=registry,
        )
        self.breaks = Counter(
            "footfall_admin_log_breaks_total",
            "Looks at the admin log that found its chain broken.",
            registry=registry,
        )


class LoginMetrics:
    """Keys that are sent and not good."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.failures = Counter(
            "footfall_login_failures_total",
            "Requests and connections with an API key that is not valid.",
            registry=registry,
        )
        entries = Counter(
            "footfall_login_entries_total",
            "Entries of the admin log about too many such keys, by outcome (dropped: the ledger "
            "was away).",
            ["outcome"],
            registry=registry,
        )
        outcomes: tuple[LogOutcome, ...] = get_args(LogOutcome)
        self.entries: Mapping[LogOutcome, Counter] = {
            outcome: entries.labels(outcome) for outcome in outcomes
        }
