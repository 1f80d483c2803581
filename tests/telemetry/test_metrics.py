import re
from typing import get_args

import pytest
from prometheus_client import Counter, Metric
from prometheus_client.parser import text_string_to_metric_families

from telemetry.metrics import IngestOutcome, IngestWay, JobOutcome, Metrics

AREAS = (
    "http",
    "graphql",
    "ingest",
    "follow",
    "store",
    "redis",
    "persisted",
    "live",
    "job",
    "replica",
    "leader",
    "ledger",
    "spool",
    "queue",
    "worker",
    "vault",
    "view",
    "reconcile",
    "cache",
    "admin",
    "login",
    "rate_limit",
    "source",
    "export",
)
UNITS = (
    "total",
    "seconds",
    "bytes",
    "events",
    "position",
    "streams",
    "state",
    "entries",
    "letters",
    "workers",
    "up",
    "rows",
    "differences",
    "results",
    "records",
    "refreshes",
    "targets",
)
NAME = re.compile(
    rf"footfall_(?:{'|'.join(AREAS)})(?:_[a-z]+)*_(?:{'|'.join(UNITS)})|footfall_leader"
)
# Who is asked for, or by whom, may never become a label: there is no bound to how many there are.
UNBOUNDED = {"site", "site_id", "user", "user_id", "visitor_id", "path", "url", "ip", "address"}


def families(metrics: Metrics) -> list[Metric]:
    body, _ = metrics.render()
    return list(text_string_to_metric_families(body.decode("utf-8")))


def own_families(metrics: Metrics) -> list[Metric]:
    return [one for one in families(metrics) if not one.name.startswith("process_")]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_page_has_every_metric_of_the_catalogue() -> None:
    shown = {
        f"{one.name}_total" if one.type == "counter" else one.name
        for one in own_families(Metrics.create())
    }
    assert shown == {
        "footfall_http_requests_total",
        "footfall_http_slow_clients_total",
        "footfall_http_request_duration_seconds",
        "footfall_graphql_operations_total",
        "footfall_graphql_operation_duration_seconds",
        "footfall_graphql_errors_total",
        "footfall_ingest_events_total",
        "footfall_ingest_rejected_events_total",
        "footfall_ingest_pipeline_seconds_total",
        "footfall_ingest_commits_total",
        "footfall_ingest_commit_duration_seconds",
        "footfall_ingest_group_size_events",
        "footfall_ingest_pending_events",
        "footfall_ingest_pending_bytes",
        "footfall_ledger_away_seconds",
        "footfall_ledger_outages_total",
        "footfall_source_refreshes_total",
        "footfall_source_refresh_duration_seconds",
        "footfall_source_refresh_delay_seconds",
        "footfall_source_record_changes_total",
        "footfall_source_received_bytes_total",
        "footfall_source_records",
        "footfall_source_last_success_timestamp_seconds",
        "footfall_source_breaker_changes_total",
        "footfall_source_running_refreshes",
        "footfall_export_lag_events",
        "footfall_export_lag_seconds",
        "footfall_export_runs_total",
        "footfall_export_targets_total",
        "footfall_export_failures_total",
        "footfall_export_events_total",
        "footfall_export_bytes_total",
        "footfall_export_duration_seconds",
        "footfall_export_running_targets",
        "footfall_export_notices_total",
        "footfall_export_notice_delay_seconds",
        "footfall_spool_events_total",
        "footfall_spool_held_bytes",
        "footfall_spool_oldest_seconds",
        "footfall_spool_write_duration_seconds",
        "footfall_spool_write_failures_total",
        "footfall_spool_damaged_bytes_total",
        "footfall_follow_watermark_position",
        "footfall_follow_ledger_position",
        "footfall_follow_lag_seconds",
        "footfall_follow_slices_total",
        "footfall_follow_applied_rows_total",
        "footfall_follow_apply_duration_seconds",
        "footfall_follow_rebuilds_total",
        "footfall_store_query_duration_seconds",
        "footfall_store_failures_total",
        "footfall_store_interruptions_total",
        "footfall_redis_uses_total",
        "footfall_replica_lag_seconds",
        "footfall_replica_reads_total",
        "footfall_replica_breaker_state",
        "footfall_replica_breaker_transitions_total",
        "footfall_queue_waiting_events",
        "footfall_queue_waiting_entries",
        "footfall_queue_pending_entries",
        "footfall_queue_oldest_age_seconds",
        "footfall_queue_living_workers",
        "footfall_queue_dead_letters",
        "footfall_queue_held_bytes",
        "footfall_queue_bare_events",
        "footfall_queue_reappended_entries_total",
        "footfall_queue_appended_events_total",
        "footfall_worker_drained_events_total",
        "footfall_worker_reclaimed_entries_total",
        "footfall_worker_retries_total",
        "footfall_worker_commit_duration_seconds",
        "footfall_worker_refused_events_total",
        "footfall_vault_up",
        "footfall_vault_lease_remaining_seconds",
        "footfall_vault_renewals_total",
        "footfall_persisted_lookups_total",
        "footfall_cache_answers_total",
        "footfall_cache_shared_hits_total",
        "footfall_cache_compute_duration_seconds",
        "footfall_cache_kept_results",
        "footfall_cache_kept_bytes",
        "footfall_rate_limit_requests_total",
        "footfall_rate_limit_counted_total",
        "footfall_live_open_streams",
        "footfall_live_dropped_events_total",
        "footfall_live_activity_ticks_total",
        "footfall_view_position",
        "footfall_view_through_timestamp_seconds",
        "footfall_view_rows",
        "footfall_view_actor_days_total",
        "footfall_view_refresh_duration_seconds",
        "footfall_reconcile_differences",
        "footfall_reconcile_repairs_total",
        "footfall_reconcile_compared_days_total",
        "footfall_reconcile_last_run_timestamp_seconds",
        "footfall_job_runs_total",
        "footfall_job_run_duration_seconds",
        "footfall_job_last_success_timestamp_seconds",
        "footfall_leader",
        "footfall_leader_elections_total",
        "footfall_admin_log_position",
        "footfall_admin_log_breaks_total",
        "footfall_login_failures_total",
        "footfall_login_entries_total",
    }


