"""CSV: what is read of a good file, and how little a broken row costs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.imports.files import open_rows
from data.imports.rows import TEXT_CHARS, BadRow, Format, ImportFileError, OtherSite, Row
from data.imports.shape import FIELDS
from tests.data.imports.reading import (
    HEADER,
    SITE,
    VISITOR_KEY,
    bad_rows_of,
    events_of,
    read,
    read_text,
    rows_of,
    write_gzip,
)

ID = "f76a251e-8df9-5301-a00a-0e67bbdd4fd4"


def good(count: int, first: int = 0) -> str:
    """Rows that can be read, one line each; their user tells which one it is."""
    return "".join(
        f'e{n},2026-01-31T12:00:00Z,u{n},purchase,"{{""n"": {n}}}"\n'
        for n in range(first, first + count)
    )


def users(readings: list[Any]) -> list[object]:
    return [row.event.get("user_id") for row in rows_of(readings)]


def test_a_row_has_the_fields_of_its_columns(tmp_path: Path) -> None:
    text = HEADER + f'{ID},1997-01-01T12:00:00Z,00001,purchase,"{{""cds"": 1, ""usd"": 11.77}}"\n'

    assert read_text(tmp_path, text) == [
        Row(
            2,
            {
                "event_id": UUID(ID),
                "occurred_at": "1997-01-01T12:00:00Z",
                "user_id": "00001",
                "event_type": "purchase",
                "properties": {"cds": 1, "usd": 11.77},
            },
        )
    ]


def test_columns_come_in_any_order_and_by_all_names_of_an_event(tmp_path: Path) -> None:
    text = (
        "referrer,path,url,session_id,visitor_id,properties,event_type,user_id,occurred_at\n"
        'https://r.example/,/p,https://x.example/p?q=1,s1,v1,"{""a"":[1]}",view,u1,1700000000123\n'
    )

    assert events_of(read_text(tmp_path, text)) == [
        {
            "referrer": "https://r.example/",
            "path": "/p",
            "url": "https://x.example/p?q=1",
            "session_id": "s1",
            "visitor_id": "v1",
            "properties": {"a": [1]},
            "event_type": "view",
            "user_id": "u1",
            "occurred_at": 1700000000123,
        }
    ]


def test_an_empty_cell_is_a_field_without_a_value(tmp_path: Path) -> None:
    assert events_of(read_text(tmp_path, HEADER + ",,,view,\n")) == [{"event_type": "view"}]


def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_the_data(tmp_path: Path) -> None:
    text = "\ufeff" + (HEADER + good(2)).replace("\n", "\r\n")

    readings = read_text(tmp_path, text)

    assert users(readings) == ["u0", "u1"]
    assert [row.event["properties"] for row in rows_of(readings)] == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs_may_stand_between_cells(tmp_path: Path, delimiter: str) -> None:
    text = f'user_id{delimiter}event_type\nu0{delimiter}"a;b\tc,d"\n'

    assert events_of(read_text(tmp_path, text)) == [{"user_id": "u0", "event_type": "a;b\tc,d"}]


def test_a_newline_inside_of_quotes_belongs_to_the_cell(tmp_path: Path) -> None:
    text = HEADER + 'e,,"two\nlines, ""quoted""",view,\n' + good(1)

    readings = read_text(tmp_path, text)

    assert users(readings) == ['two\nlines, "quoted"', "u0"]
    assert [reading.number for reading in readings] == [2, 4]


def test_nul_characters_pass_to_the_pipeline_which_refuses_them(tmp_path: Path) -> None:
    assert users(read_text(tmp_path, HEADER + "e,,a\0b,view,\n")) == ["a\0b"]


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    readings = read_text(tmp_path, "\n" + HEADER + "\n  \r\n" + good(1) + "\n", Format.CSV)

    assert readings == [Row(5, rows_of(readings)[0].event)]


