"""The metric catalogue: everything that the service measures about itself, declared once.

Names are `footfall_<area>_<noun>_<unit>`. Labels come from closed sets or from names in our own
code (a route's template, a query's function, a job), or are keys of sources, which an operator
names; never from a site, a user or an address.
Where a set is closed the children exist from the start: they cost no look-up on the hot path, and a
rate sees the very first failure, because the series was there with 0 before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from telemetry.admin_metrics import AdminLogMetrics, LoginMetrics
from telemetry.cache_metrics import CacheMetrics
from telemetry.columnar_metrics import FollowMetrics, StoreMetrics
from telemetry.export_metrics import ExportMetrics
from telemetry.ledger_metrics import LeaderMetrics, ReplicaMetrics
from telemetry.notice_metrics import NoticeMetrics
from telemetry.queue_metrics import QueueMetrics, WorkerMetrics
from telemetry.rate_limits import RateLimitMetrics
from telemetry.source_metrics import SourceMetrics
from telemetry.spool_metrics import LedgerMetrics, SpoolMetrics
from telemetry.tallies import Spread, Spreads, Tallies, Tally
from telemetry.vault_metrics import VaultMetrics
from telemetry.view_metrics import ReconcileMetrics, ViewMetrics

IngestWay = Literal["graphql", "collect", "pixel", "import"]
IngestOutcome = Literal["accepted", "duplicate", "queued", "rejected", "overloaded", "unavailable"]
CommitOutcome = Literal["committed", "failed"]
OperationType = Literal["query", "mutation", "subscription", "unknown"]
OperationOutcome = Literal["succeeded", "partial", "failed"]
RedisOutcome = Literal["succeeded", "refused", "failed", "skipped"]
LiveField = Literal["liveEvents", "liveActivity"]
PersistedPlace = Literal["memory", "redis", "nowhere"]
JobOutcome = Literal["succeeded", "failed", "timed_out", "cancelled", "overlapped", "not_leader"]

_HTTP_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WORK_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600, 3_600)
_GROUP_EVENTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000)


class HttpMetrics:
    """What the door sees: one observation per request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Tallies(
            "footfall_http_requests_total",
            "HTTP requests answered, by method, route template and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Spreads(
            "footfall_http_request_duration_seconds",
            "Time from the arrival of a request to the end of its answer, by route template.",
            ["route"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        slow = Counter(
            "footfall_http_slow_clients_total",
            "Connections ended as a client did not send on, by what was missing of its request.",
            ["missing"],
            registry=registry,
        )
        self.slow = {missing: slow.labels(missing) for missing in ("head", "body")}
        # Looking a child up by its labels takes longer than counting.
        self._counted: dict[tuple[str, str, int], tuple[Tally, Spread]] = {}

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answered request.

        `route` is the template that matched, or one fixed word when none did: never the path
        that the client sent. Unusual methods are counted together, for the same reason.
        """
        known = method if method in _HTTP_METHODS else "OTHER"
        found = self._counted.get((known, route, status))
        if found is None:
            found = self.requests.labels(known, route, status), self.request_seconds.labels(route)
            self._counted[known, route, status] = found
        found[0].inc()
        found[1].observe(seconds)


class GraphqlMetrics:
    """What GraphQL operations come to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        operations = Tallies(
            "footfall_graphql_operations_total",
            "GraphQL operations executed, by type and by outcome (partial: data and errors).",
            ["operation_type", "outcome"],
            registry=registry,
        )
        operation_seconds = Spreads(
            "footfall_graphql_operation_duration_seconds",
            "Time to execute one GraphQL operation, parsing and validation included, by type.",
            ["operation_type"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        types: tuple[OperationType, ...] = get_args(OperationType)
        outcomes: tuple[OperationOutcome, ...] = get_args(OperationOutcome)
        self.operations: Mapping[tuple[OperationType, OperationOutcome], Tally] = {
            pair: operations.labels(*pair) for pair in product(types, outcomes)
        }
        self.operation_seconds: Mapping[OperationType, Spread] = {
            kind: operation_seconds.labels(kind) for kind in types
        }
        self.errors = Counter(
            "footfall_graphql_errors_total",
            "Errors in GraphQL answers, by the code that the client got.",
            ["code"],
            registry=registry,
        )


class IngestMetrics:
    """What becomes of events on their way into the ledger."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = _ingest_events(registry)
        self.rejected = Counter(
            "footfall_ingest_rejected_events_total",
            "Events refused for what they hold, by rejection code.",
            ["code"],
            registry=registry,
        )
        self.pipeline_seconds = Counter(
            "footfall_ingest_pipeline_seconds_total",
            "Time spent in the steps that every event goes through before its commit.",
            registry=registry,
        )
        self.commits = _commit_outcomes(registry)
        self.commit_seconds = Histogram(
            "footfall_ingest_commit_duration_seconds",
            "Time to write and commit one group of events to the ledger.",
            buckets=_WORK_SECONDS,
            registry=registry,
        )
        self.group_events = Histogram(
            "footfall_ingest_group_size_events",
            "Events that shared one transaction.",
            buckets=_GROUP_EVENTS,
            registry=registry,
        )
        self.pending_events = Gauge(
            "footfall_ingest_pending_events",
            "Events that wait for their commit and have not been acknowledged.",
            registry=registry,
        )
        self.pending_bytes = Gauge(
            "footfall_ingest_pending_bytes",
            "Size of the events that wait for their commit.",
            registry=registry,
        )


def _ingest_events(
    registry: CollectorRegistry,
) -> Mapping[tuple[IngestWay, IngestOutcome], Counter]:
    """One counter per way in and outcome: add a whole group at once with `inc(n)`."""
    events = Counter(
        "footfall_ingest_events_total",
        "Events that arrived, by the way they came in and by what the sender was told.",
        ["way", "outcome"],
        registry=registry,
    )
    ways: tuple[IngestWay, ...] = get_args(IngestWay)
    outcomes: tuple[IngestOutcome, ...] = get_args(IngestOutcome)
    return {pair: events.labels(*pair) for pair in product(ways, outcomes)}


def _commit_outcomes(registry: CollectorRegistry) -> Mapping[CommitOutcome, Counter]:
    commits = Counter(
        "footfall_ingest_commits_total",
        "Groups of events sent to the ledger in one transaction, by outcome.",
        ["outcome"],
        registry=registry,
    )
    outcomes: tuple[CommitOutcome, ...] = get_args(CommitOutcome)
    return {outcome: commits.labels(outcome) for outcome in outcomes}


class RedisMetrics:
    """Whether Redis helps."""

    def __init__(self, registry: CollectorRegistry) -> None:
        uses = Counter(
            "footfall_redis_uses_total",
            "Uses of Redis, by outcome (skipped: not tried, as it was known to be away).",
            ["outcome"],
            registry=registry,
        )
        outcomes: tuple[RedisOutcome, ...] = get_args(RedisOutcome)
        self.uses: Mapping[RedisOutcome, Counter] = {
            outcome: uses.labels(outcome) for outcome in outcomes
        }


class PersistedMetrics:
    """Where persisted queries are found."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lookups = Counter(
            "footfall_persisted_lookups_total",
            "Persisted queries asked for by their hash, by the place where they were found.",
            ["place"],
            registry=registry,
        )
        places: tuple[PersistedPlace, ...] = get_args(PersistedPlace)
        self.lookups: Mapping[PersistedPlace, Counter] = {
            place: lookups.labels(place) for place in places
        }


class LiveMetrics:
    """What goes out to those who listen."""

    def __init__(self, registry: CollectorRegistry) -> None:
        open_streams = Gauge(
            "footfall_live_open_streams",
            "Streams of live data that are read now, by subscription field; many may share one.",
            ["field"],
            registry=registry,
        )
        fields: tuple[LiveField, ...] = get_args(LiveField)
        self.open_streams: Mapping[LiveField, Gauge] = {
            name: open_streams.labels(name) for name in fields
        }
        self.dropped_events = Counter(
            "footfall_live_dropped_events_total",
            "Events that were not handed to a reader, as too many waited for it.",
            registry=registry,
        )
        self.ticks = Counter(
            "footfall_live_activity_ticks_total",
            "Seconds for which the activity of the watched sites was counted.",
            registry=registry,
        )


class JobMetrics:
    """What happens by itself, and when it last went well."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.runs = Counter(
            "footfall_job_runs_total",
            "Due runs of each job, by outcome (overlapped and not_leader did not start).",
            ["job", "outcome"],
            registry=registry,
        )
        self.run_seconds = Histogram(
            "footfall_job_run_duration_seconds",
            "Time of one run of a job.",
            ["job"],
            buckets=_WORK_SECONDS,
            registry=registry,
        )
        self.last_success = Gauge(
            "footfall_job_last_success_timestamp_seconds",
            "When a job last ended well in this process, as a Unix time; 0 when it never did.",
            ["job"],
            registry=registry,
        )

    def of(self, job: str, outcome: JobOutcome) -> Counter:
        """The counter of one job's runs with one outcome."""
        return self.runs.labels(job, outcome)


@dataclass(frozen=True, slots=True)
class Metrics:
    """All metrics of one application. Several may live in one process: each has its registry."""

    registry: CollectorRegistry
    http: HttpMetrics
    graphql: GraphqlMetrics
    ingest: IngestMetrics
    ledger: LedgerMetrics
    spool: SpoolMetrics
    follow: FollowMetrics
    store: StoreMetrics
    redis: RedisMetrics
    replica: ReplicaMetrics
    queue: QueueMetrics
    worker: WorkerMetrics
    vault: VaultMetrics
    persisted: PersistedMetrics
    cache: CacheMetrics
    rate_limits: RateLimitMetrics
    live: LiveMetrics
    view: ViewMetrics
    reconcile: ReconcileMetrics
    job: JobMetrics
    leader: LeaderMetrics
    admin_log: AdminLogMetrics
    login: LoginMetrics
    sources: SourceMetrics
    exports: ExportMetrics
    notices: NoticeMetrics

    @classmethod
    def create(cls) -> "Metrics":
        """The whole catalogue at zero, with the process's own memory, CPU and file descriptors."""
        # A `_created` series beside each counter and bucket set doubles the page for nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        return cls(
            registry=registry,
            http=HttpMetrics(registry),
            graphql=GraphqlMetrics(registry),
            ingest=IngestMetrics(registry),
            ledger=LedgerMetrics(registry),
            spool=SpoolMetrics(registry),
            follow=FollowMetrics(registry),
            store=StoreMetrics(registry),
            redis=RedisMetrics(registry),
            replica=ReplicaMetrics(registry),
            queue=QueueMetrics(registry),
            worker=WorkerMetrics(registry),
            vault=VaultMetrics(registry),
            persisted=PersistedMetrics(registry),
            cache=CacheMetrics(registry),
            rate_limits=RateLimitMetrics(registry),
            live=LiveMetrics(registry),
            view=ViewMetrics(registry),
            reconcile=ReconcileMetrics(registry),
            job=JobMetrics(registry),
            leader=LeaderMetrics(registry),
            admin_log=AdminLogMetrics(registry),
            login=LoginMetrics(registry),
            sources=SourceMetrics(registry),
            exports=ExportMetrics(registry),
            notices=NoticeMetrics(registry),
        )

    def render(self) -> tuple[bytes, str]:
        """The page for Prometheus: its text and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
