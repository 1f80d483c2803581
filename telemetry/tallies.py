"""Counters and histograms for what every request counts, beside those of prometheus_client.

Theirs may be used by several threads at once and take a lock for each number, five times for one
request's duration. These are for one thread, the event loop's, and cost next to nothing; the page
that Prometheus reads is the same.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import INF, floatToGoString


class Tally:
    """A number that goes up."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """Count one more."""
        self.value += 1


class Spread:
    """How values are spread over buckets, each of which ends with its bound."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        # The last one is for what is above all bounds.
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Tallies(Collector):
    """A counter with labels; its children come into being when they are first asked for."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self._described = (name, documentation, labels)
        self._children: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: object) -> Tally:
        """The child with these values, in the order of the labels."""
        return self._children.setdefault(tuple(map(str, values)), Tally())

    def describe(self) -> Iterator[Metric]:
        """The metric without its samples."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """The metric as it stands."""
        family = self._family()
        for values, child in self._children.items():
            family.add_metric(values, child.value)
        yield family

    def _family(self) -> CounterMetricFamily:
        name, documentation, labels = self._described
        return CounterMetricFamily(name, documentation, labels=labels)


class Spreads(Collector):
    """A histogram with labels; its children come into being when they are first asked for."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._described = (name, documentation, labels)
        self._bounds = [float(bound) for bound in buckets]
        self._children: dict[tuple[str, ...], Spread] = {}
        registry.register(self)

    def labels(self, *values: object) -> Spread:
        """The child with these values, in the order of the labels."""
        return self._children.setdefault(tuple(map(str, values)), Spread(self._bounds))

    def describe(self) -> Iterator[Metric]:
        """The metric without its samples."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """The metric as it stands."""
        bounds = (*self._bounds, INF)
        names = [floatToGoString(bound) for bound in bounds]  # type: ignore[no-untyped-call]
        family = self._family()
        for values, child in self._children.items():
            # Prometheus has each bucket hold what the smaller ones hold as well.
            upto = list(zip(names, accumulate(child.counts), strict=True))
            family.add_metric(values, upto, child.total)
        yield family

    def _family(self) -> HistogramMetricFamily:
        name, documentation, labels = self._described
        return HistogramMetricFamily(name, documentation, labels=labels)
