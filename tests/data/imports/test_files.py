"""Import files as files: formats found out, gzip, progress, and what cannot be opened."""

from __future__ import annotations

import gzip
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.imports.blocks import open_import_file
from data.imports.files import detected_format, open_rows, total_bytes
from data.imports.rows import Format, ImportFileError, Reading
from tests.data.imports.reading import (
    HEADER,
    SITE,
    VISITOR_KEY,
    events_of,
    read,
    read_text,
    write_gzip,
)

JSONL = '{"event_type": "view"}\n'
CSV = "event_type\nview\n"
LOG = '203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "agent"\n'


def read_until_error(path: Path, format: Format = Format.AUTO) -> tuple[list[Reading], str]:
    """What a damaged file gives before its error, and the error."""
    readings: list[Reading] = []
    with (
        open_rows(path, format, site_id=SITE, visitor_key=VISITOR_KEY) as rows,
        pytest.raises(ImportFileError) as error,
    ):
        readings.extend(rows)
    assert "\n" not in str(error.value)
    return readings, str(error.value)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("content", "format"),
    [
        (JSONL, Format.JSONL),
        ("\ufeff\n  " + JSONL, Format.JSONL),
        (CSV, Format.CSV),
        ("\ufeff" + CSV, Format.CSV),
        (HEADER, Format.CSV),
        ("user_id;event_type\n", Format.CSV),
        ('user_id\t"event_type"\n', Format.CSV),
        ("userId,eventType\n", Format.CSV),
        (LOG, Format.ACCESS_LOG),
        ("a broken line\n" + LOG, Format.ACCESS_LOG),
    ],
)
def test_the_format_is_found_out_from_the_content(
    tmp_path: Path, content: str, format: Format, packed: bool
) -> None:
    # The name says nothing and is not asked.
    path = tmp_path / "file.parquet"
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())

    with open_import_file(path) as file:
        assert detected_format(file) is format


def test_parquet_is_found_out_from_its_first_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"event_type": ["view"]}), tmp_path / "file.csv")

    assert events_of(read(tmp_path / "file.csv")) == [{"event_type": "view"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "name it with --format, one of csv, jsonl, parquet, access-log"),
        ("hello", "name it with --format"),
        ('[{"event_type": "view"}]', "begins with a JSON array; write one event a line"),
        ("", "the file is empty"),
        ("\n  \n", "the file is empty"),
        ("\ufeff" + CSV, "the file is UTF-16; save it as UTF-8"),
    ],
)
def test_a_file_of_no_known_format_says_what_to_do(
    tmp_path: Path, content: str, message: str
) -> None:
    encoding = "utf-16" if "UTF-16" in message else "utf-8"

    with pytest.raises(ImportFileError, match=message):
        read_text(tmp_path, content.encode(encoding))


def test_the_format_that_is_named_is_taken(tmp_path: Path) -> None:
    assert read_text(tmp_path, "", Format.JSONL) == []
    assert len(read_text(tmp_path, "hello\n", Format.ACCESS_LOG)) == 1
    with pytest.raises(ImportFileError, match="which is no field of an event"):
        read_text(tmp_path, JSONL, Format.CSV)
    with pytest.raises(ImportFileError, match="the Parquet file cannot be read"):
        read_text(tmp_path, JSONL, Format.PARQUET)


def test_parquet_inside_of_gzip_is_to_be_unpacked_first(tmp_path: Path) -> None:
    for content in (b"PAR1...", b"PAR1\n"):
        with pytest.raises(ImportFileError, match="unpack the file first"):
            read_text(tmp_path, gzip.compress(content))


@pytest.mark.parametrize(
    ("content", "count"), [(JSONL, 40_000), (CSV + "view\n" * 40_000, 1), (LOG, 20_000)]
)
def test_gzip_reads_like_the_file_it_was(tmp_path: Path, content: str, count: int) -> None:
    path = write_gzip(tmp_path / "file", content * count)

    assert read(path) == read_text(tmp_path, content * count)
    assert len(read(path)) >= 20_000


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    # Cut in the middle of lines, with empty members, as tools that append leave them.
    path = write_gzip(
        tmp_path / "file", "", '{"event_', "", 'type": "a"}\n{"event_type"', ':"b"}\n'
    )

    assert events_of(read(path)) == [{"event_type": "a"}, {"event_type": "b"}]


