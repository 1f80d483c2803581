"""Runs of exports are planned by a job, and credentials move on to a new key by another."""

import asyncio
from datetime import UTC, datetime, timedelta

from data.exports.destination import REALTIME
from data.exports.records import RunStatus, Trigger
from data.local_secrets import NamedSecrets
from data.postgres.export_destinations import sealed_secrets
from jobs.plan_exports import plan_exports
from jobs.rewrap_export_secrets import rewrap_export_secrets
from tests.fixtures.app import open_app
from tests.fixtures.exporting import SECONDS, Exports


async def test_what_waits_is_planned_and_published_by_the_application_itself(
    exports: Exports,
) -> None:
    ids = await exports.ingest(20)
    async with open_app(exports.database, exports.home, outbound_allow_private=True) as app:
        destination = await exports.save(schedule=REALTIME)
        async with asyncio.timeout(SECONDS):
            # Another look changes nothing: the job is at it every two seconds anyway.
            while not (runs := await exports.runs(destination)):
                await plan_exports(app.resources, datetime.now(UTC) + timedelta(seconds=1))
                await asyncio.sleep(0.1)
        done = await exports.until_done(runs[0], "SUCCEEDED", "FAILED", "DEAD")
    assert (done.status, done.trigger) == (RunStatus.SUCCEEDED, Trigger.SCHEDULE)
    assert exports.ids() == sorted(ids)
    assert len(await exports.runs(destination)) == 1


async def test_a_rotation_reaches_the_credentials_of_exports(exports: Exports) -> None:
    destination = await exports.save()
    NamedSecrets(exports.home).rotate()
    async with open_app(exports.database, exports.home) as app:
        await rewrap_export_secrets(app.resources, datetime.now(UTC))
    sealed = await sealed_secrets(exports.engine, destination.destination_id)
    assert sealed is not None
    assert sealed.client is not None
    assert sealed.client.startswith("local:v2.")
