"""Our own counters: the page that Prometheus reads says what the library's would say."""

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from telemetry.tallies import Spreads, Tallies

BUCKETS = (0.001, 0.25, 1, 30)
# On a bound, beside it, below and above all.
SECONDS = (0.0, 0.001, 0.0011, 0.25, 0.999, 1.0, 30.0, 31.5, 1e6)


def test_the_page_is_the_one_of_the_library() -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    about = ("some_requests_total", 'Requests, "all".', ["method", "status"])
    timed = ("some_duration_seconds", "Time.", ["route"])

    for registry, counter, histogram in (
        (ours, Tallies(*about, registry=ours), Spreads(*timed, buckets=BUCKETS, registry=ours)),
        (
            theirs,
            Counter(*about, registry=theirs),
            Histogram(*timed, buckets=BUCKETS, registry=theirs),
        ),
    ):
        counter.labels("GET", 200).inc()
        counter.labels("GET", "200").inc()
        counter.labels('"odd"\n', 500)
        for seconds in SECONDS:
            histogram.labels("/graphql").observe(seconds)
        histogram.labels("other")
        assert registry.get_sample_value("some_requests_total", {"method": "GET", "status": "200"})

    assert generate_latest(ours) == generate_latest(theirs)


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Tallies("some_total", "Some.", [], registry=registry)
    Spreads("some_seconds", "Some.", [], buckets=BUCKETS, registry=registry)

    with pytest.raises(ValueError, match="Duplicated"):
        Counter("some_total", "Some.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("some_seconds", "Some.", registry=registry)
