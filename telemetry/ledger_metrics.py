"""Metrics of where the ledger is read, and of who leads among the processes on it."""

from collections.abc import Mapping
from itertools import product
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

ReadTarget = Literal["replica", "primary"]
ReadOutcome = Literal["succeeded", "failed"]
BreakerName = Literal["closed", "half_open", "open"]


class ReplicaMetrics:
    """Where the ledger is read, and how its replica is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag_seconds = Gauge(
            "footfall_replica_lag_seconds",
            "Age of the newest commit that the replica had replayed when it was last seen.",
            registry=registry,
        )
        reads = Counter(
            "footfall_replica_reads_total",
            "Reads of the ledger by SELECT-only connections, by server and by outcome.",
            ["target", "outcome"],
            registry=registry,
        )
        targets: tuple[ReadTarget, ...] = get_args(ReadTarget)
        outcomes: tuple[ReadOutcome, ...] = get_args(ReadOutcome)
        self.reads: Mapping[tuple[ReadTarget, ReadOutcome], Counter] = {
            pair: reads.labels(*pair) for pair in product(targets, outcomes)
        }
        state = Gauge(
            "footfall_replica_breaker_state",
            "State of the circuit breaker before the replica: 1 for the one it is in, 0 for others.",
            ["state"],
            registry=registry,
        )
        transitions = Counter(
            "footfall_replica_breaker_transitions_total",
            "Changes of that breaker, by the new state.",
            ["state"],
            registry=registry,
        )
        states: tuple[BreakerName, ...] = get_args(BreakerName)
        self._states: Mapping[str, Gauge] = {name: state.labels(name) for name in states}
        self.transitions: Mapping[str, Counter] = {
            name: transitions.labels(name) for name in states
        }

    def show_breaker(self, state: str) -> None:
        """Shows the state that the breaker is in."""
        for name, gauge in self._states.items():
            gauge.set(name == state)


class LeaderMetrics:
    """Whether this process runs the jobs that run once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.is_leader = Gauge(
            "footfall_leader",
            "Whether this process leads (1 or 0): the leader runs the jobs that run once.",
            registry=registry,
        )
        self.elections = Counter(
            "footfall_leader_elections_total",
            "Times that this process began to lead.",
            registry=registry,
        )
