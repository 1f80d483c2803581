"""A process that tells webhooks on loopback: `notifier_process.py URL HOME HOLD_SECONDS`."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import make_url

from data.export_notifier import NoticeRules, open_export_notifier
from data.local_secrets import LocalSecrets
from data.postgres.engine import WRITER, Login
from telemetry.metrics import Metrics


async def main(url: str, home: str, hold: str) -> None:
    login = Login(make_url(url), WRITER)
    rules = NoticeRules(
        allow_private=True,
        hold=timedelta(seconds=float(hold)),
        look_every=timedelta(seconds=0.1),
    )
    envelope = LocalSecrets(Path(home)).envelope
    metrics = Metrics.create().notices
    async with open_export_notifier(login, envelope, metrics, lambda: datetime.now(UTC), rules):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
