"""JSON, NDJSON and CSV, told apart and taken apart."""

import subprocess
import sys
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.extraction import NotAsExpected, RecordReader, at_pointer, text_at
from data.sources.formats import Page, read_page
from data.sources.source import Format, Source

NUMBERS = ("1", "1.10", "-0.0", "1e300", "1E5", "12345678901234567890123", "0.1000")


def page(body: str | bytes, content_type: str = "application/json", path: str = "/x") -> Page:
    content = body.encode() if isinstance(body, str) else body
    return Page(f"http://a.example{path}", content_type, bytearray(content))


def read(answer: Page, **more: Any) -> dict[str, bytes]:
    source = Source(**{"key": "a", "url": "http://a.example", **more})
    reader = RecordReader(source.id_field, source.max_records)
    read_page(source, answer, reader)
    return {key: one.data for key, one in reader.records.items()}


def problem(answer: Page, **more: Any) -> str:
    with pytest.raises(NotAsExpected) as found:
        read(answer, **more)
    return str(found.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (page('[{"id": "a"}]', "application/json"), "JSON"),
        (page('[{"id": "a"}]', "application/JSON; charset=utf-8"), "JSON"),
        (page('[{"id": "a"}]', "application/vnd.shop.v2+json"), "JSON"),
        (page(' [{"id": "a"}]', "text/plain"), "JSON"),
        (page('\ufeff[{"id": "a"}]', ""), "JSON"),
        (page('[{"id": "a"}]', "", "/x.json"), "JSON"),
        (page('{"id": "a"}\n', "application/x-ndjson"), "NDJSON"),
        (page('{"id": "a"}', "application/jsonl; charset=utf-8"), "NDJSON"),
        (page('{"id": "a"}\n', "text/plain", "/x.NDJSON"), "NDJSON"),
        (page('{"id": "a"}\n', "application/octet-stream", "/x.jsonl"), "NDJSON"),
        (page("id\na\n", "text/csv"), "CSV"),
        (page("id\r\na", "text/csv; header=present"), "CSV"),
        (page("id\ta\n", "text/tab-separated-values"), None),
        (page("id\na\n", "text/plain", "/x.csv"), "CSV"),
    ],
)
def test_the_answer_says_what_it_is(answer: Page, kind: str | None) -> None:
    assert read(answer) == ({"a": b'{"id":"a"}'} if kind else {})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (page("<html>", "text/html; charset=utf-8"), "the answer is a web page (text/html)"),
        (page("<html>", "application/xhtml+xml"), "the answer is a web page"),
        (page("id,a", "text/plain"), "the answer is text/plain; say by the source's format"),
        (page("", ""), "the answer is of no type; say by the source's format"),
        (page("<html>", "application/json"), "the answer is HTML or XML, not JSON"),
        (page("<html>", "text/csv"), "the answer is HTML or XML, not CSV"),
        (page("<html>", "application/x-ndjson"), "line 1: the answer is HTML or XML"),
    ],
)
def test_what_is_none_of_them_is_told(answer: Page, said: str) -> None:
    assert problem(answer).startswith(said)


@pytest.mark.parametrize("kind", list(Format)[1:])
def test_a_source_knows_better_than_its_answer(kind: Format) -> None:
    bodies = {"JSON": '[{"id": "a"}]', "NDJSON": '{"id": "a"}', "CSV": "id\na"}

    answer = page(bodies[kind], "text/html", "/x.xml")

    assert read(answer, format=kind) == {"a": b'{"id":"a"}'}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("way", ["list", "pointer", "query", "lines"])
def test_numbers_keep_their_digits(number: str, way: str) -> None:
    record = f'{{"id":1,"n":{number},"in":[{{"n":{number}}}]}}'
    found = {
        "list": lambda: read(page(f"[{record}]")),
        "pointer": lambda: read(page(f'{{"a":{{"b":[{record}]}}}}'), records_at="/a/b"),
        "query": lambda: read(page(f'{{"a":[{record}]}}'), records_query="a[?id > `0`]"),
        "lines": lambda: read(page(record, "application/x-ndjson")),
    }[way]()

    assert found == {"1": record.encode()}


