"""What the tests of the command line share."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.postgres.embedded import embedded_server
from tests.fixtures.service import ROOT
from tests.server.cli.commands import Several, ended


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose embedded server runs already, so that commands need not start it."""
    folder = tmp_path_factory.mktemp("cli") / "home"
    with asyncio.Runner() as runner:
        server = embedded_server(folder)
        runner.run(server.__aenter__())
        # Migrates the ledger, before commands come side by side.
        made = runner.run(ended(folder, "sites", "create", "shop", "--timezone", "Europe/Berlin"))
        assert made.code == 0, made.err
        yield folder
        runner.run(server.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def several() -> Iterator[Several]:
    """A process that runs commands."""
    driver = Path(__file__).with_name("driver.py")
    with subprocess.Popen(
        [sys.executable, str(driver)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Several(process)
        assert process.stdin is not None
        process.stdin.close()
