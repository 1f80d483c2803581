"""Load by `wrk`, one thread on a core of its own: what a load generator in Python cannot reach."""

from __future__ import annotations

import asyncio
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

# Lua for wrk: the request, and a line of JSON with what came of the load.
_SCRIPT = """
wrk.method = %(method)s
wrk.body = %(body)s
%(headers)s
local wanted, wrong = %(status)d, 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) mistakes = 0 end
function response(status, headers, body)
    if status ~= wanted then mistakes = mistakes + 1 end
end
function done(summary, latency, requests)
    for _, thread in ipairs(threads) do wrong = wrong + thread:get("mistakes") end
    io.write(string.format(
        '\\n{"requests": %%d, "microseconds": %%d, "wrong": %%d, "errors": %%d, "p99": %%d}\\n',
        summary.requests, summary.duration, wrong,
        summary.errors.connect + summary.errors.read + summary.errors.write
            + summary.errors.timeout,
        latency:percentile(99)
    ))
end
"""
_LAST_LINE = re.compile(r"^\{.*\}$", re.MULTILINE)


class NoWrk(Exception):
    """The load generator is not installed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Hits:
    """One request, sent again and again. Every answer must have the status."""

    path: str
    method: str = "GET"
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


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
        "status": hits.status,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hits.lua"
        file.write_text(script, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            require_wrk(),
            *("--threads", "1", "--connections", str(CONNECTIONS)),
            *("--duration", f"{round(seconds)}s", "--script", str(file)),
            f"http://{address.host}:{address.port}{hits.path}",
            stdout=subprocess.PIPE,
        )
        keep_to_core(process.pid, 1)
        out, _ = await process.communicate()
    line = _LAST_LINE.search(out.decode())
    if process.returncode != 0 or line is None:
        raise WrongAnswer(f"wrk ended with {process.returncode}: {out.decode()[-500:]}")
    found = json.loads(line[0])
    if found["wrong"] or found["errors"]:
        raise WrongAnswer(f"{hits.method} {hits.path[:80]}: {line[0]}")
    return Rate(found["requests"] / found["microseconds"] * 1e6, found["p99"] / 1_000)
