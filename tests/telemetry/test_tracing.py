import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_server

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider

from telemetry.logs import bind_correlation_id
from telemetry.tracing import open_tracing


@dataclass
class Collector:
    """A collector on a free port of this machine that keeps what it is sent."""

    address: str = ""
    paths: list[str] = field(default_factory=list)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def spans(self) -> dict[str, Span]:
        return {
            span.name: span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()
    collector.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.append(self.path)
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            collector.may_answer.wait(timeout=60)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """The test's output is no place for an access log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield collector
        finally:
            collector.may_answer.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the machine has no business between a test and its own collector."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


def plain(attributes: Iterator[KeyValue] | list[KeyValue]) -> dict[str, object]:
    def value(any_value: AnyValue) -> object:
        return getattr(any_value, any_value.WhichOneof("value") or "string_value")

    return {one.key: value(one.value) for one in attributes}


def test_spans_reach_the_collector_with_their_attributes_before_closing_returns(
    collector: Collector,
) -> None:
    with open_tracing(collector.address, service_version="1.2.3") as tracing:
        assert tracing.is_on
        with tracing.span("graphql.operation", operation="TopEvents", cost=7, cached=False):
            pass
    assert collector.paths == ["/v1/traces"]
    span = collector.spans()["graphql.operation"]
    assert plain(list(span.attributes)) == {"operation": "TopEvents", "cost": 7, "cached": False}
    resource = plain(list(collector.requests[0].resource_spans[0].resource.attributes))
    assert resource["service.name"] == "footfall"
    assert resource["service.version"] == "1.2.3"


@pytest.mark.parametrize("suffix", ["/", "/v1/traces", "/v1/traces/"])
def test_the_endpoint_may_end_in_a_slash_or_name_the_path(
    collector: Collector, suffix: str
) -> None:
    with (
        open_tracing(collector.address + suffix, service_version="1") as tracing,
        tracing.span("one"),
    ):
        pass
    assert collector.paths == ["/v1/traces"]


def test_a_span_inside_of_another_is_its_child(collector: Collector) -> None:
    with open_tracing(collector.address, service_version="1") as tracing:
        with tracing.span("outer"), tracing.span("inner"):
            pass
        with tracing.span("apart"):
            pass
    spans = collector.spans()
    assert spans["inner"].parent_span_id == spans["outer"].span_id
    assert spans["inner"].trace_id == spans["outer"].trace_id
    assert spans["outer"].parent_span_id == b""
    assert spans["apart"].trace_id != spans["outer"].trace_id


def test_an_exception_is_recorded_on_the_span_and_goes_on(collector: Collector) -> None:
    with (
        open_tracing(collector.address, service_version="1") as tracing,
        pytest.raises(ZeroDivisionError),
        tracing.span("fails"),
    ):
        _ = 1 / 0
    span = collector.spans()["fails"]
    assert span.status.code == Status.STATUS_CODE_ERROR
    (event,) = span.events
    assert plain(list(event.attributes))["exception.type"] == "ZeroDivisionError"


def test_a_span_carries_the_correlation_id_of_its_log_lines(collector: Collector) -> None:
    with open_tracing(collector.address, service_version="1") as tracing:
        with bind_correlation_id("0123456789abcdef"), tracing.span("bound"):
            pass
        with tracing.span("unbound"):
            pass
    spans = collector.spans()
    assert plain(list(spans["bound"].attributes)) == {"footfall.correlation_id": "0123456789abcdef"}
    assert plain(list(spans["unbound"].attributes)) == {}


@pytest.mark.parametrize("endpoint", [None, ""])
def test_without_an_endpoint_spans_are_free_and_nothing_is_started(endpoint: str | None) -> None:
    threads = set(threading.enumerate())
    with open_tracing(endpoint, service_version="1") as tracing:
        assert not tracing.is_on
        with tracing.span("outer", number=1) as outer, tracing.span("inner") as inner:
            assert outer is inner is trace.INVALID_SPAN
            outer.set_attribute("rows", 3)
        with pytest.raises(ZeroDivisionError), tracing.span("fails"):
            _ = 1 / 0
        assert set(threading.enumerate()) <= threads


def test_two_applications_in_one_process_trace_apart(collector: Collector) -> None:
    with (
        running_collector() as other,
        open_tracing(collector.address, service_version="1") as one_tracing,
        open_tracing(other.address, service_version="1") as other_tracing,
    ):
        with one_tracing.span("one"):
            pass
        with other_tracing.span("other"):
            pass
        assert not isinstance(trace.get_tracer_provider(), TracerProvider)
    assert set(collector.spans()) == {"one"}
    assert set(other.spans()) == {"other"}


def test_a_collector_that_is_away_hurts_neither_spans_nor_closing() -> None:
    with create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    done = []
    with open_tracing(f"http://127.0.0.1:{port}", service_version="1") as tracing:
        for number in range(5_000):
            with tracing.span("lost", number=number):
                done.append(number)
    assert len(done) == 5_000


def test_closing_does_not_wait_for_a_collector_that_never_answers(collector: Collector) -> None:
    collector.may_answer.clear()
    with open_tracing(collector.address, service_version="1") as tracing:
        for _ in range(700):
            with tracing.span("stuck"):
                pass
        deadline = time.monotonic() + 60
        while not collector.requests:
            assert time.monotonic() < deadline, "no batch was sent"
            time.sleep(0.01)
    # More than one batch is waiting, and closing has not outlasted even the first.
    assert not collector.may_answer.is_set()
    assert len(collector.requests) == 1