def test_every_metric_is_named_by_area_noun_and_unit() -> None:
    for family in own_families(Metrics.create()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert NAME.fullmatch(name), name


def test_every_metric_says_in_a_sentence_what_it_measures() -> None:
    for family in own_families(Metrics.create()):
        assert re.fullmatch(r"[A-Z].{20,}\.", family.documentation), family.name


def test_no_label_can_take_a_value_for_each_site_or_user() -> None:
    labels = {
        label
        for family in own_families(Metrics.create())
        for sample in family.samples
        for label in sample.labels
    }
    assert labels
    assert not labels & UNBOUNDED


def test_the_page_names_its_content_type_and_has_no_creation_times() -> None:
    body, content_type = Metrics.create().render()
    assert content_type.startswith("text/plain; version=")
    assert b"_created" not in body


def test_the_page_shows_the_process_itself() -> None:
    names = {family.name for family in families(Metrics.create())}
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"} <= names


def test_two_applications_in_one_process_count_apart() -> None:
    one, other = Metrics.create(), Metrics.create()
    one.ingest.events["collect", "accepted"].inc(7)
    name, labels = "footfall_ingest_events_total", {"way": "collect", "outcome": "accepted"}
    assert value(one, name, **labels) == 7
    assert value(other, name, **labels) == 0


def test_every_way_and_outcome_of_an_event_is_there_from_the_start() -> None:
    metrics = Metrics.create()
    for way in get_args(IngestWay):
        for outcome in get_args(IngestOutcome):
            shown = value(metrics, "footfall_ingest_events_total", way=way, outcome=outcome)
            assert shown == 0
            metrics.ingest.events[way, outcome].inc(2)
            assert value(metrics, "footfall_ingest_events_total", way=way, outcome=outcome) == 2


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("footfall_graphql_operations_total", {"operation_type": "mutation", "outcome": "partial"}),
        ("footfall_graphql_operation_duration_seconds_count", {"operation_type": "query"}),
        ("footfall_ingest_commits_total", {"outcome": "failed"}),
        ("footfall_follow_slices_total", {"outcome": "failed"}),
    ],
)
def test_closed_sets_of_outcomes_begin_at_zero(name: str, labels: dict[str, str]) -> None:
    assert value(Metrics.create(), name, **labels) == 0


def test_a_request_is_counted_by_template_and_status_and_timed_by_template() -> None:
    metrics = Metrics.create()
    metrics.http.observe(method="POST", route="/collect", status=200, seconds=0.004)
    metrics.http.observe(method="POST", route="/collect", status=400, seconds=0.001)
    counted = value(
        metrics, "footfall_http_requests_total", method="POST", route="/collect", status="400"
    )
    assert counted == 1
    name = "footfall_http_request_duration_seconds"
    assert value(metrics, f"{name}_count", route="/collect") == 2
    assert value(metrics, f"{name}_bucket", route="/collect", le="0.0025") == 1


def test_methods_that_a_client_makes_up_share_one_series() -> None:
    metrics = Metrics.create()
    for number in range(50):
        metrics.http.observe(method=f"EVIL{number}", route="unmatched", status=405, seconds=0)
    name = "footfall_http_requests_total"
    assert value(metrics, name, method="OTHER", route="unmatched", status="405") == 50


def test_runs_of_a_job_are_counted_by_outcome() -> None:
    metrics = Metrics.create()
    outcomes: tuple[JobOutcome, ...] = get_args(JobOutcome)
    for outcome in outcomes:
        counter = metrics.job.of("tidy_up", outcome)
        assert isinstance(counter, Counter)
        counter.inc()
        assert value(metrics, "footfall_job_runs_total", job="tidy_up", outcome=outcome) == 1


def test_a_source_that_is_no_more_has_no_series() -> None:
    metrics = Metrics.create()
    for source in ("prices", "stocks"):
        metrics.sources.refreshes.labels(source, "SUCCESS").inc()
        metrics.sources.records.labels(source).set(3)

    metrics.sources.forget("prices")
    metrics.sources.forget("unknown")

    page = metrics.render()[0].decode()
    assert 'source="prices"' not in page
    assert page.count('source="stocks"') == 2
