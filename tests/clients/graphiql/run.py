"""GraphiQL, checked with Node: that its build is what the sources give, and that it works.

    python -m tests.clients.graphiql.run           both; `make conformance` does this
    python -m tests.clients.graphiql.run build     builds web/graphiql again and compares
    python -m tests.clients.graphiql.run browser   drives Chromium against a running service

It exits with 1 where a check fails, and with 2 where Node.js or Chromium is missing.
"""

from __future__ import annotations

import asyncio
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.clients.run import CannotRun, prepared, require_node, say

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "web" / "graphiql"
PARTS = ("build", "browser")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(chosen: Sequence[str]) -> int:
    """Run the chosen parts and give the exit code."""
    if unknown := set(chosen) - set(PARTS):
        say(f"There is no {', '.join(sorted(unknown))}; choose of {', '.join(PARTS)}.")
        return 2
    try:
        require_node()
        failed = [part for part in chosen or PARTS if not _succeeds(part)]
    except CannotRun as problem:
        say(str(problem))
        return 2
    if failed:
        say(f"FAILED: GraphiQL's {', '.join(failed)}")
    return 1 if failed else 0


def _succeeds(part: str) -> bool:
    if part == "build":
        _install(SOURCES)
        return subprocess.run(["npm", "run", "check"], cwd=SOURCES, check=False).returncode == 0
    browser = _browser()
    _install(HERE)
    with tempfile.TemporaryDirectory(prefix="footfall-graphiql-") as home:
        return asyncio.run(_browse(Path(home), browser)) == 0


async def _browse(home: Path, browser: str) -> int:
    async with prepared(home) as service:
        process = await asyncio.create_subprocess_exec(
            "node",
            str(HERE / "check.mjs"),
            service.url,
            service.keys["any"],
            env={**os.environ, "CHROMIUM": browser},
            stdin=subprocess.DEVNULL,
        )
        return await process.wait()


def _browser() -> str:
    named = os.environ.get("CHROMIUM")
    found = named or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise CannotRun(
            "GraphiQL is looked at in Chromium, and there is none: install it (Debian: "
            "apt-get install chromium), or name a browser with CHROMIUM=/path/to/it."
        )
    return found


def _install(project: Path) -> None:
    """The packages of the lock file in node_modules; at once where they are there already."""
    lock, installed = project / "package-lock.json", project / "node_modules" / "installed.json"
    if installed.is_file() and filecmp.cmp(lock, installed, shallow=False):
        return
    if subprocess.run(["npm", "ci", "--silent"], cwd=project, check=False).returncode != 0:
        raise CannotRun(f"`npm ci` failed in {project}; see above.")
    shutil.copyfile(lock, installed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
