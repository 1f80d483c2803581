"""Parquet: values as they are, from whatever wrote the file."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.imports.files import open_rows
from data.imports.rows import BadRow, Format, ImportFileError, OtherSite, Reading, Row
from tests.data.imports.reading import SITE, VISITOR_KEY, bad_rows_of, events_of, read, rows_of

ROOT = Path(__file__).resolve().parents[3]
ID = UUID("f76a251e-8df9-5301-a00a-0e67bbdd4fd4")


def write(path: Path, **columns: Any) -> Path:
    """A Parquet file with these columns, and a type for every event."""
    size = len(next(iter(columns.values())))
    types = {} if "event_type" in columns else {"event_type": ["view"] * size}
    pq.write_table(pa.table({**types, **columns}), path)
    return path


def values_of(folder: Path, name: str, values: Any) -> list[object]:
    """What the rows of a file have in a field, None where they lack it."""
    readings = read(write(folder / "values.parquet", **{name: values}))
    assert len(rows_of(readings)) == len(values)
    return [row.event.get(name) for row in rows_of(readings)]


def test_a_row_has_the_fields_of_its_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.parquet",
        event_id=[str(ID), "order-17"],
        occurred_at=["2026-01-31T12:00:00Z", None],
        userId=["u1", None],
        properties_json=['{"a": 1}', None],
        site_id=[SITE, None],
        received_at=[1, 2],
    )

    first, second = rows_of(read(path))

    assert first == Row(
        1,
        {
            "event_type": "view",
            "event_id": ID,
            "occurred_at": "2026-01-31T12:00:00Z",
            "user_id": "u1",
            "properties": {"a": 1},
        },
    )
    assert second.number == 2
    assert set(second.event) == {"event_type", "event_id"}


INSTANT = datetime(2026, 3, 29, 0, 59, 59, 999_999, tzinfo=UTC)
NANOSECONDS = int(INSTANT.timestamp()) * 10**9 + 999_999_999


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([INSTANT], pa.timestamp("us", tz="UTC")), INSTANT.isoformat()),
        (pa.array([INSTANT], pa.timestamp("us", tz="America/Havana")), INSTANT.isoformat()),
        (pa.array([INSTANT.replace(tzinfo=None)], pa.timestamp("us")), INSTANT.isoformat()),
        (pa.array([NANOSECONDS], pa.timestamp("ns")), INSTANT.isoformat()),
        (pa.array([NANOSECONDS], pa.timestamp("ns", tz="Asia/Kathmandu")), INSTANT.isoformat()),
        (pa.array([-1], pa.timestamp("ns")), "1969-12-31T23:59:59.999999+00:00"),
        (pa.array([1_700_000_000_123], pa.timestamp("ms")), "2023-11-14T22:13:20.123000+00:00"),
        (pa.array([date(2026, 1, 31)]), "2026-01-31T00:00:00+00:00"),
        (pa.array([1_700_000_000_123]), 1_700_000_000_123),
        (pa.array(["1700000000123"]), 1_700_000_000_123),
        (pa.array(["31 January"]), "31 January"),
        (pa.array([-62_135_596_800_000_000], pa.timestamp("us")), "0001-01-01T00:00:00+00:00"),
    ],
)  # fmt: skip
def test_a_moment_is_right_to_the_microsecond(
    tmp_path: Path, column: pa.Array, expected: object
) -> None:
    assert values_of(tmp_path, "occurred_at", column) == [expected]


@pytest.mark.parametrize("ticks", [2**63 - 1, -(2**63) + 1, 253_402_300_800_000_000])
def test_a_moment_beyond_the_calendar_costs_its_row_alone(tmp_path: Path, ticks: int) -> None:
    column = pa.array([0, ticks, 0], pa.timestamp("us"))

    readings = read(write(tmp_path / "rows.parquet", occurred_at=column))

    assert [row.number for row in rows_of(readings)] == [1, 3]
    (bad,) = bad_rows_of(readings)
    assert (bad.number, bad.reason) == (2, "the time is outside of the years 1 to 9999")


def test_numbers_in_place_of_texts_are_exact(tmp_path: Path) -> None:
    big = 2**63 - 1

    assert values_of(tmp_path, "user_id", pa.array([big, None])) == [str(big), None]
    assert values_of(tmp_path, "user_id", pa.array([5.0, None])) == ["5", None]
    assert values_of(tmp_path, "visitor_id", pa.array([2**64 - 1], pa.uint64())) == [str(2**64 - 1)]


def test_ids_may_be_uuids_texts_or_numbers(tmp_path: Path) -> None:
    columns = [pa.array([ID.bytes], pa.uuid()), pa.array([str(ID)]), pa.array([17])]

    found = [
        rows_of(read(write(tmp_path / "rows.parquet", event_id=column)))[0].event["event_id"]
        for column in columns
    ]

    assert found[:2] == [ID, ID]
    assert isinstance(found[2], UUID)


def test_nested_values_are_plain_json(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    value = {
        "big": 2**63 - 1,
        "list": [1, None],
        "map": [("k", 1.5)],
        "deep": [{"a": "b"}],
        "moment": moment,
        "moments": [moment],
        "precise": NANOSECONDS,
        "naive": datetime(2026, 1, 31),
        "day": date(2026, 1, 31),
        "clock": time(12, 30),
        "whole": Decimal(12),
        "price": Decimal("12.25"),
        "nan": float("nan"),
        "infinite": float("inf"),
        "text": b"bytes",
        "yes": True,
        "nothing": None,
        "spent": timedelta(seconds=90),
        'TIMESTAMP WITH TIME ZONE "x"': 1,
    }
    types = {
        "big": pa.int64(), "list": pa.list_(pa.int32()), "map": pa.map_(pa.string(), pa.float64()),
        "deep": pa.list_(pa.struct({"a": pa.string()})), "moment": pa.timestamp("us", "UTC"),
        "moments": pa.list_(pa.timestamp("us", "Europe/Berlin")),
        "precise": pa.timestamp("ns", "UTC"), "naive": pa.timestamp("us"), "day": pa.date32(),
        "clock": pa.time64("us"), "whole": pa.decimal128(10, 0), "price": pa.decimal128(10, 2),
        "nan": pa.float64(), "infinite": pa.float64(), "text": pa.binary(),
        "yes": pa.bool_(), "nothing": pa.int8(), "spent": pa.duration("us"),
        'TIMESTAMP WITH TIME ZONE "x"': pa.int8(),
    }  # fmt: skip

    found = values_of(tmp_path, "properties", pa.array([value, None], pa.struct(types)))

    assert found == [
        {
            "big": 2**63 - 1,
            "list": [1, None],
            "map": {"k": 1.5},
            "deep": [{"a": "b"}],
            "moment": "2026-01-31T11:00:00.000001+00:00",
            "moments": ["2026-01-31T11:00:00.000001+00:00"],
            "precise": INSTANT.isoformat(),
            "naive": "2026-01-31T00:00:00+00:00",
            "day": "2026-01-31",
            "clock": "12:30:00",
            "whole": 12,
            "price": 12.25,
            "nan": None,
            "infinite": "inf",
            "text": "bytes",
            "yes": True,
            "nothing": None,
            "spent": 90_000_000,
            'TIMESTAMP WITH TIME ZONE "x"': 1,
        },
        None,
    ]


def test_a_uuid_among_properties_is_text(tmp_path: Path) -> None:
    column = pa.StructArray.from_arrays([pa.array([ID.bytes], pa.uuid())], names=["id"])

    assert values_of(tmp_path, "properties", column) == [{"id": str(ID)}]


def test_properties_may_be_a_map_or_json(tmp_path: Path) -> None:
    as_map = pa.array([[("a", 2**62)]], pa.map_(pa.string(), pa.int64()))
    as_json = pa.array([f'{{"a": {2**70}}}'], pa.json_())

    assert values_of(tmp_path, "properties", as_map) == [{"a": 2**62}]
    assert values_of(tmp_path, "properties", as_json) == [{"a": 2**70}]


def test_bad_values_cost_their_row_alone(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.parquet",
        url=pa.array([b"/ok", b"\xff", b"/ok"]),
        properties=["{}", "{}", "{broken"],
    )

    readings = read(path)

    assert [row.number for row in rows_of(readings)] == [1]
    assert [bad.reason for bad in bad_rows_of(readings)] == [
        "bytes that are not UTF-8 text",
        "properties is not JSON: JSON is malformed: object keys must be strings (byte 1)",
    ]
    assert "view" in bad_rows_of(readings)[0].text


def test_rows_of_other_sites_are_told_apart(tmp_path: Path) -> None:
    readings = read(write(tmp_path / "rows.parquet", site_id=[SITE, "blog"]))

    assert [type(reading) for reading in readings] == [Row, OtherSite]
    assert readings[1] == OtherSite(2, "blog")


def test_columns_that_would_be_lost_stop_the_import(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="a column 'colour', which is no field of an event"):
        read(write(tmp_path / "rows.parquet", colour=["red"]))


def test_a_path_is_neither_a_pattern_nor_data(tmp_path: Path) -> None:
    folder = tmp_path / "year=2026" / "[a-z]* ?'s"
    folder.mkdir(parents=True)
    write(folder / "other.parquet", user_id=["wrong"])
    path = write(folder / "*[x]?.parquet", user_id=["right"])

    assert events_of(read(path)) == [{"event_type": "view", "user_id": "right"}]


def test_row_groups_and_the_order_of_rows_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    users = [f"u{n}" for n in range(12_345)]
    table = pa.table({"event_type": ["view"] * len(users), "user_id": users})
    pq.write_table(table, path, row_group_size=1_000)

    readings = read(path, Format.PARQUET)

    assert [row.event["user_id"] for row in rows_of(readings)] == users
    assert [row.number for row in rows_of(readings)] == list(range(1, 12_346))


def test_a_cut_off_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", user_id=[f"u{n}" for n in range(10_000)])
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(
        ImportFileError, match="cannot be read after row 0: No magic bytes"
    ) as error:
        read(path)

    assert "\n" not in str(error.value)


def test_a_file_damaged_in_the_middle_gives_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    size = 50_000
    table = pa.table({"event_type": ["view"] * size, "user_id": [f"u{n}" for n in range(size)]})
    pq.write_table(table, path, row_group_size=10_000, use_dictionary=False, compression="gzip")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = bytes(2_000)
    path.write_bytes(content)
    readings: list[Reading] = []

    with (
        pytest.raises(ImportFileError, match="cannot be read after row"),
        open_rows(path, Format.AUTO, site_id=SITE, visitor_key=VISITOR_KEY) as rows,
    ):
        readings.extend(rows)

    # What extend took before the error is kept by it.
    assert 10_000 <= len(readings) <= size // 2
    assert events_of(readings[-1:]) == [{"event_type": "view", "user_id": f"u{len(readings) - 1}"}]


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    assert read(write(tmp_path / "rows.parquet", user_id=pa.array([], pa.string()))) == []


# Sampled, since the peak that the system keeps for a process begins with that of its parent.
READ_AND_TELL_GROWTH = """
import sys
from pathlib import Path
import psutil
from data.imports.files import open_rows
from data.imports.rows import Format

