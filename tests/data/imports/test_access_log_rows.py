"""Access logs: requests as events, visitors without their addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.imports.rows import BadRow, Format
from tests.data.imports.reading import bad_rows_of, events_of, read, read_text, rows_of

AGENT = "Mozilla/5.0 (X11; Linux x86_64)"


def line(**changes: str) -> str:
    """One line of a log, with its newline; whatever is not given is boring."""
    fields = {
        "address": "203.0.113.9",
        "user": "-",
        "time": "17/May/2015:10:05:03 +0000",
        "request": "GET /page HTTP/1.1",
        "status": "200",
        "size": "512",
        "referrer": "-",
        "agent": AGENT,
    } | changes
    return (
        '{address} - {user} [{time}] "{request}" {status} {size} "{referrer}" "{agent}"\n'
    ).format(**fields)


def event_of(folder: Path, **changes: str) -> dict[str, Any]:
    """The only event of a log of one line."""
    (event,) = events_of(read_text(folder, line(**changes), Format.ACCESS_LOG))
    return event


def test_a_request_is_an_event_with_its_page_and_its_properties(tmp_path: Path) -> None:
    event = event_of(
        tmp_path, request="GET /blog/?flav=rss20 HTTP/1.1", referrer="https://r.example/?q=1"
    )

    assert len(event.pop("visitor_id")) == 16
    assert event == {
        "occurred_at": "2015-05-17T10:05:03+00:00",
        "event_type": "pageview",
        "url": "/blog/?flav=rss20",
        "path": "/blog/",
        "referrer": "https://r.example/?q=1",
        "properties": {"method": "GET", "status": 200, "bytes": 512, "ua": AGENT},
    }


def test_a_dash_is_a_field_without_a_value(tmp_path: Path) -> None:
    event = event_of(tmp_path, size="-", referrer="-", agent="-")

    assert "referrer" not in event
    assert event["properties"] == {"method": "GET", "status": 200}


def test_the_time_keeps_its_offset(tmp_path: Path) -> None:
    event = event_of(tmp_path, time="01/Dec/2025:23:59:59 -0330")

    assert event["occurred_at"] == "2025-12-01T23:59:59-03:30"


@pytest.mark.parametrize(
    ("target", "path", "event_type"),
    [
        ("/", "/", "pageview"),
        ("/page.html", "/page.html", "pageview"),
        ("/style.css?v=2", "/style.css", "asset"),
        ("/a/LOGO.PNG", "/a/LOGO.PNG", "asset"),
        ("/robots.txt", "/robots.txt", "asset"),
        ("/png", "/png", "pageview"),
        ("/a.png/", "/a.png/", "pageview"),
        ("/search?q=a.png", "/search", "pageview"),
        ("/download.jar", "/download.jar", "pageview"),
        ("http://host.example/p?q=1", "/p", "pageview"),
        ("http://host.example", "/", "pageview"),
        ("/with space", "/with space", "pageview"),
    ],
)
def test_pages_and_what_they_are_made_of_are_told_apart(
    tmp_path: Path, target: str, path: str, event_type: str
) -> None:
    event = event_of(tmp_path, request=f"GET {target} HTTP/1.1")

    assert (event["url"], event["path"], event["event_type"]) == (target, path, event_type)


def test_a_request_for_the_server_as_a_whole_has_no_address(tmp_path: Path) -> None:
    event = event_of(tmp_path, request="OPTIONS * HTTP/1.0")

    assert "url" not in event
    assert event["path"] == "*"


def test_a_request_of_the_first_protocol_needs_no_version(tmp_path: Path) -> None:
    assert event_of(tmp_path, request="GET /page")["path"] == "/page"


def test_escaped_quotes_are_part_of_their_field(tmp_path: Path) -> None:
    event = event_of(
        tmp_path,
        request=r"GET /a\"b\" HTTP/1.1",
        agent=r"say \"hi\" \x22there\x22 \\ \xc3\xa9 \xe4 \x00 \t",
        referrer=r"https://r.example/\"x\"",
    )

    assert event["url"] == r"/a\"b\""
    assert event["referrer"] == 'https://r.example/"x"'
    # What is no printable text stays as the server wrote it.
    assert event["properties"]["ua"] == r'say "hi" "there" \ é \xe4 \x00 \t'


def test_bytes_that_are_not_utf8_are_kept_as_servers_write_them(tmp_path: Path) -> None:
    log = line(agent="caf?").encode().replace(b"?", b"\xe9")

    (event,) = events_of(read_text(tmp_path, log, Format.ACCESS_LOG))

    assert event["properties"] == {"method": "GET", "status": 200, "bytes": 512, "ua": r"caf\xe9"}


@pytest.mark.parametrize(
    "changed",
    [
        line().replace("\n", ' "198.51.100.1" 0.004\n'),
        "shop.example:443 " + line(),
        line(user="frank"),
        line(user="John Doe"),
        line().replace("\n", "\r\n"),
        line().replace('"\n', "\n"),
    ],
    ids=["fields behind", "virtual host", "login", "login with a space", "CRLF", "shortened"],
)
def test_what_servers_add_or_cut_off_changes_nothing(tmp_path: Path, changed: str) -> None:
    assert events_of(read_text(tmp_path, changed)) == events_of(read_text(tmp_path, line()))


def test_an_address_may_be_of_any_kind(tmp_path: Path) -> None:
    addresses = ["203.0.113.9", "2001:db8::1", "::1", "host.example"]
    log = "".join(line(address=address) for address in addresses)

    visitors = {event["visitor_id"] for event in events_of(read_text(tmp_path, log))}

    assert len(visitors) == 4


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("nonsense\n", "not a line of the combined log format"),
        (line()[:60] + "\n", "not a line of the combined log format"),
        (line(status="abc"), "not a line of the combined log format"),
        (line(request="-"), "the request is not a method and what it asks for"),
        (line(request=r"\x16\x03\x01"), "the request is not a method and what it asks for"),
        (line(request=""), "the request is not a method and what it asks for"),
        (line(time="17/05/2015 10:05"), "the time is not like 31/Jan/2026:12:00:00 +0000"),
        (line(time="31/Feb/2015:10:05:03 +0000"), "the time does not exist: day is out of range"),
        (line(time="17/Foo/2015:10:05:03 +0000"), "the time is not like 31/Jan/2026"),
        (line(request="x" * 2_000_000), "longer than 1,024 KiB"),
    ],
)
def test_a_broken_line_costs_itself_alone(tmp_path: Path, broken: str, reason: str) -> None:
    readings = read_text(tmp_path, line() + broken + line(), Format.ACCESS_LOG)

    assert [row.number for row in rows_of(readings)] == [1, 3]
    (bad,) = bad_rows_of(readings)
    assert bad.number == 2
    assert bad.reason.startswith(reason)


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::17:9", "1:2:3:4:5:6:7:8"])
def test_a_broken_line_is_shown_without_address_and_login(tmp_path: Path, address: str) -> None:
    lines = [
        line(address=address, user="frank", status="abc", agent=f"for {address}"),
        f"{address} - frank\n",
        f"{address} - frank " + "x" * 2_000_000 + "\n",
    ]

    bad_rows = bad_rows_of(read_text(tmp_path, "".join(lines), Format.ACCESS_LOG))

    assert len(bad_rows) == 3
    assert bad_rows[0].text.startswith('... [17/May/2015:10:05:03 +0000] "GET /page HTTP/1.1" abc')
    assert not any(address in str(bad) or "frank" in str(bad) for bad in bad_rows)


def test_a_last_line_that_is_still_being_written_is_bad(tmp_path: Path) -> None:
    whole = line() + line(request="GET /last HTTP/1.1").rstrip("\n")

    assert len(rows_of(read_text(tmp_path, whole))) == 2
    readings = read_text(tmp_path, whole[:-5])
    assert [row.number for row in rows_of(readings)] == [1]
    assert readings[1] == BadRow(
        2,
        "cut off before its end",
        '... [17/May/2015:10:05:03 +0000] "GET /last HTTP/1.1" 200 512 "-"'
        ' "Mozilla/5.0 (X11; Linux x86',
    )


def visitors_of(folder: Path, log: str, **options: Any) -> list[object]:
    (folder / "access.log").write_text(log)
    return [row.event["visitor_id"] for row in rows_of(read(folder / "access.log", **options))]


def test_a_visitor_is_an_address_with_a_user_agent_on_a_site(tmp_path: Path) -> None:
    log = line() + line(agent="b") + line(address="203.0.113.10") + line(user="x", status="404")

    visitors = visitors_of(tmp_path, log)

    assert len(set(visitors)) == 3
    assert visitors[0] == visitors[3]
    assert visitors_of(tmp_path, log) == visitors
    assert set(visitors_of(tmp_path, log, site_id="blog")).isdisjoint(visitors)


def test_without_the_key_nothing_tells_the_address(tmp_path: Path) -> None:
    visitors = visitors_of(tmp_path, line())
    (row,) = rows_of(read(tmp_path / "access.log"))
    (other,) = rows_of(
        read(tmp_path / "access.log", visitor_key=b"another key of 32 bytes length..")
    )

    assert visitors != [other.event["visitor_id"]]
    # A hash of the line would be found by trying all addresses: the id must need the key, too.
    assert row.event["event_id"] != other.event["event_id"]
    assert "203.0.113.9" not in str(row)


def test_equal_lines_are_different_requests_and_the_same_ones_again(tmp_path: Path) -> None:
    log = line() * 3 + line(status="404")

    ids = [row.event["event_id"] for row in rows_of(read_text(tmp_path, log))]

    assert len(set(ids)) == 4
    assert [row.event["event_id"] for row in rows_of(read_text(tmp_path, log))] == ids


def test_rotated_logs_joined_into_one_have_the_ids_they_had(tmp_path: Path) -> None:
    older = "".join(line(time=f"17/May/2015:10:05:{n:02} +0000") for n in range(30))
    newer = "".join(line(time=f"17/May/2015:10:06:{n:02} +0000") for n in range(30))
    apart = [
        row.event["event_id"] for log in (older, newer) for row in rows_of(read_text(tmp_path, log))
    ]

    joined = [row.event["event_id"] for row in rows_of(read_text(tmp_path, older + newer))]

    assert joined == apart


@given(st.lists(st.sampled_from([*'"[]\\ -:\n/', "GET", "200", "17/May", line()]), max_size=40))
def test_whatever_a_file_holds_every_line_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    log = "".join(parts)

    readings = read_text(tmp_path_factory.mktemp("log"), " " + log, Format.ACCESS_LOG)

    with_content = [n for n, each in enumerate(log.split("\n"), 1) if each.strip()]
    assert [reading.number for reading in readings] == with_content
