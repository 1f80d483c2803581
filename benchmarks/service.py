"""The service as a process of its own, in a new folder, with its PostgreSQL and its follower."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks.load import Address, Client, graphql_request
from benchmarks.tables import WrongAnswer

_ROOT = Path(__file__).resolve().parents[1]
_START_SECONDS = 120
_STOP_SECONDS = 60
# Following has come to a halt where nothing has been added for so long.
_STALLED_SECONDS = 60
_ANSWERS_ON = re.compile(r"answers on http://([^:/]+):(\d+)")
_TOTAL = (
    "query ($site: ID!, $range: DateRange!)"
    " { eventCounts(siteId: $site, range: $range, interval: MONTH) { total } }"
)


class CommandFailed(Exception):
    """A `footfall` command did not end well."""


def run_benchmark(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; Ctrl-C and SIGTERM end it in order, with every process that it started."""

    async def stoppable() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(stoppable())
        except (asyncio.CancelledError, KeyboardInterrupt):
            sys.exit("stopped")


@contextmanager
def new_home() -> Iterator[Path]:
    """A folder that is gone afterwards, with everything that the service kept in it."""
    home = Path(tempfile.mkdtemp(prefix="footfall-bench-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def environment(home: Path, **settings: str) -> dict[str, str]:
    """An environment with nothing in it that could change the service, but for these settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ours = {
        "FOOTFALL_HOME": str(home),
        "LOG_LEVEL": "WARNING",
        # One key asks hundreds of times a second what would empty its budget in some seconds.
        "QUERY_COST_BUDGET": str(10**9),
        # The code beside this file, whatever else is installed.
        "PYTHONPATH": str(_ROOT),
    }
    return {**kept, **ours, **settings}


def command(*arguments: str) -> list[str]:
    """The command line `footfall ARGUMENTS` of this virtual environment."""
    return [str(Path(sys.executable).with_name("footfall")), *arguments]


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ran to its end: what it said, how long it took, what it needed."""

    out: str
    seconds: float
    peak_bytes: int
    cpu_seconds: float


async def footfall(home: Path, *arguments: str) -> Finished:
    """Run a command to its end; raises `CommandFailed` with what it said. Ended if cancelled."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        # In the folder itself: a `.env` where the benchmark was started is none of its business.
        process = subprocess.Popen(  # noqa: ASYNC220 - asyncio's own keeps the usage to itself
            command(*arguments), cwd=home, env=environment(home), stdout=out, stderr=err
        )
        ending = asyncio.create_task(asyncio.to_thread(_wait, process.pid))
        try:
            status, usage, peak = await asyncio.shield(ending)
        except asyncio.CancelledError:
            if not ending.done():
                os.kill(process.pid, signal.SIGTERM)
            # It may be the last to leave PostgreSQL, which it then stops: the folder must outlive that.
            await ending
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            raise CommandFailed(f"footfall {' '.join(arguments)}: {err.read()[-2_000:]}")
        return Finished(out.read(), seconds, peak, usage.ru_utime + usage.ru_stime)


def _wait(pid: int) -> tuple[int, Any, int]:
    """Status and usage of a process at its end, and the most resident memory it was seen with.

    Looked at time and again, as the kernel's own `ru_maxrss` begins with what the process that
    started it had in memory.
    """
    watched, peak = psutil.Process(pid), 0
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, usage, peak
        with suppress(psutil.Error):
            peak = max(peak, watched.memory_info().rss)
        time.sleep(0.02)


@dataclass(slots=True)
class Service:
    """A running `footfall serve`; `acknowledged` counts what it said it had taken, by site."""

    home: Path
    address: Address
    process: asyncio.subprocess.Process
    admin_key: str
    client: Client
    acknowledged: dict[str, int] = field(default_factory=dict)

    async def ask(self, query: str, variables: Mapping[str, object] | None = None) -> Any:
        """The data of a GraphQL answer, which must have no errors."""
        body = json.loads(await self.client.send(graphql_request(self.admin_key, query, variables)))
        if "errors" in body:
            raise WrongAnswer(str(body["errors"])[:1_000])
        return body["data"]

    async def make_site(self, site: str, timezone: str = "UTC") -> None:
        """Make a site."""
        await self.ask(
            "mutation ($input: SiteInput!) { saveSite(input: $input) { id } }",
            {"input": {"id": site, "timezone": timezone}},
        )
        self.acknowledged[site] = 0

    async def total(self, site: str, days: tuple[str, str]) -> int:
        """The number of the site's events in the columnar copy, over days that hold them all."""
        found = await self.ask(_TOTAL, {"site": site, "range": {"from": days[0], "to": days[1]}})
        return int(found["eventCounts"]["total"])

    async def require_everything(self, days: tuple[str, str]) -> float:
        """Seconds until the copy holds what was acknowledged, neither more nor less of it.

        Raises `WrongAnswer` where a site has other events than it acknowledged.
        """
        started = moved_at = time.perf_counter()
        for site, acknowledged in self.acknowledged.items():
            before = -1
            while (found := await self.total(site, days)) != acknowledged:
                now = time.perf_counter()
                if found != before:
                    before, moved_at = found, now
                if found > acknowledged or now - moved_at > _STALLED_SECONDS:
                    raise WrongAnswer(
                        f"site {site} has {found:,} events, acknowledged were {acknowledged:,}"
                    )
                await asyncio.sleep(0.05)
        return time.perf_counter() - started

    def resident_bytes(self) -> int:
        """Memory of the service's process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def cpu(self) -> Cpu:
        """Processor time so far."""
        server = int((self.home / "postgres/postmaster.pid").read_text().split("\n", 1)[0])
        return Cpu(_cpu_seconds(self.process.pid), _cpu_seconds(server))


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time in seconds, of the service's process and of its PostgreSQL's."""

    service: float
    postgres: float

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.service + other.service, self.postgres + other.postgres)

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.service - other.service, self.postgres - other.postgres)


def _cpu_seconds(pid: int) -> float:
    """Of a process, its children, and those of them that have ended."""
    total = 0.0
    parent = psutil.Process(pid)
    for process in (parent, *parent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            if process is parent:
                total += times.children_user + times.children_system
    return total


@asynccontextmanager
async def serving(home: Path, **settings: str) -> AsyncIterator[Service]:
    """A service that is stopped in an orderly way at the end; what it logs is in `home`."""
    with (home / "serve.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command("serve", "--port", "0"),
            cwd=home,
            env=environment(home, **settings),
            stdout=subprocess.PIPE,
            stderr=log,
        )
    client: Client | None = None
    try:
        address = await _address(process, home)
        client = Client(address)
        secrets = json.loads((home / "secrets.json").read_text(encoding="utf-8"))
        yield Service(home, address, process, secrets["admin_key"], client)
    finally:
        if client is not None:
            await client.close()
        await end(process)
    if process.returncode != 0:
        raise CommandFailed(f"footfall serve ended with {process.returncode}: {_log_of(home)}")


async def _address(process: asyncio.subprocess.Process, home: Path) -> Address:
    assert process.stdout is not None
    async with asyncio.timeout(_START_SECONDS):
        while line := await process.stdout.readline():
            if found := _ANSWERS_ON.search(line.decode()):
                return Address(found[1], int(found[2]))
    raise CommandFailed(f"footfall serve did not start: {_log_of(home)}")


def _log_of(home: Path) -> str:
    return (home / "serve.log").read_text(encoding="utf-8", errors="replace")[-2_000:]


async def end(process: asyncio.subprocess.Process) -> None:
    """Stop a process in an orderly way, or at once where it does not end."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
