"""Commands as real processes, and a look behind the scenes."""

import asyncio
import json
import signal
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from data.postgres.embedded import embedded_server
from tests.fixtures.service import clean_environment, command


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on its standard output."""
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line that says why it failed."""
        assert self.err.startswith("footfall: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("footfall: ").rstrip("\n")


async def start(home: Path, *arguments: str) -> asyncio.subprocess.Process:
    """A command that has just begun."""
    return await asyncio.create_subprocess_exec(
        *command(*arguments),
        cwd=home.parent,
        env=clean_environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Who runs the tests in the background of a script has its children ignore Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


async def end_of(process: asyncio.subprocess.Process) -> Ended:
    """How a command ends; one that hangs is killed."""
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def ended(home: Path, *arguments: str) -> Ended:
    """A command, run to its end."""
    return await end_of(await start(home, *arguments))


class Several:
    """Commands, one after another in one process: starting Python takes longer than most of them.

    `NAME=value` may stand before a command, as in a shell.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def __call__(self, home: Path, *commands: tuple[str, ...]) -> list[Ended]:
        order = {"cwd": str(home.parent), "environment": clean_environment(home)}
        answer = await asyncio.to_thread(self._ask, json.dumps({**order, "commands": commands}))
        return [Ended(*one) for one in json.loads(answer)]

    def _ask(self, order: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "a command took the whole process with it"
        return answer


async def rows_of(home: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What the ledger in a home says."""
    async with embedded_server(home) as server:
        connection = await asyncpg.connect(
            host=str(server.socket_dir), port=server.port, user="postgres", database="footfall"
        )
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()
