"""What rate limits count, for the catalogue in `metrics.py`."""

from collections.abc import Mapping
from itertools import product
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter

RateKind = Literal["query", "ingest"]
RateOutcome = Literal["within", "over"]
RatePlace = Literal["redis", "memory"]


class RateLimitMetrics:
    """Who was turned away for asking too often, and where that was counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "footfall_rate_limit_requests_total",
            "Requests counted against a rate limit, by kind and by whether they were within it.",
            ["kind", "outcome"],
            registry=registry,
        )
        kinds: tuple[RateKind, ...] = get_args(RateKind)
        outcomes: tuple[RateOutcome, ...] = get_args(RateOutcome)
        self.requests: Mapping[tuple[RateKind, RateOutcome], Counter] = {
            pair: requests.labels(*pair) for pair in product(kinds, outcomes)
        }
        counted = Counter(
            "footfall_rate_limit_counted_total",
            "Requests counted where REDIS_URL is set (memory: Redis was away), by place.",
            ["place"],
            registry=registry,
        )
        places: tuple[RatePlace, ...] = get_args(RatePlace)
        self.places: Mapping[RatePlace, Counter] = {
            place: counted.labels(place) for place in places
        }
