"""`footfall demo`: a newcomer succeeds at the first try."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from tests.fixtures.windows import within_an_hour
from tests.server.cli.commands import Ended, end_of, ended, rows_of, start


async def read_until(process: asyncio.subprocess.Process, last: str) -> str:
    """What a process prints, up to a line that is `last`."""
    assert process.stdout is not None
    text = ""
    async with asyncio.timeout(120):
        while not text.endswith(f"{last}\n"):
            line = await process.stdout.readline()
            assert line, await end_of(process)
            text += line.decode()
    return text


async def pasted(line: str) -> Any:
    """What a command line gives that somebody pastes into a shell."""
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await shell.communicate()
    assert (shell.returncode, err) == (0, b"")
    return json.loads(out)


def key_in(demo: str | Ended) -> str:
    text = demo.out if isinstance(demo, Ended) else demo
    [line] = [line for line in text.splitlines() if line.strip().startswith("key ")]
    return line.split()[1]


async def test_what_it_prints_works_when_pasted_and_a_second_start_goes_on_from_the_first(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    await within_an_hour(120)
    process = await start(home, "demo", "--port", "0", "--days", "20")
    printed = await read_until(process, "Ctrl-C stops it.")
    collect, mutation, question = [
        line for line in printed.splitlines() if line.startswith("curl ")
    ]

    before = await pasted(question)
    first = await pasted(collect)
    second = await pasted(mutation)
    async with asyncio.timeout(60):
        while (after := await pasted(question)) == before or (
            after["data"]["dau"]["meta"]["dataThrough"] <= first["timestamp"]
        ):
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stopped = await end_of(process)
    again = await ended(home, "demo", "--no-serve")

    assert first["status"] == "success"
    assert second["data"] == {"ingest": {"accepted": 1, "duplicates": 0, "rejected": 0}}
    users = [point["users"] for point in before["data"]["dau"]["points"]]
    assert len(users) == 7
    assert min(users[:-1]) > 50
    # Both events are of one new user, on the last day.
    assert [point["users"] for point in after["data"]["dau"]["points"]] == [
        *users[:-1],
        users[-1] + 1,
    ]
    assert stopped.code == 130
    assert stopped.err.endswith(" events were added\nfootfall: stopped\n")
    assert again.code == 0
    assert key_in(again) == key_in(printed)
    assert (home / "demo-key").stat().st_mode & 0o077 == 0
    assert json.loads((home / "secrets.json").read_text())["admin_key"] in printed
    assert "0 events were added" in again.err
    assert await rows_of(home, "select count(*) from api_keys") == [(1,)]
    assert await rows_of(home, "select name, timezone from sites") == [
        ("Demo shop", "Europe/Berlin")
    ]
    [(events, ids)] = await rows_of(home, "select count(*), count(distinct event_id) from events")
    assert events == ids > 5_000
