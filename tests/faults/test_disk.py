"""A disk without room for the spool while the ledger is away: senders are told, nothing is lost."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.load import SECONDS, Load
from tests.faults.test_spool import primary_with_site
from tests.fixtures.service import launch

MEBIBYTE = 1024 * 1024


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[None]:
    """A file system of its own at a folder, with so much room."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a small file system is mounted for this, which takes root")
    command = [mount, "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        # Detached at once, and gone when the last process has closed its files.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(filler: Path) -> None:
    """Leave no byte of room."""
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


async def test_a_full_disk_under_the_spool_refuses_by_a_code_and_loses_nothing(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    async with primary_with_site(tmp_path) as primary:
        with small_disk(home / "spool", 4):
            service = await launch(home, DATABASE_URL=primary.url)
            load = Load([service], asks_receipts=False)
            try:
                async with load.flowing(askers=1):
                    filler = home / "spool" / "filler"
                    filler.write_bytes(bytes(3 * MEBIBYTE + MEBIBYTE * 9 // 10))
                    await primary.kill()
                    await load.until_more(lambda: load.failed["ingest OVERLOADED"], 20)
                    full = await service.client.get("/health")
                    queued = load.statuses["QUEUED"]
                    # Without anybody doing anything else, there is room again.
                    filler.unlink()
                    await load.until_more(lambda: load.statuses["QUEUED"] - queued, 200)
                    fill_up(filler)
                    await load.until_more(lambda: load.failed["ingest OVERLOADED"], 1)
                    # Draining needs no room, not even for the note of how far it is.
                    await primary.start()
                    await service.until_drained(SECONDS)
                    fill_up(filler)
                await load.whole()
                assert filler.stat().st_size > 3 * MEBIBYTE
                assert await service.stop() == 0
                assert list((home / "spool").glob("*/*.damaged")) == []
            finally:
                await service.client.aclose()
                await service.stop(signal.SIGKILL)
        await load.count(primary)

    assert queued > 0
    # Neither the ledger nor the spool takes events: balancers should look elsewhere.
    assert (full.status_code, full.json()["spool"]) == (503, "down")
    assert load.failed.keys() <= {"ingest OVERLOADED", "ingest UNAVAILABLE"}
    # Only those whose commit was under way when the primary went: they may have been taken.
    assert load.failed["ingest UNAVAILABLE"] <= 3


async def test_a_full_disk_does_not_matter_while_the_ledger_takes_events(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with primary_with_site(tmp_path) as primary:
        with small_disk(home / "spool", 1):
            service = await launch(home, DATABASE_URL=primary.url)
            load = Load([service], asks_receipts=False)
            try:
                async with load.flowing(askers=1):
                    (home / "spool" / "filler").write_bytes(bytes(MEBIBYTE - 16 * 1024))
                    await load.until_more(lambda: len(load.acknowledged), 200)
                await load.whole()
                assert await service.stop() == 0
            finally:
                await service.client.aclose()
                await service.stop(signal.SIGKILL)
        await load.count(primary)

    assert load.failed == {}
    assert load.statuses.keys() == {"ACCEPTED"}
