"""What is measured of Vault; a part of the catalogue in `telemetry/metrics.py`."""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

VaultLease = Literal["token", "database"]
RenewalOutcome = Literal["renewed", "replaced", "failed"]


class LeaseMetrics:
    """What Vault has lent, such as a token: for how long, and how its renewals went."""

    def __init__(self, kind: VaultLease, seconds: Gauge, renewals: Counter) -> None:
        self._kind = kind
        self._seconds = seconds
        outcomes: tuple[RenewalOutcome, ...] = get_args(RenewalOutcome)
        self.renewals: Mapping[RenewalOutcome, Counter] = {
            outcome: renewals.labels(kind, outcome) for outcome in outcomes
        }

    def tell_seconds(self, remaining: Callable[[], float]) -> None:
        """Ask this for the seconds that are left, whenever somebody reads the metrics."""
        self._seconds.labels(self._kind).set_function(remaining)


class VaultMetrics:
    """Whether Vault answers, and how long the service goes on if it does not."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "footfall_vault_up",
            "Whether Vault does what it is asked: 1 or 0; 0, too, where none is set.",
            registry=registry,
        )
        # Without Vault there are no such series: 0 seconds would be an alarm.
        seconds = Gauge(
            "footfall_vault_lease_remaining_seconds",
            "Seconds until what Vault has lent ends, unless it is renewed (+Inf: it does not end).",
            ["lease"],
            registry=registry,
        )
        renewals = Counter(
            "footfall_vault_renewals_total",
            "Renewals of what Vault has lent, by outcome (replaced: by a new one).",
            ["lease", "outcome"],
            registry=registry,
        )
        self.token = LeaseMetrics("token", seconds, renewals)
        self.database = LeaseMetrics("database", seconds, renewals)
