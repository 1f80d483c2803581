"""The import contracts of pyproject.toml: they hold, and each of them can fail."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.architecture.rules import ROOMS, ROOT

# One forbidden import per contract, written into a copy of the source.
BREACHES = {
    "down": ("data/breach_down.py", "import resolvers"),
    "jobs": ("jobs/breach_jobs.py", "import schema"),
    "nobody-needs-jobs": ("resolvers/breach_clockwork.py", "import jobs"),
    "rooms": ("resolvers/breach_rooms.py", "from strawberry import type"),
    "reception": ("schema/breach_reception.py", "import duckdb"),
    "cellar": ("data/breach_cellar.py", "from fastapi import Request"),
    "clock": ("jobs/breach_clock.py", "from sqlalchemy import text"),
    "vault": ("resolvers/breach_vault.py", "import hvac"),
    "buckets": ("resolvers/breach_buckets.py", "import boto3"),
    "outbound": ("jobs/breach_outbound.py", "import httpx"),
    "meter": ("telemetry/breach_meter.py", "import data"),
    "cycles": ("server/breach_cycle_a.py", "import server.breach_cycle_b"),
}
OTHER_HALF = ("server/breach_cycle_b.py", "import server.breach_cycle_a")


def contracts() -> list[dict[str, str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed: list[dict[str, str]] = settings["tool"]["importlinter"]["contracts"]
    return listed


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs import-linter over the packages of `folder`, and over no other copy of them."""
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-logo", "--no-cache", "--config", "pyproject.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_import_keeps_to_the_contracts() -> None:
    result = lint_imports(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(contracts())} kept, 0 broken" in result.stdout


def test_each_contract_notices_a_breach(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for path, statement in (*BREACHES.values(), OTHER_HALF):
        (tmp_path / path).write_text(f"{statement}\n", encoding="utf-8")

    result = lint_imports(tmp_path)

    broken = set(re.findall(r"^(.+) BROKEN$", result.stdout, re.MULTILINE))
    assert broken == {contract["name"] for contract in contracts()}, result.stdout + result.stderr
    assert set(BREACHES) == {contract["id"] for contract in contracts()}