def test_text_keeps_its_characters_and_loses_only_blanks() -> None:
    body = '[ {"id" : "ü/\\u00fc" ,\n "t": "a\\nb \\"c\\" \\\\ 😀"} ]'

    (data,) = read(page(body)).values()

    assert b"\n" not in data
    assert msgspec.json.decode(data) == {"id": "ü/ü", "t": 'a\nb "c" \\ 😀'}


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, JSON_VALUES, max_size=5))
def test_a_record_is_what_was_sent(fields: dict[str, Any]) -> None:
    fields["id"] = "it"

    (data,) = read(page(msgspec.json.encode([fields]))).values()

    assert msgspec.json.decode(data) == fields


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('[{"id":"a\\u0000b"}]', "record 1 holds a NUL character"),
        ('[{"id":1},{"id":2,"x":{"a\\u0000":1}}]', "record 2 holds a NUL character"),
        ('[{"id":1,"t":"\\ud800"}]', "the answer is not JSON"),
        ('[{"id":1,"n":01}]', "the answer is not JSON"),
        ('[{"id":1,"n":NaN}]', "the answer is not JSON"),
        ('[{"id":1},]', "the answer is not JSON"),
        ('[{"id":1}] x', "the answer is not JSON"),
        ('[{"id":' + "[" * 100_000 + "]" * 100_000 + "}]", "the answer is nested too deeply"),
        ("[" * 100_000, "the answer is nested too deeply"),
        ('[{"id":1.0}]', "the 'id' of record 1 is neither a text nor an integer"),
        ('[{"id":true}]', "the 'id' of record 1 is neither a text nor an integer"),
        ('[{"id":""}]', "record 1 has no 'id'"),
        ('[{"id":"' + "x" * 501 + '"}]', "the id of record 1 is longer than 500 characters"),
        ('[[{"id":1}]]', "record 1 is not an object"),
        ("null", "the answer is not a list of records"),
        ('{"a":1', "the answer is not JSON"),
    ],
)
def test_what_cannot_be_kept_is_named(body: str, said: str) -> None:
    assert problem(page(body)).startswith(said)


def test_a_backslash_before_a_u_is_no_nul() -> None:
    assert list(read(page('[{"id":"\\\\u0000"}]'))) == ["\\u0000"]


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", '{"a":[{"b":[7]}],"":2,"x/y":3,"m~n":4,"q\\"q":5}'),
        ("/a", '[{"b":[7]}]'),
        ("/a/0/b/0", "7"),
        ("/a/1", None),
        ("/a/-", None),
        ("/a/b", None),
        ("/a/0/b/0/c", None),
        ("/", "2"),
        ("/x~1y", "3"),
        ("/m~0n", "4"),
        ('/q"q', "5"),
        ("/nothing", None),
    ],
)
def test_pointers_lead_where_rfc_6901_says(pointer: str, found: str | None) -> None:
    document = b'{"a":[{"b":[7]}],"":2,"x/y":3,"m~n":4,"q\\"q":5}'

    text = at_pointer(document, pointer)

    assert (None if text is None else bytes(text).decode()) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *(('"x"', "x"), ("12", "12"), ("1.50", "1.50"), ('""', None), ("null", None)),
        *(("true", None), ("[]", None), ("{}", None)),
    ],
)
def test_a_cursor_is_a_text_or_a_number(value: str, found: str | None) -> None:
    assert text_at(f'{{"next": {value}}}'.encode(), "/next") == found


@pytest.mark.parametrize("value", ['{"href": "/more"}', '["/more"]'])
def test_a_cursor_that_is_something_else_is_not_the_end(value: str) -> None:
    with pytest.raises(NotAsExpected, match=r"is an? (object|list), not a text"):
        text_at(f'{{"next": {value}}}'.encode(), "/next")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("nothing", "the JMESPath finds nothing in the answer"),
        ("a[0]", "the JMESPath finds something that is not a list in the answer"),
        ("a[].n", "record 1 is not an object"),
        ("a[?n > 'x']", "the JMESPath fails: "),
        ("sum(a)", "the JMESPath fails: "),
        ("no_such(a)", "the JMESPath fails: "),
    ],
)
def test_a_query_that_finds_no_records_is_told(query: str, said: str) -> None:
    assert problem(page('{"a": [{"id": 1, "n": 2}]}'), records_query=query).startswith(said)


def test_lines_that_are_blank_are_passed_over_and_bad_ones_named() -> None:
    good = page('\n{"id": 1}\r\n  \n\n{"id": 2}', "application/x-ndjson")
    bad = page('{"id": 1}\n{"id": 2\n{"id": 3}', "application/x-ndjson")

    assert list(read(good)) == ["1", "2"]
    assert problem(bad).startswith("line 2: the answer is not JSON")


