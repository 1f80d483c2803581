"""What a figure was measured on: without it, no two results can be compared."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from data.postgres.embedded import postgres_bin

_PACKAGES = (
    "footfall",
    "asyncpg",
    "chdb",
    "duckdb",
    "httptools",
    "msgspec",
    "strawberry-graphql",
    "uvicorn",
    "uvloop",
)


def machine_facts() -> dict[str, object]:
    """Cores, memory and versions; `load_1m` well above 0 says that others were at work, too."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cpu": _cpu(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "postgresql": _postgres_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "load_1m": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _postgres_version() -> str:
    command = [str(postgres_bin() / "postgres"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]
