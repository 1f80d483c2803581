"""Load by `wrk`, one thread on a core of its own: what a load generator in Python cannot reach."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.load import Address
from benchmarks.tables import WrongAnswer

CONNECTIONS = 32

# Lua for wrk: the request, and a line of JSON with what came of the load. It looks at no answer:
# a function for that would have wrk make a table of each one's headers, which on a machine of two
# cores takes as much from the service as it takes itself. wrk counts statuses from 400 on.
_SCRIPT = """
wrk.method = %(method)s
wrk.body = %(body)s
%(headers)s
function done(summary, latency, requests)
    io.write(string.format(
        '\\n{"requests": %%d, "microseconds": %%d, "errors": %%d, "p99": %%d}\\n',
        summary.requests, summary.duration,
        summary.errors.status + summary.errors.connect + summary.errors.read
            + summary.errors.write + summary.errors.timeout,
        latency:percentile(99)
    ))
end
"""
_LAST_LINE = re.compile(r"^\{.*\}$", re.MULTILINE)


class NoWrk(Exception):
    """The load generator is not installed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Hits:
    """One request, sent again and again; `status` and `begins` are of its answer.

    They are looked at before and after the load. Within it, no answer may be an error.
    """

    path: str
    method: str = "GET"
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    begins: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """Answers per second, and the time in ms within which 99 of 100 came."""

    per_second: float
    p99: float


def require_wrk() -> str:
    """Where wrk is; raises `NoWrk`."""
    found = shutil.which("wrk")
    if found is None:
        raise NoWrk("this benchmark needs wrk: install the package `wrk` of your distribution")
    return found


def keep_to_core(pid: int, core: int) -> None:
    """Let a process's main thread run on one core only, where there are several."""
    cores = sorted(os.sched_getaffinity(0))
    psutil.Process(pid).cpu_affinity([cores[core % len(cores)]])


async def hit(address: Address, hits: Hits, seconds: float) -> Rate:
    """Send a request for so long on 32 connections; raises `WrongAnswer`."""
    script = _SCRIPT % {
        "method": json.dumps(hits.method),
        "body": json.dumps(hits.body) if hits.body else "nil",
        "headers": "\n".join(
            f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
            for name, value in hits.headers.items()
        ),
    }
    _require_answer(address, hits)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hits.lua"
        file.write_text(script, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            require_wrk(),
            *("--threads", "1", "--connections", str(CONNECTIONS)),
            *("--duration", f"{round(seconds)}s", "--timeout", "10s", "--script", str(file)),
            f"http://{address.host}:{address.port}{hits.path}",
            stdout=subprocess.PIPE,
        )
        keep_to_core(process.pid, 1)
        out, _ = await process.communicate()
    line = _LAST_LINE.search(out.decode())
    if process.returncode != 0 or line is None:
        raise WrongAnswer(f"wrk ended with {process.returncode}: {out.decode()[-500:]}")
    found = json.loads(line[0])
    if found["errors"]:
        raise WrongAnswer(f"{hits.method} {hits.path[:80]}: {line[0]}")
    _require_answer(address, hits)
    return Rate(found["requests"] / found["microseconds"] * 1e6, found["p99"] / 1_000)


def _require_answer(address: Address, hits: Hits) -> None:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
    try:
        connection.request(hits.method, hits.path, hits.body or None, dict(hits.headers))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != hits.status or not body.startswith(hits.begins.encode()):
        raise WrongAnswer(f"{hits.method} {hits.path[:80]}: {answer.status} {body[:200]!r}")
