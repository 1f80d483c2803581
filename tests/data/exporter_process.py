"""A process that exports by itself: `exporter_process.py WRITER_URL READER_URL HOME`."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url

from data.columnar import open_columnar
from data.export_attempt import ExportPace
from data.exporter import ExporterParts, ExporterRules, open_exporter
from data.follower import Follower, following
from data.local_secrets import LocalSecrets
from data.postgres.engine import READER, WRITER, Login, open_engine
from data.postgres.feed import ledger_id
from data.postgres.reads import Reads
from data.slots import take_slot
from telemetry.metrics import Metrics


async def main(writer_url: str, reader_url: str, home: str) -> None:
    login = Login(make_url(writer_url), WRITER)
    metrics = Metrics.create()
    rules = ExporterRules(allow_private=True, pace=ExportPace(look_every=0.1))
    async with (
        open_engine(login) as writer,
        open_engine(Login(make_url(reader_url), READER)) as reader,
    ):
        reads, identity = Reads(reader), str(await ledger_id(writer))
        with take_slot(Path(home) / "columnar") as slot:
            async with (
                open_columnar(slot, ledger_id=identity, metrics=metrics) as copy,
                following(Follower(copy, reads, writer, metrics.follow)),
                open_exporter(
                    ExporterParts(
                        login,
                        reads,
                        copy,
                        LocalSecrets(Path(home)),
                        metrics.exports,
                        lambda: datetime.now(UTC),
                    ),
                    rules,
                ),
            ):
                await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