process = psutil.Process()
before, sizes, count = process.memory_info().rss, [], 0
with open_rows(Path(sys.argv[1]), Format.AUTO, site_id="s", visitor_key=b"k") as rows:
    for count, _ in enumerate(rows, 1):
        if count % 1_000 == 0:
            sizes.append(process.memory_info().rss)
print(count, (max(sizes) - before) // 1024**2)
"""


def test_a_single_row_group_far_larger_than_the_memory_for_it_is_streamed(tmp_path: Path) -> None:
    path, size = tmp_path / "rows.parquet", 300_000
    table = pa.table(
        {
            "event_id": [str(UUID(int=n)) for n in range(size)],
            "event_type": ["view"] * size,
            "url": [f"/{n:0500}" for n in range(size)],
        }
    )
    pq.write_table(
        table, path, row_group_size=size, compression="none", use_dictionary=["event_type"]
    )
    assert path.stat().st_size > 150_000_000

    # In a process of its own: the driver's memory is not Python's, and its peak never goes down.
    answer = subprocess.run(
        [sys.executable, "-c", READ_AND_TELL_GROWTH, str(path)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip

    count, growth = map(int, answer.stdout.split())
    assert count == size
    assert growth < 100  # MiB


def test_a_bad_row_shows_its_values(tmp_path: Path) -> None:
    (bad,) = read(write(tmp_path / "rows.parquet", user_id=["u"], properties=["{"]))

    assert bad == BadRow(
        1,
        "properties is not JSON: Input data was truncated",
        "{'event_type': 'view', 'user_id': 'u', 'properties': '{'}",
    )
