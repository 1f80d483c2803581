"""What stands in the files, read back by other programs and compared row by row."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.events import Event
from data.exports.layout import (
    FIELDS,
    Compression,
    FileFormat,
    Layout,
    LayoutInvalid,
    Selection,
)
from data.imports.files import open_rows
from data.imports.rows import Format, Row
from data.queries import EventFilter, Field, PropertyFilter, StringFilter
from tests.data.duckdb.examples import make_event
from tests.data.exports.conftest import Exporter, proof_of
from tests.data.exports.readers import LAYOUTS, READERS, as_read, content, expected, read_by

ODD_TEXTS = (
    "",
    " ",
    "null",
    r"\N",
    "#",
    "'",
    '"',
    '""',
    "a,b",
    'a"b,"c"',
    "two\nlines",
    "two\r\nlines",
    "\r",
    "\t\x0b\x1b\x7f\x85",
    "\\",
    '\\"',
    "$path",
    "{}",
    "\u2028\u2029\ufeff",
    "e\u0301 \u00e9 \U0001f468\u200d\U0001f469 \u202e",
    "0012",
    "NaN",
    "x" * 30_000,
)
PROPERTIES = (
    None,
    "{}",
    '{"price":1.10,"big":123456789012345678901234567890,"tiny":1e-300,"huge":1e300}',
    '{"a": [1, 2.50, {"b": null}], "a.b": "\\u00e9\\n\\"", "": {"": []}}',
    '{"text":"' + "y" * 32_000 + '"}',
    '{"list":[' + ",".join(["0"] * 10_000) + "]}",
    '{"emoji":"\U0001f600","escaped":"\\ud83d\\ude00","slash":"\\/"}',
)


def odd_events() -> list[Event]:
    """Every odd text in every field, every kind of properties, odd times."""
    events = []
    for number, (text, properties) in enumerate(itertools.product(ODD_TEXTS, PROPERTIES)):
        at = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC) + timedelta(
            microseconds=number * 50_000
        )
        events.append(
            make_event(
                number,
                at.replace(tzinfo=None).isoformat(),
                event_id=UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128),
                event_type=text or "empty",
                user_id=None if number % 3 else text,
                visitor_id=text,
                session_id=None,
                url=text,
                path=text if number % 2 else None,
                referrer=text,
                properties=properties,
            )
        )
    early, late = "0002-01-01T00:00:00", "9999-12-31T23:59:59.999999"
    return [*events, make_event(1, early), make_event(2, late, properties=PROPERTIES[2])]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: f"{one.format}-{one.compression}")
async def test_each_format_and_compression_gives_every_event_as_it_was_sent(
    exporter: Exporter, layout: Layout
) -> None:
    events = odd_events()
    await exporter.feed(*events[:50])
    await exporter.feed(*events[50:], make_event(9, site_id="other"))

    written = await exporter.write(layout)

    [part] = written.parts
    wanted = [expected(event) for event in events]
    for reader in READERS[layout.format]:
        assert read_by(reader, part.path, layout) == as_read(wanted, reader, layout), reader
    assert part.rows == len(events)
    assert written.tally.taken == written.tally.everything == proof_of(events)
    assert (written.tally.first_at, written.tally.last_at) == (
        events[-2].occurred_at,
        events[-1].occurred_at,
    )


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_optional = st.none() | _texts
_instants = st.datetimes(datetime(2, 1, 1), datetime(9999, 12, 31))
_events = st.builds(
    lambda event_id, at, kind, texts, properties, is_spaced: Event(
        event_id=event_id,
        site_id="site",
        event_type=kind,
        occurred_at=at.replace(tzinfo=UTC),
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        user_id=texts[0],
        visitor_id=texts[1],
        session_id=texts[2],
        url=texts[3],
        path=texts[4],
        referrer=texts[5],
        properties=None
        if properties is None
        else json.dumps(properties, ensure_ascii=is_spaced, indent=1 if is_spaced else None),
    ),
    st.uuids(),
    _instants,
    _texts,
    st.tuples(*[_optional] * 6),
    st.none() | st.dictionaries(_texts, _json, max_size=4),
    st.booleans(),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(events=st.lists(_events, min_size=1, max_size=8), layout=st.sampled_from(LAYOUTS))
async def test_whatever_events_hold_comes_back_from_any_file(
    exporter: Exporter, events: list[Event], layout: Layout
) -> None:
    before = exporter.feed.position
    await exporter.feed(*events)

    written = await exporter.write(layout, Selection("site", before, before + 1))

    [part] = written.parts
    wanted = [expected(event) for event in events]
    if layout.format is FileFormat.JSONL:
        # A line is an event, also where properties were sent on several lines.
        assert content(part.path).count(b"\n") == len(events)
    for reader in READERS[layout.format]:
        assert read_by(reader, part.path, layout) == as_read(wanted, reader, layout), reader


async def test_numbers_stand_in_json_as_they_were_sent(exporter: Exporter) -> None:
    await exporter.feed(make_event(1, properties=PROPERTIES[2]))

    for each in (FileFormat.JSON, FileFormat.JSONL):
        written = await exporter.write(Layout(each, Compression.NONE))
        assert f'"properties":{PROPERTIES[2]}'.encode() in written.parts[0].path.read_bytes()


async def test_a_document_of_json_says_what_it_is(exporter: Exporter) -> None:
    await exporter.feed(
        make_event(1, "2026-01-02T03:04:05.5"), make_event(2, "2026-01-01T00:00:00")
    )

    for compression in Compression:
        written = await exporter.write(Layout(FileFormat.JSON, compression))
        document = json.loads(content(written.parts[0].path))
        assert list(document) == ["export_metadata", "events"]
        about = document["export_metadata"]
        assert str(UUID(about["export_id"])) == about.pop("export_id")
        assert about == {
            "exported_at": "2026-03-05T23:59:58Z",
            "event_count": 2,
            "time_range": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T03:04:05.500000Z"},
        }


async def test_csv_tells_a_missing_value_from_an_empty_text(exporter: Exporter) -> None:
    await exporter.feed(make_event(1, user_id=None, visitor_id=""))

    layout = Layout(FileFormat.CSV, Compression.NONE, ("user_id", "visitor_id"))
    written = await exporter.write(layout)

    assert written.parts[0].path.read_bytes() == (
        b'event_id,"user_id","visitor_id"\r\n00000000-0000-0000-0000-000000000001,,""\r\n'
    )


async def test_parquet_has_proper_types_statistics_and_a_schema_version(
    exporter: Exporter,
) -> None:
    await exporter.feed(*(make_event(number, url="/x") for number in range(1, 10)))

    for compression in Compression:
        written = await exporter.write(Layout(FileFormat.PARQUET, compression))
        file = pyarrow.parquet.ParquetFile(written.parts[0].path)
        types = {field.name: str(field.type) for field in file.schema_arrow}
        assert types == dict.fromkeys(FIELDS, "string") | {
            "occurred_at": "timestamp[us, tz=UTC]",
            "received_at": "timestamp[us, tz=UTC]",
            "properties": "extension<arrow.json>",
        }
        group = file.metadata.row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
        assert {column.path_in_schema for column in columns if column.statistics.has_min_max} >= {
            "event_id",
            "occurred_at",
            "url",
        }
        assert {column.compression for column in columns} == {
            {"NONE": "UNCOMPRESSED"}.get(compression, compression)
        }
        metadata = file.metadata.metadata
        assert metadata[b"footfall_schema_version"] == b"1"
        assert metadata[b"footfall_part"] == b"1"


@pytest.mark.parametrize(
    ("layout", "format"),
    [
        (Layout(FileFormat.CSV, Compression.NONE), Format.CSV),
        (Layout(FileFormat.CSV, Compression.GZIP), Format.AUTO),
        (Layout(FileFormat.JSONL, Compression.NONE), Format.AUTO),
        (Layout(FileFormat.JSONL, Compression.GZIP), Format.JSONL),
        (Layout(FileFormat.PARQUET, Compression.ZSTD), Format.AUTO),
    ],
)
async def test_an_export_can_be_imported_again(
    exporter: Exporter, layout: Layout, format: Format
) -> None:
    events = [one for one in odd_events() if len(one.properties or "") < 32_000]
    await exporter.feed(*events)
    [part] = (await exporter.write(layout)).parts

    with open_rows(part.path, format, site_id="site", visitor_key=b"key") as readings:
        rows = list(readings)

    assert all(isinstance(row, Row) for row in rows)
    found = [_comparable(row.event) for row in rows if isinstance(row, Row)]
    assert found == [_comparable(_fields(event)) for event in events]


def _fields(event: Event) -> dict[str, object]:
    values = expected(event) | {"event_id": event.event_id}
    values["occurred_at"] = event.occurred_at.isoformat()
    if event.properties is not None:
        values["properties"] = json.loads(event.properties)
    return {name: value for name, value in values.items() if name not in ("site_id", "received_at")}


def _comparable(event: dict[str, object]) -> dict[str, object]:
    """Without missing values, as which an import takes empty cells, and with one spelling of time."""
    kept = {name: value for name, value in event.items() if value not in (None, "")}
    return kept | {"occurred_at": datetime.fromisoformat(str(event["occurred_at"]))}


async def test_filter_and_fields_narrow_what_is_written_but_not_what_is_proved(
    exporter: Exporter,
) -> None:
    events = [
        make_event(number, event_type=f"kind-{number % 3}", properties=f'{{"n":{number}}}')
        for number in range(1, 31)
    ]
    await exporter.feed(*events)
    wanted = EventFilter(
        fields=((Field.EVENT_TYPE, StringFilter(eq="kind-1")),),
        negated=EventFilter(properties=(PropertyFilter("n", string=StringFilter(eq="4")),)),
    )
    chosen = [event for event in events if event.event_type == "kind-1" and event.event_id.int != 4]

    for layout in LAYOUTS:
        narrow = Layout(layout.format, layout.compression, ("properties", "event_type"))
        written = await exporter.write(narrow, Selection("site", 0, 1, wanted))
        [part] = written.parts
        rows = [expected(event, ("event_id", "event_type", "properties")) for event in chosen]
        for reader in READERS[layout.format]:
            assert read_by(reader, part.path, narrow) == as_read(rows, reader, narrow)
        assert written.tally.taken == proof_of(chosen)
        assert written.tally.everything == proof_of(events)


def test_layouts_that_cannot_be_are_refused() -> None:
    with pytest.raises(LayoutInvalid, match="there is no field 'ip'"):
        Layout(fields=("event_type", "ip"))
    with pytest.raises(LayoutInvalid, match="listed twice"):
        Layout(fields=("url", "url"))
    with pytest.raises(LayoutInvalid, match="maximum file size"):
        Layout(max_file_bytes=1000)
    assert Layout(fields=("url", "event_type")).fields == ("event_id", "event_type", "url")


def test_the_names_of_files_tell_what_is_in_them(tmp_path: Path) -> None:
    suffixes = {(one.format.value, one.compression.value): one.suffix for one in LAYOUTS}

    assert suffixes["PARQUET", "ZSTD"] == ".parquet"
    assert suffixes["JSONL", "GZIP"] == ".jsonl.gz"
    assert suffixes["CSV", "ZSTD"] == ".csv.zst"
    assert suffixes["JSON", "NONE"] == ".json"
