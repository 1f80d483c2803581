"""Ids of rows that bring none: the same again, and different where the rows are."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from data.imports.ids import RowIds, event_id_of, stable_event_id
from data.imports.rows import Format
from tests.data.imports.reading import read_text, rows_of


def ids_of(folder: Path, text: str, format: Format = Format.AUTO, site: str = "shop") -> list[UUID]:
    """The event ids of a file's rows, in order."""
    found = [
        row.event["event_id"] for row in rows_of(read_text(folder, text, format, site_id=site))
    ]
    assert all(isinstance(each, UUID) for each in found)
    return [each for each in found if isinstance(each, UUID)]


def test_the_ids_of_earlier_imports_stay_for_ever(tmp_path: Path) -> None:
    # These values are in ledgers: a change here counts every repeated import twice.
    assert stable_event_id("shop", "order-17") == UUID("2f550259-6754-5259-a376-7bad6682287d")
    assert ids_of(tmp_path, '{"event_type":"a"}\n' * 2) == [
        UUID("3bf7822e-6dc7-597c-8ab7-3185fba7b2ea"),
        UUID("dc691c3e-8a7b-563e-a4dc-77af05ba433c"),
    ]


def test_two_sites_with_the_same_ids_do_not_meet() -> None:
    assert stable_event_id("a", "17") != stable_event_id("b", "17")
    assert stable_event_id("a", "17").version == 5


def test_digits_of_other_scripts_make_no_uuid() -> None:
    arabic = "f76a251e-8df9-5301-a00a-0e67bbdd4fd" + chr(0x664)

    assert event_id_of("shop", arabic) == stable_event_id("shop", arabic)


def test_equal_rows_are_different_events_and_the_same_ones_again(tmp_path: Path) -> None:
    text = '{"event_type":"a"}\n{"event_type":"b"}\n{"event_type":"a"}\n{"event_type":"a"}\n'

    first = ids_of(tmp_path, text)

    assert len(set(first)) == 4
    assert ids_of(tmp_path, text) == first
    assert set(ids_of(tmp_path, text, site="blog")).isdisjoint(first)


def test_a_file_that_has_grown_or_lost_its_broken_rows_keeps_its_ids(tmp_path: Path) -> None:
    lines = [f'{{"event_type":"t{n % 7}","user_id":"u{n % 30}"}}\n' for n in range(500)]
    first = ids_of(tmp_path, "broken\n" + "".join(lines[:400]), Format.JSONL)

    grown = ids_of(tmp_path, "".join(lines))

    assert len(set(grown)) == 500
    assert grown[:400] == first


def test_a_part_of_a_file_gives_ids_that_the_whole_file_has(tmp_path: Path) -> None:
    lines = [f'{{"event_type":"t{n % 7}","user_id":"u{n % 30}"}}\n' for n in range(500)]
    whole = set(ids_of(tmp_path, "".join(lines)))

    assert set(ids_of(tmp_path, "".join(lines[100:300]))) < whole


def test_the_same_events_have_the_same_ids_in_every_format_and_order_of_fields(
    tmp_path: Path,
) -> None:
    jsonl = '{"user_id":"u","event_type":"a","properties":{"y":1,"x":2}}\n' * 2
    camel = '{"properties":{"x":2,"y":1},"eventType":"a","userId":"u","siteId":"shop"}\n' * 2
    table = "event_type,user_id,properties_json,event_id\n" + 'a,u,"{""x"":2,""y"":1}",\n' * 2

    assert ids_of(tmp_path, jsonl) == ids_of(tmp_path, camel) == ids_of(tmp_path, table)


def test_ids_differ_when_the_filter_is_full_and_too_many_rows_are_repeated() -> None:
    # Far below the limits in use, so that every branch is taken some hundred times.
    events: list[dict[str, object]] = [{"event_type": f"t{n % 400}"} for n in range(3_000)]

    def read(count: int) -> list[UUID]:
        row_ids = RowIds("shop", filter_bits=8, max_counted=100)
        return [row_ids.next_id(n, event) for n, event in enumerate(events[:count], 1)]

    first = read(3_000)

    assert len(set(first)) == 3_000
    assert read(3_000) == first
    assert read(1_000) == first[:1_000]