def test_a_last_row_needs_no_newline(tmp_path: Path) -> None:
    assert users(read_text(tmp_path, HEADER + good(2).rstrip("\n"))) == ["u0", "u1"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("e,2026-01-31T12:00:00Z,u,view\n", "4 cells where the header has 5"),
        ("e,2026-01-31T12:00:00Z,u,view,,\n", "6 cells where the header has 5"),
        ("e,,u,view,{broken\n", "properties_json is not JSON: JSON is malformed"),
        (f'e,,u,view,"{"[" * 100_000}"\n', "properties_json is nested too deeply"),
        (f"e,,u,view,{'x' * 200_000}\n", "a cell is longer than 131,072 characters"),
        ('e,,"u"x,view,\n', "not CSV: ',' expected after '\"'"),
        ('e,,"u,view,\n', "not CSV: ',' expected after '\"'"),
        (f'e,,u,{"y" * 2_000_000},"""\n', "longer than 1,024 KiB"),
    ],
)
def test_a_broken_row_costs_itself_alone(tmp_path: Path, broken: str, reason: str) -> None:
    readings = read_text(tmp_path, HEADER + good(3) + broken + good(3, first=3))

    assert users(readings) == ["u0", "u1", "u2", "u3", "u4", "u5"]
    (bad,) = bad_rows_of(readings)
    assert (bad.number, bad.text) == (5, broken[:TEXT_CHARS].rstrip("\n"))
    assert bad.reason.startswith(reason)
    assert "\n" not in bad.reason


def test_invalid_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    text = (HEADER + good(3)).encode().replace(b"u1", b"u\xff\xfe") + "e,,Zoë,view,\n".encode()

    readings = read_text(tmp_path, text)

    assert users(readings) == ["u0", "u2", "Zoë"]
    assert bad_rows_of(readings) == [
        BadRow(3, "not UTF-8", 'e1,2026-01-31T12:00:00Z,u\ufffd\ufffd,purchase,"{""n"": 1}"')
    ]


def test_a_quote_that_is_never_closed_swallows_nothing(tmp_path: Path) -> None:
    # More than the limit of a record follows, without any quote that could end it.
    plain = "".join(f"p{n},2026-01-31T12:00:00Z,u{n},view,\n" for n in range(40_000))
    assert len(plain) > 1024 * 1024

    readings = read_text(tmp_path, HEADER + 'e,,"u,view,\n' + plain)

    assert users(readings) == [f"u{n}" for n in range(40_000)]
    assert bad_rows_of(readings) == [
        BadRow(
            2,
            "a cell is longer than 131,072 characters; maybe a quote is not closed",
            'e,,"u,view,',
        )
    ]


def test_a_quote_left_open_near_the_end_swallows_nothing(tmp_path: Path) -> None:
    plain = "p1,,u1,view,\np2,,u2,view,\n"

    readings = read_text(tmp_path, HEADER + 'e,,"u,view,\n' + plain)

    assert users(readings) == ["u1", "u2"]
    assert bad_rows_of(readings) == [BadRow(2, "a quote is not closed", 'e,,"u,view,')]


def test_a_file_that_leaves_a_quote_open_in_every_line_is_read_to_its_end(tmp_path: Path) -> None:
    # Read as records, any of these goes on to the end of the file.
    text = HEADER + 'x","y\n' * 200_000 + "\n" + good(1)

    readings = read_text(tmp_path, text)

    assert users(readings) == ["u0"]
    assert [bad.number for bad in bad_rows_of(readings)] == list(range(2, 200_002))


def test_a_record_of_two_lines_may_follow_an_open_quote(tmp_path: Path) -> None:
    text = HEADER + 'e,,"u,view,\n' + 'e1,,"u\n1",view,\n' + good(1)

    readings = read_text(tmp_path, text)

    assert users(readings) == ["u\n1", "u0"]
    assert [bad.number for bad in bad_rows_of(readings)] == [2]


def test_a_line_beyond_the_limit_inside_of_an_open_quote_costs_two_rows(tmp_path: Path) -> None:
    long = f"e,,u,{'y' * 3_000_000},\n"

    readings = read_text(tmp_path, HEADER + 'e,,"u,view,\np1,,u1,view,\n' + long + good(1))

    assert users(readings) == ["u1", "u0"]
    assert [bad.number for bad in bad_rows_of(readings)] == [2, 4]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("event_type,colour\n", "a column 'colour', which is no field of an event"),
        ("event_type,\n", "a column ''"),
        ("event_type,event_type\n", "more than one column event_type"),
        ("event_type,eventType\n", "more than one column event_type"),
        ("event_type,properties,properties_json\n", "both properties and properties_json"),
        ("event_id,user_id\n", "the header lacks the column event_type"),
        ('"event_type\n', "the header cannot be read: a quote is not closed"),
        ("", "the file is empty; the first line of a CSV file names its columns"),
    ],
)
def test_a_header_that_would_lose_data_stops_the_import(
    tmp_path: Path, header: str, message: str
) -> None:
    with pytest.raises(ImportFileError) as error:
        read_text(tmp_path, header + "view,1,2\n" if header else "", Format.CSV)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_header_error_names_the_columns_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError) as error:
        read_text(tmp_path, "event_type,colour\n")

    assert all(field in str(error.value) for field in (*FIELDS, "properties_json", "site_id"))


