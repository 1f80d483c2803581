"""Asks the ClickHouse engine, which runs in a process of its own (`clickhouse_engine.py`)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

THREADS = 2
_SECONDS = 1_800


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done: a file to load, and questions by name, each asked `runs` times."""

    folder: str
    file: str
    questions: dict[str, str]
    runs: int


@dataclass(frozen=True, slots=True)
class Found:
    """Rows and seconds of each run, by question; and how loading went."""

    version: str
    load_seconds: float
    rows: int
    bytes_on_disk: int
    answers: dict[str, list[list[Any]]]
    seconds: dict[str, list[float]]


class EngineFailed(Exception):
    """The process did not do its task."""


async def ask_clickhouse(task: Task) -> Found:
    """Have a task done by a new process; raises `EngineFailed`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.clickhouse_engine"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, err = await process.communicate(json.dumps(asdict(task)).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise EngineFailed(err.decode(errors="replace")[-2_000:])
    return Found(**json.loads(out))
