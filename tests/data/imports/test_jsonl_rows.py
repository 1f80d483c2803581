"""JSON lines: one event a line, and every line accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.imports.ids import stable_event_id
from data.imports.rows import TEXT_CHARS, BadRow, Format, OtherSite, Row
from tests.data.imports.reading import SITE, bad_rows_of, events_of, read_text, rows_of

ID = "f76a251e-8df9-5301-a00a-0e67bbdd4fd4"


def test_a_line_is_an_event_with_the_values_it_has(tmp_path: Path) -> None:
    event = {
        "event_id": ID,
        "occurred_at": 1700000000123,
        "user_id": 7,
        "event_type": ["not checked here"],
        "properties": {"exact": 123456789012345678901234567890, "deep": {"a": [None, 1.5, True]}},
        "unknown": "left for the pipeline",
    }

    assert read_text(tmp_path, json.dumps(event) + "\n") == [Row(1, event | {"event_id": UUID(ID)})]


def test_camel_case_is_understood_for_the_fields_of_an_event_alone(tmp_path: Path) -> None:
    text = (
        '{"eventId": "%s", "occurredAt": 1, "userId": "u", "eventType": "t", "visitorId": "v",'
        ' "sessionId": "s", "receivedAt": 2, "siteId": "shop",'
        ' "properties": {"eventType": "kept", "someName": 1}, "someName": 2}\n'
    )

    assert read_text(tmp_path, text % ID) == [
        Row(
            1,
            {
                "event_id": UUID(ID),
                "occurred_at": 1,
                "user_id": "u",
                "event_type": "t",
                "visitor_id": "v",
                "session_id": "s",
                "properties": {"eventType": "kept", "someName": 1},
                "someName": 2,
            },
        )
    ]


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    readings = read_text(tmp_path, '\n  \r\n{"event_type": "a"}\r\n\n{"event_type": "b"}')

    assert [reading.number for reading in readings] == [3, 5]
    assert events_of(readings) == [{"event_type": "a"}, {"event_type": "b"}]


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path) -> None:
    assert events_of(read_text(tmp_path, '\ufeff{"event_type": "a"}\n')) == [{"event_type": "a"}]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"{broken", "not JSON: JSON is malformed: object keys must be strings (byte 1)"),
        (b'{"event_type": "a"', "not JSON: Input data was truncated"),
        (b'{"event_type": NaN}', "not JSON: JSON is malformed: invalid character (byte 15)"),
        (b'{"event_type": "a"} {}', "not JSON: JSON is malformed: trailing characters (byte 21)"),
        (b'[{"event_type": "a"}]', "not a JSON object: expected `object`, got `array`"),
        (b"null", "not a JSON object: expected `object`, got `null`"),
        (b'{"event_type": "\xff"}', "not UTF-8"),
        (b'{"event_type": "\\ud800x"}', "not JSON: Input data was truncated"),
        (b'{"n": 1e999}', "not JSON: Number out of range"),
        (b'{"n": ' + b"[" * 500_000, "nested too deeply"),
        (b'{"n": "' + b"x" * 1024 * 1024 + b'"}', "longer than 1,024 KiB"),
        (b'{"n": "' + b"x" * 5_000_000 + b'"}', "longer than 1,024 KiB"),
        (b'{"event_id": 1.5}', "event_id is neither a text nor a whole number"),
        (b'{"event_id": true}', "event_id is neither a text nor a whole number"),
        (b'{"event_id": {}}', "event_id is neither a text nor a whole number"),
        (b'{"site_id": 5}', "site_id is not a text"),
        (b'{"userId": "a", "user_id": "b"}', "both userId and user_id are given"),
    ],
)
def test_a_broken_line_costs_itself_alone(tmp_path: Path, broken: bytes, reason: str) -> None:
    line = b'{"event_id": "a", "event_type": "view"}\n'

    readings = read_text(tmp_path, line * 3 + broken + b"\n" + line, Format.JSONL)

    assert [row.number for row in rows_of(readings)] == [1, 2, 3, 5]
    (bad,) = bad_rows_of(readings)
    assert bad.number == 4
    assert bad.reason.startswith(reason)
    assert bad.text == broken[:TEXT_CHARS].decode("utf-8", "replace")


def test_a_line_at_the_limit_is_read(tmp_path: Path) -> None:
    frame = len('{"event_type": ""}\n')
    text = '{"event_type": "%s"}\n' % ("x" * (1024 * 1024 - frame))

    assert len(rows_of(read_text(tmp_path, text * 2))) == 2
    assert len(rows_of(read_text(tmp_path, text.replace("xx", "xxx", 1) * 2))) == 0


def test_a_last_line_needs_no_newline_and_is_bad_when_cut_off(tmp_path: Path) -> None:
    line = '{"event_type": "view"}'

    assert events_of(read_text(tmp_path, f"{line}\n{line}")) == [{"event_type": "view"}] * 2
    readings = read_text(tmp_path, f"{line}\n{line[:-1]}")
    assert events_of(readings) == [{"event_type": "view"}]
    assert readings[1] == BadRow(2, "not JSON: Input data was truncated", line[:-1])


def test_rows_of_other_sites_are_told_apart_with_their_site(tmp_path: Path) -> None:
    text = '{"site_id":"shop"}\n{"site_id":"blog"}\n{"siteId":"news"}\n{"site_id":null}\n'

    readings = read_text(tmp_path, text)

    assert [type(reading) for reading in readings] == [Row, OtherSite, OtherSite, Row]
    assert readings[1:3] == [OtherSite(2, "blog"), OtherSite(3, "news")]


@pytest.mark.parametrize("raw", ["order-17", "17", ID[:-1], "{" + ID + "}", "f7-6a" + ID[4:]])
def test_an_id_that_is_no_uuid_becomes_the_uuid_of_site_and_id(tmp_path: Path, raw: str) -> None:
    (row,) = rows_of(read_text(tmp_path, json.dumps({"event_id": raw})))

    assert row.event["event_id"] == stable_event_id(SITE, raw)


def test_a_whole_number_is_an_id(tmp_path: Path) -> None:
    (row,) = rows_of(read_text(tmp_path, '{"event_id": 17}'))

    assert row.event["event_id"] == stable_event_id(SITE, "17")


@pytest.mark.parametrize("spelled", [ID.upper(), ID.replace("-", "")])
def test_a_uuid_is_the_same_however_it_is_spelled(tmp_path: Path, spelled: str) -> None:
    (row,) = rows_of(read_text(tmp_path, json.dumps({"event_id": spelled})))

    assert row.event["event_id"] == UUID(ID)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
events = st.fixed_dictionaries({"event_type": values, "user_id": values, "properties": values})


@given(st.lists(events, max_size=10), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_what_a_json_writer_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[dict[str, object]],
    ascii_only: bool,
    newline: str,
) -> None:
    text = "".join(json.dumps(event, ensure_ascii=ascii_only) + newline for event in written)

    readings = read_text(tmp_path_factory.mktemp("jsonl"), text, Format.JSONL)

    assert bad_rows_of(readings) == []
    assert events_of(readings) == written
    assert [reading.number for reading in readings] == list(range(1, len(written) + 1))


@given(st.binary(max_size=200) | st.text('{}[]",:\\nu0\n\t1.', max_size=100).map(str.encode))
def test_whatever_a_file_holds_every_line_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    readings = read_text(tmp_path_factory.mktemp("jsonl"), b" " + content, Format.JSONL)

    with_content = [n for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    assert [reading.number for reading in readings] == with_content
