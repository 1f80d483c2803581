"""A process that leads when it can, and then adds rows to a table: `leader_process.py URL NAME`.

On SIGUSR1 it freezes itself between two rounds, so that it hangs at no worse moment than a job
runner does; SIGCONT wakes it up.
"""

import asyncio
import os
import signal
import sys

import asyncpg
from sqlalchemy import make_url

from data.postgres.engine import WRITER, Login
from data.postgres.leadership import open_leadership
from telemetry.metrics import Metrics

ROUND_SECONDS = 0.1


async def main(url: str, name: str) -> None:
    freezing = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, freezing.set)
    parsed = make_url(url)
    writer = await asyncpg.connect(
        user="footfall_writer", database=parsed.database, **dict(parsed.query)
    )
    login = Login(parsed, WRITER)
    async with open_leadership(login, Metrics.create().leader, name=name) as leadership:
        while True:
            if freezing.is_set():
                freezing.clear()
                os.kill(os.getpid(), signal.SIGSTOP)
            if await leadership.leads():
                await writer.execute("insert into led (name) values ($1)", name)
            await asyncio.sleep(ROUND_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