def test_camel_case_columns_and_the_arrival_of_an_export_are_understood(tmp_path: Path) -> None:
    text = "eventType,userId,receivedAt,siteId\nview,u1,2026-01-31T12:00:00Z,shop\n"

    assert events_of(read_text(tmp_path, text)) == [{"event_type": "view", "user_id": "u1"}]


def test_rows_of_other_sites_are_told_apart(tmp_path: Path) -> None:
    text = "event_type,site_id\nview,shop\nview,blog\nview,\n"

    readings = read_text(tmp_path, text)

    assert readings[1] == OtherSite(3, "blog")
    assert [row.number for row in rows_of(readings)] == [2, 4]


def test_a_cut_off_gzip_gives_every_complete_row_and_then_says_so(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "rows.csv.gz", HEADER + good(20_000))
    path.write_bytes(path.read_bytes()[:-5_000])
    rows: list[object] = []

    with pytest.raises(ImportFileError, match="the gzip data end too early, after line") as error:
        rows.extend(iterate(path))

    assert 1_000 < len(rows) < 20_000
    assert rows == read_text(tmp_path, HEADER + good(len(rows)))
    assert f"after line {len(rows) + 1:,}" in str(error.value)
    assert "import it again: rows that are already in are not counted twice" in str(error.value)


def test_an_open_quote_before_the_damage_hides_no_row(tmp_path: Path) -> None:
    plain = "".join(f"p{n},,u{n},view,\n" for n in range(20_000))
    path = write_gzip(tmp_path / "rows.csv.gz", HEADER + 'e,,"u,view,\n' + plain)
    path.write_bytes(path.read_bytes()[:-5_000])
    rows: list[object] = []

    with pytest.raises(ImportFileError):
        rows.extend(iterate(path))

    assert isinstance(rows[0], BadRow)
    assert users(rows) == [f"u{n}" for n in range(len(rows) - 1)]
    assert len(rows) > 1_000


def iterate(path: Path) -> Any:
    with open_rows(path, Format.AUTO, site_id=SITE, visitor_key=VISITOR_KEY) as rows:
        yield from rows


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda text: not text.lstrip("-").isdecimal()
)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=10)
objects = st.dictionaries(st.text(max_size=5), scalars | st.lists(scalars, max_size=3), max_size=4)


@given(
    st.lists(
        st.fixed_dictionaries({name: cells for name in FIELDS if name != "properties"})
        | st.fixed_dictionaries({"event_type": cells}),
        max_size=8,
    ),
    st.lists(objects, min_size=8, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", ";", "\t"]),
)
def test_what_a_csv_writer_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[dict[str, str]],
    properties: list[dict[str, object]],
    newline: str,
    delimiter: str,
) -> None:
    file = io.StringIO(newline="")
    columns = [*(name for name in FIELDS if name != "properties"), "properties_json"]
    writer = csv.DictWriter(
        file, columns, lineterminator=newline, delimiter=delimiter, quoting=csv.QUOTE_ALL
    )
    writer.writeheader()
    for event, held in zip(events, properties, strict=False):
        writer.writerow({**event, "properties_json": json.dumps(held)})

    readings = read_text(tmp_path_factory.mktemp("csv"), file.getvalue(), Format.CSV)

    assert bad_rows_of(readings) == []
    assert events_of(readings) == [
        {name: cell for name, cell in event.items() if cell and name != "event_id"}
        | {"properties": held}
        for event, held in zip(events, properties, strict=False)
    ]


@given(st.lists(st.sampled_from([*'",\n\r;x\t{}\0', "\ud800", "e,,u,view,\n"]), max_size=60))
def test_whatever_a_file_holds_every_line_is_a_row_or_a_bad_row(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    body = "".join(parts).encode("utf-8", "surrogatepass")
    folder = tmp_path_factory.mktemp("csv")

    readings = read_text(folder, HEADER.encode() + body, Format.CSV)

    # A row that spans lines accounts for the lines up to the next one.
    numbers = [reading.number for reading in readings]
    assert numbers == sorted(set(numbers))
    lines = body.split(b"\n")
    whole = [n for n, line in enumerate(lines, 2) if line == b"e,,u,view,"]
    inside_quotes = {
        row.number + more
        for row in rows_of(readings)
        for more in range(1, str(row.event).count("\\n") + 1)
    }
    assert set(whole) <= set(numbers) | inside_quotes
    assert read(folder / "import-file", Format.CSV) == readings