@pytest.mark.parametrize(
    ("body", "records"),
    [
        ("id,name\n1,a\n2,b\n", [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]),
        ("id;name\r\n1;a,b\r\n", [{"id": "1", "name": "a,b"}]),
        ("\ufeffid\tname\n1\t\n", [{"id": "1", "name": ""}]),
        ('id,name\n1,"two\nlines, ""quoted"""\n', [{"id": "1", "name": 'two\nlines, "quoted"'}]),
        (" id , name \n1, a \n\n\n", [{"id": "1", "name": " a "}]),
        ("id\n", []),
    ],
    ids=["plain", "semicolons", "tabs", "quotes", "blanks", "a header alone"],
)
def test_the_header_of_a_csv_names_the_fields(body: str, records: list[dict[str, str]]) -> None:
    found = read(page(body, "text/csv"))

    assert [msgspec.json.decode(data) for data in found.values()] == records


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "the answer is empty"),
        ("id,,name\n", "column 2 of the header has no name"),
        ("id,name,id\n", "two columns of the header are called 'id'"),
        ("id,name\n1\n", "line 2: 1 cells where the header has 2"),
        ("id,name\n1,a\n2,b,c\n", "line 3: 3 cells where the header has 2"),
        ('id,name\n1,"a\n', "line 2: not CSV"),
        ('id,name\n1,"a"b\n', "line 2: not CSV"),
        ("name\na\n", "record 1 has no 'id'"),
        (b"id\n\xff\n", "the answer is not UTF-8"),
    ],
)
def test_a_csv_that_is_none_is_told_by_its_line(body: str | bytes, said: str) -> None:
    assert problem(page(body, "text/csv")).startswith(said)


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("iso-8859-1", "latin-1"),
        ("Windows-1252", "cp1252"),
        ("UTF-16", "utf-16"),
        ("utf-8", "utf8"),
    ],
)
def test_other_character_sets_are_read_where_they_are_named(charset: str, codec: str) -> None:
    answer = page("id,name\n1,Grüße\n".encode(codec), f'text/csv; charset="{charset}"')

    assert read(answer) == {"1": '{"id":"1","name":"Grüße"}'.encode()}


def test_what_is_for_json_is_for_nothing_else() -> None:
    answer = page("id\n1", "text/csv")

    assert "recordsAt and recordsQuery are for JSON" in problem(answer, records_at="/a")
    assert "recordsAt and recordsQuery are for JSON" in problem(answer, records_query="a")


MARKS = b'{ } [ ] , : " \\ \\u00 1 - .5e "id" "a" "id":1 {"id":"x"} {"a":[ null true \xff id'
PIECES = st.sampled_from([*MARKS.split(b" "), b"\n", b" ", b"\xef\xbb\xbf"])
BODIES = st.lists(PIECES | st.binary(max_size=3), max_size=40).map(b"".join)


@given(
    body=BODIES,
    kind=st.sampled_from(list(Format)),
    content_type=st.sampled_from(["", "application/json", "text/csv; charset=utf-16", "text/x"]),
    place=st.sampled_from([{}, {"records_at": "/a/0"}, {"records_query": "a[].b || @"}]),
    id_field=st.sampled_from(["id", "/a/b", "/0"]),
)
def test_whatever_comes_is_records_or_told(
    body: bytes, kind: Format, content_type: str, place: dict[str, Any], id_field: str
) -> None:
    with suppress(NotAsExpected):
        found = read(page(body, content_type), format=kind, id_field=id_field, **place)
        assert all(isinstance(msgspec.json.decode(data), dict) for data in found.values())


HOSTILE = {
    "empty objects": "b'[' + b'{},' * 10_000_000 + b'{}]'",
    "numbers": "b'[' + b'1,' * 15_000_000 + b'1]'",
    "empty lines": "b'\\n' * 30_000_000",
    "fields beside the list": "b'{' + b'\"abcd\":1,' * 3_500_000 + b'\"items\": []}'",
    "commas": "b'id' + b',' * 30_000_000",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("records_query", [None, "items"])
def test_memory_is_bounded_whatever_comes(body: str, records_query: str | None) -> None:
    """Some 30 MB of the worst take a few times as much, in a process of their own."""
    script = f"""
import resource
from data.sources.extraction import NotAsExpected
from tests.data.sources.test_formats import page, read
body = {body}
kind = "text/csv" if body[:1] == b"i" else "application/json"
kind = "application/x-ndjson" if body[:1] == b"\\n" else kind
answer = page(body, kind)
del body
where = {{}}
if kind == "application/json":
    where = {{"records_query": "items"}} if {records_query!r} else {{}}
if answer.body[:1] == b"{{" and not where:
    where = {{"records_at": "/items"}}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read(answer, **where)
except NotAsExpected as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert int(done.stdout.split()[-1]) < 400, done.stdout
