"""What `footfall export` waits for, and what not."""

import asyncio

from data.exports.records import RunStatus
from data.postgres.engine import transaction
from data.postgres.export_destinations import set_paused
from data.postgres.export_pauses import pause_target
from server.cli.exports import _follow, _problem_of
from server.settings import Settings
from tests.fixtures.exporting import BACKUP, SECONDS, Exports, kinds

# Of no use here: nobody has to take the run up.
SETTINGS = Settings.model_construct()


def _nowhere(_done: float, _of_all: float, _words: str) -> None:
    return


async def test_a_backup_that_rests_is_told_and_not_waited_for(exports: Exports) -> None:
    await exports.ingest(3)
    stored = await exports.save(backup=exports.place("safe"))
    async with transaction(exports.engine) as connection:
        whose = stored.destination_id
        assert await pause_target(connection, whose, BACKUP, "no permission", exports.now())
    run = await exports.ask(stored)
    async with exports.process() as process:
        assert await process.take_up()
    async with asyncio.timeout(SECONDS):
        ended = await _follow(SETTINGS, exports.engine, run, _nowhere)
    assert kinds(ended) == [("client", "SUCCEEDED"), ("backup", "PENDING")]
    assert "the run waits for backup their-events, which is paused" in (_problem_of(ended) or "")


async def test_a_run_of_a_destination_that_somebody_pauses_is_not_waited_for(
    exports: Exports,
) -> None:
    stored = await exports.save()
    run = await exports.ask(stored)
    async with transaction(exports.engine) as connection:
        await set_paused(connection, stored.destination_id, exports.now(), paused=True)
    async with asyncio.timeout(SECONDS):
        ended = await _follow(SETTINGS, exports.engine, run, _nowhere)
    assert ended.status is RunStatus.PENDING
    assert "setExportPaused" in (_problem_of(ended) or "")
