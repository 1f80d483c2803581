"""`footfall import`: every row is in once, or refused with its reason, whatever happens."""

import asyncio
import gzip
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tests.server.cli.commands import Ended, Several, end_of, ended, rows_of, start

HEADER = "event_id,occurred_at,user_id,event_type,properties_json"
OTHERS = (
    "select count(*) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)
OF_TYPE = "select count(*), count(distinct event_id) from events where event_type = $1"


def write_csv(file: Path, rows: int, event_type: str) -> Path:
    """A file of good rows, all of one type."""
    lines = (
        f'{uuid4()},2026-03-{1 + n % 28:02}T12:00:00Z,u{n % 500},{event_type},"{{""n"": {n}}}"'
        for n in range(rows)
    )
    file.write_text("\n".join((HEADER, *lines)) + "\n")
    return file


def counts(command: Ended) -> tuple[int, int, int]:
    """Rows that were accepted, were there already, were refused."""
    answer = command.json
    return answer["accepted"], answer["duplicates"], answer["rejected"]


async def test_bad_rows_are_told_with_their_numbers_and_sink_no_others(
    home: Path, tmp_path: Path, several: Several
) -> None:
    good = [f"id-{n},2026-03-01T10:00:00Z,ann,mixed," for n in range(3)]
    bad = [
        "id-3,yesterday,ann,mixed,",
        'id-4,2026-03-01T10:00:00Z,ann,mixed,"{""open"": "',
        "id-5,2026-03-01T10:00:00Z,ann",
        "id-6,2026-03-01T10:00:00Z,ann, ,",
        "id-7,2999-01-01T00:00:00Z,ann,mixed,",
    ]
    file = tmp_path / "mixed rows.csv"
    file.write_text("\n".join((HEADER, *good[:2], *bad, good[2], good[0])) + "\n")
    order = ("import", str(file), "--site", "shop")

    first, again, for_people = await several(home, (*order, "--json"), (*order, "--json"), order)

    assert (first.code, again.code, for_people.code) == (0, 0, 0)
    assert counts(first) == (3, 1, 5)
    assert counts(again) == (0, 4, 5)
    assert first.json["is_complete"]
    lines = Path(first.json["rejected_file"]).read_text().splitlines()
    refused = [json.loads(line) for line in lines]
    assert {row["row"]: row["code"] for row in refused} == {
        4: "INVALID_TIMESTAMP",
        5: "UNREADABLE_ROW",
        6: "UNREADABLE_ROW",
        7: "INVALID_EVENT_TYPE",
        8: "INVALID_TIMESTAMP",
    }
    assert all(row["message"] and row["text"] for row in refused)
    assert first.json["rejected_file"].startswith(str(home / "imports" / "mixed-rows.csv-"))
    assert Path(first.json["rejected_file"]).stat().st_mode & 0o077 == 0
    assert "rejected" in for_people.out
    assert "row 7: INVALID_EVENT_TYPE" in for_people.out
    kept = "select count(*) from rejected_events where code = 'INVALID_EVENT_TYPE'"
    assert await rows_of(home, kept) == [(3,)]


async def test_rows_of_other_sites_are_counted_and_left_alone(
    home: Path, tmp_path: Path, several: Several
) -> None:
    file = tmp_path / "sites.jsonl"
    events = [{"event_type": "sited", "user_id": str(n), "site_id": f"s{n % 3}"} for n in range(9)]
    file.write_text("".join(f"{json.dumps(event)}\n" for event in events))

    _, taken = await several(
        home, ("sites", "create", "s1"), ("import", str(file), "--site", "s1", "--json")
    )

    assert counts(taken) == (3, 0, 0)
    assert taken.json["other_sites"] == {"s0": 3, "s2": 3}
    assert taken.json["rejected_file"] is None
    sites = "select distinct site_id from events where event_type = 'sited'"
    assert await rows_of(home, sites) == [("s1",)]


async def test_what_cannot_be_imported_is_one_clear_line(
    home: Path, tmp_path: Path, several: Several
) -> None:
    file = write_csv(tmp_path / "fine.csv", 3, "refused")
    strange = tmp_path / "strange.bin"
    strange.write_bytes(b"\x00\x01\x02" * 100)

    unknown_site, missing, wrong_format, unrecognised = await several(
        home,
        ("import", str(file), "--site", "nowhere"),
        ("import", str(tmp_path / "none.csv"), "--site", "shop"),
        ("import", str(file), "--site", "shop", "--format", "parquet"),
        ("import", str(strange), "--site", "shop", "--json"),
    )

    for command in (unknown_site, missing, wrong_format, unrecognised):
        assert (command.code, command.out) == (1, "")
    assert "footfall sites create nowhere" in unknown_site.line
    assert "none.csv" in missing.line
    assert "Parquet" in wrong_format.line
    assert "--format" in unrecognised.line
    assert await rows_of(home, OF_TYPE, "refused") == [(0, 0)]


async def test_all_rows_before_the_cut_of_a_cut_off_file_are_in(
    home: Path, tmp_path: Path, several: Several
) -> None:
    whole = tmp_path / "whole.csv.gz"
    whole.write_bytes(gzip.compress(write_csv(tmp_path / "cut.csv", 20_000, "cut").read_bytes()))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])

    partly, rest = await several(
        home,
        ("import", str(cut), "--site", "shop", "--json"),
        ("import", str(whole), "--site", "shop", "--json"),
    )

    assert partly.code == 1
    assert "too early" in partly.line
    assert not partly.json["is_complete"]
    assert partly.json["problem"] == partly.line
    taken, _, _ = counts(partly)
    assert 5_000 < taken < 20_000
    assert counts(rest) == (20_000 - taken, taken, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_an_interrupted_import_is_taken_up_and_every_row_is_in_once(
    home: Path, tmp_path: Path, number: signal.Signals, several: Several
) -> None:
    total = 30_000
    turn = 0
    while True:
        turn += 1
        assert turn < 10, "it is always done before"
        event_type = f"stopped_by_{number.name}_{turn}"
        file = write_csv(tmp_path / "long.csv", total, event_type)
        order = ("import", str(file), "--site", "shop", "--json")
        process = await start(home, *order)
        while (await rows_of(home, OF_TYPE, event_type)) == [(0, 0)]:
            await asyncio.sleep(0.01)
        process.send_signal(number)
        stopped = await end_of(process)
        async with asyncio.timeout(60):
            # What it had sent may be committed when it is gone.
            while await rows_of(home, OTHERS) != [(0,)]:
                await asyncio.sleep(0.05)
        [(before, _)] = await rows_of(home, OF_TYPE, event_type)
        if before < total:
            break
        # It was done before the signal came: once more, with other rows.
    [again] = await several(home, order)

    assert 0 < before < total
    if number is signal.SIGKILL:
        assert stopped.code == -number
    else:
        assert (stopped.code, stopped.out) == (128 + number, "")
        assert f"stopped, {before:,} rows are done; run it again" in stopped.line
    assert counts(again) == (total - before, before, 0)
    assert await rows_of(home, OF_TYPE, event_type) == [(total, total)]


async def test_an_import_outlives_the_death_of_the_embedded_database(tmp_path: Path) -> None:
    home, total = tmp_path / "home", 30_000
    pid_file = home / "postgres" / "postmaster.pid"
    await ended(home, "sites", "create", "shop")

    turn = 0
    while True:
        turn += 1
        assert turn < 10, "it is always done before"
        event_type = f"outlived_{turn}"
        file = write_csv(tmp_path / "long.csv", total, event_type)
        process = await start(home, "import", str(file), "--site", "shop", "--json")
        while not pid_file.exists() or (await rows_of(home, OF_TYPE, event_type)) == [(0, 0)]:
            await asyncio.sleep(0.01)
        with suppress(FileNotFoundError):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
            break
        # It was done, and its server gone, before anybody was killed: once more.
        await end_of(process)
    command = await end_of(process)

    assert command.code == 0, command.err
    accepted, duplicates, rejected = counts(command)
    # A commit whose answer was lost was sent again, and its rows were there already.
    assert (accepted + duplicates, rejected) == (total, 0)
    assert await rows_of(home, OF_TYPE, event_type) == [(total, total)]


async def test_two_imports_of_one_file_at_once_count_each_row_once(
    home: Path, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "twice.csv", 10_000, "twice")
    order = ("import", str(file), "--site", "shop", "--json")

    commands = await asyncio.gather(ended(home, *order), ended(home, *order))

    assert [command.code for command in commands] == [0, 0]
    accepted, duplicates, rejected = map(sum, zip(*map(counts, commands), strict=True))
    assert (accepted, duplicates, rejected) == (10_000, 10_000, 0)
    assert await rows_of(home, OF_TYPE, "twice") == [(10_000, 10_000)]


async def test_of_an_access_log_no_address_is_kept_and_visitors_are_the_same_next_time(
    home: Path, tmp_path: Path, several: Several
) -> None:
    line = '{} - - [01/Mar/2026:12:00:{:02} +0000] "GET /logged HTTP/1.1" 200 12 "-" "Firefox"\n'
    log = tmp_path / "access.log"
    log.write_text("".join(line.format(f"203.0.113.{n % 2}", n) for n in range(20)))

    first, again = await several(
        home,
        ("import", str(log), "--site", "shop", "--json"),
        ("import", str(log), "--site", "shop", "--json"),
    )

    assert counts(first) == (20, 0, 0)
    assert counts(again) == (0, 20, 0)
    visitors = "select visitor_id, count(*), bool_or(e::text like '%203.0.113%') from events e"
    rows = await rows_of(home, f"{visitors} where path = '/logged' group by visitor_id")
    assert [(count, leaked) for _, count, leaked in rows] == [(10, False), (10, False)]