@pytest.mark.parametrize("kept", [1, 5, 12])
def test_a_gzip_that_ends_before_its_first_row_says_so(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x1f\x8b" + gzip.compress(JSONL.encode())[2 : 2 + kept])

    with pytest.raises(ImportFileError, match="the gzip data end too early, after line 0"):
        read(path)


def rows_to_pack(count: int) -> str:
    return "".join(
        f'{{"event_type":"view","user_id":"{n * 7919 % 10007}"}}\n' for n in range(count)
    )


def test_a_cut_off_gzip_gives_all_complete_rows_first(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "file", rows_to_pack(50_000))
    whole = read(path)
    path.write_bytes(path.read_bytes()[:-20_000])

    readings, error = read_until_error(path)

    assert 10_000 < len(readings) < 50_000
    assert readings == whole[: len(readings)]
    assert f"the gzip data end too early, after line {len(readings):,};" in error
    assert "import it again: rows that are already in are not counted twice" in error


def test_a_gzip_that_lost_its_last_bytes_alone_gives_all_rows(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "file", rows_to_pack(5_000))
    path.write_bytes(path.read_bytes()[:-4])

    readings, error = read_until_error(path)

    assert len(readings) == 5_000
    assert "end too early, after line 5,000" in error


@pytest.mark.parametrize("damage", ["middle", "checksum", "rubbish behind"])
def test_a_damaged_gzip_gives_the_rows_before_the_damage(tmp_path: Path, damage: str) -> None:
    path = write_gzip(tmp_path / "file", rows_to_pack(50_000))
    whole = read(path)
    content = bytearray(path.read_bytes())
    match damage:
        case "middle":
            content[len(content) // 2 :] = random.Random(1).randbytes(len(content) // 2)
        case "checksum":
            content[-8] ^= 1
        case _:
            content += b"not gzip"
    path.write_bytes(content)

    readings, error = read_until_error(path)

    assert "the gzip data are damaged after line" in error
    # Bytes after the damage may unpack to rubbish for a while before anybody can tell.
    assert readings[:20_000] == whole[:20_000]
    if damage != "middle":
        assert readings == whole


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_progress_is_counted_in_bytes_on_the_disk(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "file"
    content = rows_to_pack(50_000).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    seen: list[int] = []

    with open_rows(
        path, Format.AUTO, site_id=SITE, visitor_key=VISITOR_KEY, follow_progress=seen.append
    ) as rows:
        for _ in rows:
            pass

    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert 0 < seen[0] < seen[-1] == total_bytes(path) == path.stat().st_size


def test_progress_of_parquet_goes_by_the_share_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "file"
    pq.write_table(pa.table({"event_type": ["view"] * 5_000}), path)
    seen: list[int] = []

    with open_rows(
        path, Format.PARQUET, site_id=SITE, visitor_key=VISITOR_KEY, follow_progress=seen.append
    ) as rows:
        for _ in rows:
            pass

    assert seen[-1] == total_bytes(path)
    assert len(set(seen)) > 2


def test_a_pipe_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(gzip.compress(JSONL.encode() * 9),))
    writer.start()

    assert len(read(path)) == 9

    writer.join()


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    for open_it in (read, total_bytes):
        with pytest.raises(ImportFileError) as error:
            open_it(tmp_path / "nowhere.csv")
        assert (
            str(error.value) == f"{tmp_path}/nowhere.csv cannot be read: No such file or directory"
        )
    with pytest.raises(ImportFileError, match="cannot be read: Is a directory"):
        read(tmp_path)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Files are opened as nobody special meanwhile: the administrator may open any."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(before)


def test_a_file_without_permission_is_one_line(tmp_path: Path, request: Any) -> None:
    path = tmp_path / "secret.csv"
    path.write_text(CSV)
    path.chmod(0)
    request.getfixturevalue("ordinary_user")

    for each in (Format.AUTO, Format.PARQUET):
        with pytest.raises(ImportFileError, match=r"secret\.csv cannot be read: Permission denied"):
            read(path, each)


def test_a_file_is_closed_when_reading_stops_early(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(JSONL * 100_000)
    before = len(list(Path("/proc/self/fd").iterdir()))

    with open_rows(path, Format.AUTO, site_id=SITE, visitor_key=VISITOR_KEY) as rows:
        next(rows)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
