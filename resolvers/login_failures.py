"""Keys that are no good, counted by the network that sends them: too many are worth an entry.

Addresses are personal data, so a network is counted and kept: the first 24 bits of an IPv4 address,
the first 48 of an IPv6 address, which is also what one household or one attacker can choose from.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import chain
from time import monotonic

import structlog

from data.admin_log import SERVICE, AdminAction, Entry
from data.background import Loop, in_background
from data.postgres.admin_log import record_alone
from data.postgres.engine import Engine, LedgerRefused, LedgerUnavailable
from telemetry.admin_metrics import LoginMetrics

log = structlog.get_logger()

# So many failures of one network within a window are nothing out of the ordinary.
LIMIT = 10
# Networks that are counted at a time; beyond that the one that was first is let go of.
MAX_NETWORKS = 10_000
# Entries of one sweep for a network each; all others of the sweep share one entry.
MOST_ENTRIES = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """Of counting and writing, in seconds."""

    # For how long failures of a network are counted together.
    window: float = 60.0
    # How often it is looked whether a window is over.
    sweep: float = 5.0
    # How long one entry may take to write, and all that are left at the end.
    write: float = 5.0
    farewell: float = 2.0


def network_of(address: str) -> str:
    """The network that stands for an address, such as `203.0.113.0/24`; `unknown` without one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


@dataclass(slots=True)
class Burst:
    """Failures of one network since a monotonic moment."""

    network: str
    began_at: float
    failures: int = 0


@dataclass(slots=True)
class LoginFailures:
    """The failures of this process. Moments are monotonic seconds."""

    metrics: LoginMetrics
    pace: Pace = field(default_factory=Pace)
    # In order of their beginnings.
    _bursts: OrderedDict[str, Burst] = field(default_factory=OrderedDict)
    # Above the limit, but let go of before their time was over.
    _evicted: list[Burst] = field(default_factory=list)

    def __len__(self) -> int:
        """How many networks are counted now."""
        return len(self._bursts)

    def note(self, address: str, at: float) -> None:
        """Count a key of this address that was no good."""
        self.metrics.failures.inc()
        network = network_of(address)
        burst = self._bursts.get(network)
        if burst is None:
            if len(self._bursts) >= MAX_NETWORKS:
                self._let_go()
            burst = self._bursts[network] = Burst(network, at)
        burst.failures += 1

    def _let_go(self) -> None:
        _, oldest = self._bursts.popitem(last=False)
        if oldest.failures <= LIMIT:
            return
        if len(self._evicted) < MAX_NETWORKS:
            self._evicted.append(oldest)

    def ended(self, at: float, *, is_last: bool = False) -> list[Burst]:
        """Bursts above the limit whose window is over, the worst first; all are forgotten.

        `is_last`: the windows of all are over now.
        """
        over = []
        while self._bursts:
            network, oldest = next(iter(self._bursts.items()))
            if not is_last and at - oldest.began_at < self.pace.window:
                break
            del self._bursts[network]
            over.append(oldest)
        found = [burst for burst in chain(self._evicted, over) if burst.failures > LIMIT]
        self._evicted = []
        return sorted(found, key=lambda burst: -burst.failures)


def entries_of(bursts: list[Burst], at: float, now: datetime) -> Iterable[Entry]:
    """What the log says of bursts, the worst first: a few entries, however many there are."""
    for burst in bursts[:MOST_ENTRIES]:
        since = now - timedelta(seconds=at - burst.began_at)
        details = {"failures": burst.failures, "since": since.isoformat(timespec="seconds")}
        yield Entry(now, SERVICE, AdminAction.LOGIN_FAILURES, burst.network, None, details)
    rest = bursts[MOST_ENTRIES:]
    if rest:
        failures = sum(burst.failures for burst in rest)
        details = {"failures": failures, "networks": len(rest)}
        yield Entry(now, SERVICE, AdminAction.LOGIN_FAILURES, "other networks", None, details)


@dataclass(frozen=True, slots=True)
class FailureLog:
    """Writes the bursts of a process to the admin log."""

    failures: LoginFailures
    ledger: Engine
    clock: Callable[[], datetime]

    def sweeping(self) -> Loop:
        """What writes whatever is due."""
        return Loop(
            "login.failures.sweep",
            lambda: self.write(monotonic()),
            pause=self.failures.pace.sweep,
            waits_first=True,
        )

    async def write(self, at: float, *, is_last: bool = False) -> None:
        """Write what is due at a monotonic moment; what cannot be written is counted and let go.

        The ledger has better things to do in a flood, and may be what is under it.
        """
        entries = list(entries_of(self.failures.ended(at, is_last=is_last), at, self.clock()))
        outcomes = self.failures.metrics.entries
        for entry in entries:
            log.warning("login.failures", network=entry.target, **entry.details)
        for number, entry in enumerate(entries):
            try:
                async with asyncio.timeout(self.failures.pace.write):
                    await record_alone(self.ledger, entry)
            except (LedgerUnavailable, LedgerRefused, TimeoutError):
                outcomes["dropped"].inc(len(entries) - number)
                return
            outcomes["written"].inc()


@asynccontextmanager
async def open_login_failures(
    ledger: Engine,
    clock: Callable[[], datetime],
    metrics: LoginMetrics,
    pace: Pace | None = None,
) -> AsyncIterator[LoginFailures]:
    """Where failures are counted; bursts that are under way at the end are written then."""
    failures = LoginFailures(metrics, pace or Pace())
    writing = FailureLog(failures, ledger, clock)
    try:
        async with in_background(writing.sweeping()):
            yield failures
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(failures.pace.farewell):
                await writing.write(monotonic(), is_last=True)
