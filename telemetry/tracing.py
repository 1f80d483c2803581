"""Traces for an OpenTelemetry collector; without an endpoint, spans that cost next to nothing.

No tracer provider is installed globally: who wants a span gets `Tracing` handed in. The headers,
resource attributes and sampler of the exporter are the usual `OTEL_*` variables, which the library
reads itself.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Thread

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from structlog.typing import FilteringBoundLogger

from telemetry.logs import current_correlation_id

_TRACES_PATH = "/v1/traces"
_EXPORT_SECONDS = 5.0
_FLUSH_SECONDS = 2.0
_NO_SPAN = nullcontext(trace.INVALID_SPAN)

log: FilteringBoundLogger = structlog.get_logger()


class Tracing:
    """Hands out spans; `Tracing(None)` hands out one that does nothing."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: trace.Tracer | None) -> None:
        self._tracer = tracer

    @property
    def is_on(self) -> bool:
        """Whether spans go anywhere: ask before working out costly attributes."""
        return self._tracer is not None

    def span(
        self, name: str, /, **attributes: str | bool | float
    ) -> AbstractContextManager[trace.Span]:
        """A span around the block, child of the one around the caller.

        An exception that leaves the block is recorded on the span and goes on. The span carries
        the correlation id, so that a trace leads to its log lines.
        """
        if self._tracer is None:
            return _NO_SPAN
        correlation_id = current_correlation_id()
        if correlation_id is not None:
            attributes["footfall.correlation_id"] = correlation_id
        return self._tracer.start_as_current_span(name, attributes=attributes)


@contextmanager
def open_tracing(endpoint: str | None, *, service_version: str) -> Iterator[Tracing]:
    """Tracing to the collector at `endpoint`, the base address of OTLP over HTTP with protobuf.

    None or an empty text switches tracing off. A collector that is slow or away costs spans,
    never requests: spans wait in a bounded queue and leave on a thread of their own. The last
    ones are sent on exit, for two seconds at the most.
    """
    if not endpoint:
        yield Tracing(None)
        return
    exporter = OTLPSpanExporter(endpoint=_traces_address(endpoint), timeout=_EXPORT_SECONDS)
    resource = Resource.create({"service.name": "footfall", "service.version": service_version})
    # The provider's own exit hook would wait for a dead collector for half a minute.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Tracing(provider.get_tracer("footfall", service_version))
    finally:
        _flush(provider, exporter)


def _traces_address(endpoint: str) -> str:
    base = endpoint.rstrip("/")
    return base if base.endswith(_TRACES_PATH) else base + _TRACES_PATH


def _flush(provider: TracerProvider, exporter: OTLPSpanExporter) -> None:
    """Sends what is left. The SDK's shutdown knows no bound of ours, so a thread runs it."""
    flusher = Thread(target=provider.shutdown, name="footfall-flush-spans", daemon=True)
    flusher.start()
    flusher.join(_FLUSH_SECONDS)
    if flusher.is_alive():
        log.warning("tracing.flush.abandoned", waited_seconds=_FLUSH_SECONDS)
        # Ends the exporter's waiting between retries, and with it the threads.
        exporter.shutdown()  # type: ignore[no-untyped-call]
