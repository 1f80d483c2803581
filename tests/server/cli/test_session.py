"""How commands end when a signal comes: in order, whatever is between the signal and them."""

import asyncio
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Some libraries take a cancellation for their own, now and then.
COMMAND = """
import asyncio, contextlib, os, signal, sys
from server.cli.failures import Stopped
from server.cli.session import end_if_stopped, run

async def work():
    os.kill(os.getpid(), int(sys.argv[1]))
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(30)
    end_if_stopped()
    return "went on"

try:
    outcome = run(work())
except Stopped as stopped:
    outcome = f"stopped by {stopped.number:d}"
print(outcome)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_that_was_swallowed_on_its_way_ends_the_command(
    number: signal.Signals,
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, str(int(number))),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()

    assert out.decode().strip() == f"stopped by {number:d}"
