"""What the service measures about its view of daily users, and about stores that must agree."""

from collections.abc import Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ReconciledStore = Literal["copy", "view"]

_REFRESH_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class ViewMetrics:
    """How far the view of daily users is, as the process knows that brought it forward last."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.position = Gauge(
            "footfall_view_position",
            "Position in the change feed up to which daily_active_users is complete.",
            registry=registry,
        )
        self.through = Gauge(
            "footfall_view_through_timestamp_seconds",
            "Moment before which every committed event is in daily_active_users, as a Unix time.",
            registry=registry,
        )
        self.rows = Gauge(
            "footfall_view_rows",
            "Rows of daily_active_users: days of sites with at least one user.",
            registry=registry,
        )
        self.actor_days = Counter(
            "footfall_view_actor_days_total",
            "Actor days that were added beneath the view.",
            registry=registry,
        )
        self.refresh_seconds = Histogram(
            "footfall_view_refresh_duration_seconds",
            "Time of one refresh of daily_active_users.",
            buckets=_REFRESH_SECONDS,
            registry=registry,
        )


class ReconcileMetrics:
    """Whether ledger, columnar copy and view say the same."""

    def __init__(self, registry: CollectorRegistry) -> None:
        differences = Gauge(
            "footfall_reconcile_differences",
            "Days of sites on which a store does not say what the ledger says, by store.",
            ["what"],
            registry=registry,
        )
        repairs = Counter(
            "footfall_reconcile_repairs_total",
            "Times that a store was made anew as it did not say what the ledger says, by store.",
            ["what"],
            registry=registry,
        )
        stores: tuple[ReconciledStore, ...] = get_args(ReconciledStore)
        self.differences: Mapping[ReconciledStore, Gauge] = {
            store: differences.labels(store) for store in stores
        }
        self.repairs: Mapping[ReconciledStore, Counter] = {
            store: repairs.labels(store) for store in stores
        }
        self.days = Counter(
            "footfall_reconcile_compared_days_total",
            "Days of sites that were compared; those compared again count again.",
            registry=registry,
        )
        self.last_run = Gauge(
            "footfall_reconcile_last_run_timestamp_seconds",
            "When the stores were compared last, as a Unix time; 0 when they never were.",
            registry=registry,
        )
