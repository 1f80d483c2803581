"""The file of the copy: made, found again, and recognised when it is of no use."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from data.duckdb.copy_file import (
    FORMAT_VERSION,
    CopyFile,
    CopyInUse,
    CopyUnusable,
    remove_copy,
    spill_folder,
)
from data.duckdb.store import DuckDBStore, open_copy
from data.event_store import StoreUnavailable
from tests.data.duckdb.examples import LEDGER, Feed, make_event, mark, numbers

OTHER_LEDGER = "7c0e6a52-1111-4a6c-9d52-4a2b8a1c7f10"

# Takes the slice that stands beside the copy, says so, and waits for what comes.
TAKE_A_SLICE_AND_WAIT = f"""
import asyncio, sys, time
from datetime import UTC, datetime
from pathlib import Path
from data.duckdb.store import open_copy
from data.queries import Watermark

async def main(path):
    async with open_copy(path, ledger_id="{LEDGER}") as store:
        if (slice := path.with_name("slice.csv")).exists():
            when = datetime(2024, 1, 1, tzinfo=UTC)
            await store.apply(slice, slice.read_text().count("\\n"), Watermark(9, 9, when))
        print("ready", flush=True)
        time.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


def start_other_process(path: Path) -> subprocess.Popen[str]:
    """Another process that has the copy open; it is ready when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_A_SLICE_AND_WAIT, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


async def fill(path: Path, events: int) -> None:
    """A closed copy with some events and not much in them that compresses."""
    async with open_copy(path, ledger_id=LEDGER) as store:
        feed = Feed(store, path.parent)
        for first in range(0, events, 2_000):
            await feed(
                *(
                    make_event(n, url=f"{n * 0x9E3779B97F4A7C15:x}" * 4)
                    for n in range(first + 1, min(first + 2_000, events) + 1)
                )
            )
    path.with_name("slice.csv").unlink()


async def why_unusable(path: Path, ledger_id: str = LEDGER) -> CopyUnusable:
    with pytest.raises(CopyUnusable) as refusal:
        async with open_copy(path, ledger_id=ledger_id):
            pass
    return refusal.value


async def test_a_new_copy_is_empty_and_an_old_one_is_found_again(path: Path) -> None:
    async with open_copy(path, ledger_id=LEDGER) as store:
        assert await store.watermark() is None
        feed = Feed(store, path.parent)
        await feed(make_event(1))
        await feed(make_event(2))

    async with open_copy(path, ledger_id=LEDGER) as store:
        assert await store.watermark() == mark(2)
        assert await numbers(store) == {1, 2}


async def test_closing_leaves_nothing_but_the_file(path: Path) -> None:
    await fill(path, 10)

    assert [entry.name for entry in path.parent.iterdir()] == ["copy.duckdb"]


async def test_the_size_is_that_of_the_file_and_its_log(path: Path) -> None:
    async with open_copy(path, ledger_id=LEDGER) as store:
        empty = await store.size()
        await Feed(store, path.parent)(*(make_event(n) for n in range(1_000)))

        log = path.with_name("copy.duckdb.wal").stat().st_size
        assert await store.size() == path.stat().st_size + log > empty > 0


async def test_a_copy_of_another_ledger_is_refused(path: Path) -> None:
    await fill(path, 1)

    error = await why_unusable(path, OTHER_LEDGER)

    assert error.reason == "other_ledger"
    assert LEDGER in str(error)


async def test_another_format_is_refused(path: Path) -> None:
    await fill(path, 1)
    with duckdb.connect(path) as connection:
        connection.execute("update copy_state set format_version = format_version + 1")

    error = await why_unusable(path)

    assert error.reason == "format"
    assert str(FORMAT_VERSION + 1) in str(error)


async def test_a_later_format_is_recognised_whatever_else_has_changed(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("create table copy_state (surprise text, format_version integer)")
        connection.execute("insert into copy_state values ('!', 99)")

    assert (await why_unusable(path)).reason == "format"


@pytest.mark.parametrize(
    "statements",
    [
        "select 1",
        "create table something (of text)",
        f"create table copy_state as select {FORMAT_VERSION} as format_version",
        "create table copy_state (format_version text); insert into copy_state values ('x')",
    ],
)
async def test_a_database_that_is_no_copy_is_refused(path: Path, statements: str) -> None:
    with duckdb.connect(path) as connection:
        connection.execute(statements)

    assert (await why_unusable(path)).reason in {"damaged", "format"}


def flip(path: Path, at: int) -> None:
    """Turn one byte of a file around."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    """Keep the beginning of a file; a negative size leaves out that many bytes."""
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("Dear diary,\n" * 2_000),
        lambda path: path.write_text("short"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(100_000)),
        lambda path: cut(path, 100),
        lambda path: cut(path, 5_000),
        lambda path: cut(path, 12_288),
        lambda path: cut(path, path.stat().st_size // 2),
        lambda path: flip(path, 0),
        lambda path: flip(path, 8),
        lambda path: flip(path, 100),
        lambda path: flip(path, 4_096),
        lambda path: flip(path, 4_200),
        lambda path: flip(path, 8_192),
        lambda path: flip(path, 8_300),
    ],
)
async def test_a_damaged_file_is_recognised(path: Path, damage: Callable[[Path], object]) -> None:
    await fill(path, 5_000)
    damage(path)

    assert (await why_unusable(path)).reason == "damaged"
    remove_copy(path)
    async with open_copy(path, ledger_id=LEDGER) as store:
        assert await store.watermark() is None


async def test_a_file_of_another_version_of_duckdb_is_recognised(path: Path) -> None:
    await fill(path, 1)
    content = bytearray(path.read_bytes())
    # The first header: a checksum, "DUCK", the version of the storage.
    content[12:20] = (9_999).to_bytes(8, "little")
    path.write_bytes(content)
    said = str(await why_unusable(path))
    [checksum] = re.findall(r"computed checksum (\d+)", said)
    content[0:8] = int(checksum).to_bytes(8, "little")
    path.write_bytes(content)

    error = await why_unusable(path)

    assert error.reason == "format"
    assert "9999" in str(error)


async def test_whatever_block_is_damaged_no_answer_is_wrong(path: Path) -> None:
    await fill(path, 20_000)
    intact = path.read_bytes()
    outcomes = []
    for block in range(12_288, len(intact), 262_144):
        path.write_bytes(intact)
        flip(path, block + 10_000)
        outcomes.append(await what_is_read(path))

    # Blocks of the catalogue, of data, and perhaps free ones.
    assert {"unusable", "damaged"} <= set(outcomes) <= {"unusable", "damaged", "right"}


async def what_is_read(path: Path) -> str:
    """What a copy with 20,000 events has to say."""
    try:
        async with open_copy(path, ledger_id=LEDGER) as store:
            try:
                found = await numbers(store, first=30_000)
            except StoreUnavailable as failure:
                assert await store.watermark() == mark(10)
                return "damaged" if failure.damaged else str(failure)
            return "right" if found == set(range(1, 20_001)) else "wrong"
    except CopyUnusable as error:
        return "unusable" if error.reason == "damaged" else str(error)


async def killed_with_a_slice_in_its_log(path: Path) -> Path:
    """A copy at position 1 whose process was killed after one more slice; its log."""
    await fill(path, 1)
    async with open_copy(path.with_name("other.duckdb"), ledger_id=LEDGER) as store:
        await Feed(store, path.parent)(*(make_event(n) for n in range(2, 500)))
    kill(start_other_process(path))
    return path.with_name("copy.duckdb.wal")


async def test_a_slice_outlives_the_process_that_took_it(path: Path) -> None:
    log = await killed_with_a_slice_in_its_log(path)
    assert log.stat().st_size > 1_000

    async with open_copy(path, ledger_id=LEDGER) as store:
        assert await numbers(store) == set(range(1, 500))
        watermark = await store.watermark()
        assert watermark is not None
        assert watermark.position == 9


async def test_a_log_that_breaks_off_takes_its_slice_with_it(path: Path) -> None:
    cut(await killed_with_a_slice_in_its_log(path), -1)

    async with open_copy(path, ledger_id=LEDGER) as store:
        assert await numbers(store) == {1}
        assert await store.watermark() == mark(1)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
async def test_an_unreadable_log_is_recognised(path: Path, place: float) -> None:
    log = await killed_with_a_slice_in_its_log(path)
    flip(log, int(log.stat().st_size * place))

    assert (await why_unusable(path)).reason == "damaged"


async def test_the_log_of_another_copy_is_recognised(path: Path) -> None:
    await killed_with_a_slice_in_its_log(path)
    remove_copy(path.with_name("other.duckdb"))
    await fill(path.with_name("other.duckdb"), 1)
    path.with_name("copy.duckdb.wal").rename(path.with_name("other.duckdb.wal"))

    assert (await why_unusable(path.with_name("other.duckdb"))).reason == "damaged"


async def test_a_log_without_its_file_is_cleared_away(path: Path) -> None:
    await killed_with_a_slice_in_its_log(path)
    path.unlink()

    async with open_copy(path, ledger_id=LEDGER) as store:
        assert await store.watermark() is None
        assert await numbers(store) == set()


async def test_a_file_that_another_process_holds_is_left_alone(path: Path) -> None:
    await fill(path, 3)
    other = start_other_process(path)
    try:
        with pytest.raises(CopyInUse):
            async with open_copy(path, ledger_id=LEDGER):
                pass
    finally:
        kill(other)

    async with open_copy(path, ledger_id=LEDGER) as store:
        assert await numbers(store) == {1, 2, 3}


@pytest.mark.parametrize("memory_limit", ["256MB", "128MB"])
async def test_a_file_that_this_process_holds_is_left_alone(
    path: Path, store: DuckDBStore, feed: Feed, memory_limit: str
) -> None:
    await feed(make_event(1))

    with pytest.raises(CopyInUse):
        async with open_copy(path, ledger_id=LEDGER, memory_limit=memory_limit):
            pass

    assert await numbers(store) == {1}
    # Nor did the attempt take the lock off.
    other = subprocess.run(
        [sys.executable, "-c", f"import duckdb; duckdb.connect({str(path)!r})"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Could not set lock" in other.stderr


async def test_a_folder_in_the_way_is_no_damage(path: Path) -> None:
    path.mkdir()

    with pytest.raises(StoreUnavailable, match="is a folder"):
        async with open_copy(path, ledger_id=LEDGER):
            pass


async def test_a_missing_folder_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file"):
        async with open_copy(tmp_path / "gone" / "copy.duckdb", ledger_id=LEDGER):
            pass


def test_what_does_not_fit_into_memory_goes_to_disk_and_is_cleared_away(path: Path) -> None:
    left_by_a_crash = spill_folder(path) / "duckdb_temp_storage_DEFAULT-0.tmp"
    left_by_a_crash.parent.mkdir()
    left_by_a_crash.write_bytes(bytes(1_000_000))
    file = CopyFile(path, LEDGER, "60MB", 1)
    connection = file.connect()
    assert not left_by_a_crash.exists()

    texts = "select repeat(md5(a::text), 3) as text from range(1_000_000) as r(a)"
    rows = connection.execute(f"select count(distinct text) from ({texts})").fetchall()
    spilled = list(spill_folder(path).iterdir())
    connection.close()

    assert rows == [(1_000_000,)]
    assert spilled
    assert [entry.name for entry in path.parent.iterdir()] == ["copy.duckdb"]


@pytest.mark.parametrize(
    "reach",
    [
        "select * from read_text('{outside}')",
        "select * from read_csv('{outside}')",
        "copy (select 1) to '{outside}.out'",
        "attach '{outside}.duckdb' as other",
        "install spatial",
        "load spatial",
        "select * from 'https://example.org/data.parquet'",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "select * from reach",  # a variable of this function is no table
    ],
)
def test_no_statement_reaches_beyond_the_folder(tmp_path: Path, reach: str) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("a,b\n")
    folder = tmp_path / "it's here"
    folder.mkdir()
    (folder / "slice.csv").write_text("a,b\n")
    connection = CopyFile(folder / "copy.duckdb", LEDGER, "128MB", 1).connect()
    try:
        inside = str(folder / "slice.csv")
        assert connection.execute(
            "select content from read_text($path)", {"path": inside}
        ).fetchall()

        with pytest.raises(duckdb.Error):
            connection.execute(reach.format(outside=outside))
    finally:
        connection.close()


def test_nothing_is_left_of_a_copy_that_is_removed(path: Path) -> None:
    neighbour = path.with_name("copy.duckdb-notes")
    names = ["copy.duckdb", "copy.duckdb.wal", "copy.duckdb.wal.recovery"]
    for file in [neighbour, *(path.with_name(name) for name in names)]:
        file.touch()
    spill_folder(path).mkdir()
    (spill_folder(path) / "0.tmp").touch()

    remove_copy(path)
    remove_copy(path)

    assert list(path.parent.iterdir()) == [neighbour]
