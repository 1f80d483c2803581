"""Files of the real world: every event of the reference sets, and the log they were made from."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from data.imports.rows import BadRow, OtherSite, Reading
from tests.data.imports.reading import read, rows_of


@pytest.fixture(scope="module")
def apache_log(shared_data: Path) -> list[Reading]:
    return read(shared_data / "apache_access.log.gz", site_id="apache")


def reference_events(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def expected(path: Path) -> dict[str, Any]:
    answers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return answers


@pytest.mark.parametrize("name", ["cdnow", "apache"])
def test_every_event_of_a_reference_set_is_read_as_it_is(shared_data: Path, name: str) -> None:
    path = shared_data / f"{name}.events.jsonl.gz"

    readings = read(path, site_id=name)

    assert [row.event | {"site_id": name} for row in rows_of(readings)] == [
        event | {"event_id": UUID(event["event_id"])} for event in reference_events(path)
    ]
    assert len(readings) == expected(shared_data / f"{name}.expected.json")["events"]


def test_the_same_events_are_read_from_csv_and_json_lines(shared_data: Path) -> None:
    from_csv = rows_of(read(shared_data / "cdnow.csv.gz", site_id="cdnow"))
    from_jsonl = rows_of(read(shared_data / "cdnow.events.jsonl.gz", site_id="cdnow"))

    assert len(from_csv) == 69_659
    assert [row.event for row in from_csv] == [row.event for row in from_jsonl]


def test_a_file_of_five_sites_gives_each_its_own_events(shared_data: Path) -> None:
    path = shared_data / "oss_commits.events.jsonl.gz"
    per_site = expected(shared_data / "oss_commits.expected.json")["per_site"]
    sizes = {site: answers["events"] for site, answers in per_site.items()}
    assert len(sizes) == 5

    for site, size in sizes.items():
        readings = read(path, site_id=site)
        others = Counter(each.site_id for each in readings if isinstance(each, OtherSite))
        assert len(rows_of(readings)) == size
        assert others == Counter({name: each for name, each in sizes.items() if name != site})


def test_the_access_log_gives_the_requests_of_the_reference(
    shared_data: Path, apache_log: list[Reading]
) -> None:
    events = [row.event for row in rows_of(apache_log)]
    reference = reference_events(shared_data / "apache.events.jsonl.gz")
    assert not any(isinstance(reading, BadRow) for reading in apache_log)

    def told(event: dict[str, Any]) -> tuple[object, ...]:
        properties = event["properties"]
        return (
            datetime.fromisoformat(event["occurred_at"]),
            event["event_type"],
            event["url"],
            event.get("path", properties.get("path")),
            event.get("referrer"),
            properties["method"],
            properties["status"],
            properties.get("ua", "-"),
        )

    assert [told(event) for event in events] == [told(event) for event in reference]


def test_the_access_log_tells_the_visitors_of_the_reference_apart(
    shared_data: Path, apache_log: list[Reading]
) -> None:
    ours = [row.event["visitor_id"] for row in rows_of(apache_log)]
    theirs = [
        event["visitor_id"] for event in reference_events(shared_data / "apache.events.jsonl.gz")
    ]

    # The names differ; who is whom does not.
    assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs)) == 1_862


def test_the_access_log_has_an_id_for_every_request(apache_log: list[Reading]) -> None:
    assert len({row.event["event_id"] for row in rows_of(apache_log)}) == 10_000
