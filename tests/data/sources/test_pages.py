"""Sources of several pages, followed in all four ways."""

import asyncio
import json
from typing import Any

import pytest

from data.sources.fetched import Fetched
from data.sources.pages import with_parameter
from data.sources.source import Header, Method, Paging, PagingKind, Source
from tests.data.sources.fetching import contents, failure, fetched
from tests.fixtures.source_answers import Failing, Paged, as_json, csv, text
from tests.fixtures.source_server import Asked, SourceServer, send, serve_sources

RECORDS = [{"id": f"r{number}", "n": number} for number in range(7)]

WAYS = {
    "link": Paging(PagingKind.LINK_HEADER),
    "url": Paging(PagingKind.NEXT_URL, next_at="/next"),
    "cursor": Paging(PagingKind.CURSOR, next_at="/next", parameter="cursor"),
    "number": Paging(PagingKind.PAGE_NUMBER, parameter="page"),
}


def source(server: SourceServer, by: str, **more: Any) -> Source:
    given = {
        "key": "pages",
        "url": server.url("/pages?team=a"),
        "paging": WAYS[by],
        "records_at": None if by == "link" else "/items",
    }
    return Source(**{**given, **more})


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("size", [2, 7, 100])
async def test_all_pages_are_read(source_server: SourceServer, by: str, size: int) -> None:
    source_server.at("/pages", Paged(RECORDS, size, by))

    result = await fetched(source(source_server, by))

    assert isinstance(result, Fetched)
    assert list(result.records) == [f"r{number}" for number in range(7)]
    assert result.is_complete
    # Page numbers go on until there is a page with nothing.
    assert result.effort.pages == -(-7 // size) + (by == "number")
    assert result.effort.tries == result.effort.pages
    assert result.validators is None


@pytest.mark.parametrize("by", WAYS)
async def test_a_set_that_is_cut_is_not_complete(source_server: SourceServer, by: str) -> None:
    source_server.at("/pages", Paged(RECORDS, 2, by))
    paging = Paging(**{**_fields(WAYS[by]), "max_pages": 2})

    result = await fetched(source(source_server, by, paging=paging))

    assert isinstance(result, Fetched)
    assert list(result.records) == ["r0", "r1", "r2", "r3"]
    assert not result.is_complete


def _fields(paging: Paging) -> dict[str, Any]:
    return {name: getattr(paging, name) for name in paging.__struct_fields__}


async def test_numbers_begin_where_the_source_says(source_server: SourceServer) -> None:
    source_server.at("/pages", Paged(RECORDS, 2, "number"))
    paging = Paging(PagingKind.PAGE_NUMBER, parameter="page", first=3)

    assert list(await contents(source(source_server, "number", paging=paging))) == [
        "r4",
        "r5",
        "r6",
    ]
    assert [asked.query for asked in source_server.asked] == [
        {"team": "a", "page": "3"},
        {"team": "a", "page": "4"},
        {"team": "a", "page": "5"},
    ]


async def test_each_page_has_tries_of_its_own(source_server: SourceServer) -> None:
    pages = Paged(RECORDS, 4, "cursor")
    by_page = {page: Failing(503, 2, pages) for page in (None, "4")}

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await by_page[asked.query.get("cursor")](asked, writer)

    source_server.at("/pages", answer)
    result = await fetched(source(source_server, "cursor"))

    assert isinstance(result, Fetched)
    assert (result.effort.pages, len(result.records)) == (2, 7)
    assert result.effort.tries == 6


async def test_a_failure_on_a_later_page_is_one_of_all(source_server: SourceServer) -> None:
    pages = Paged(RECORDS, 2, "cursor")

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.query.get("cursor") == "4":
            return await send(writer, 404, {})
        return await pages(asked, writer)

    source_server.at("/pages", answer)
    failed = await failure(source(source_server, "cursor"))

    assert "404" in str(failed)
    assert (failed.effort.pages, failed.effort.tries) == (2, 3)


async def test_pages_together_have_one_size(source_server: SourceServer) -> None:
    source_server.at("/pages", Paged(RECORDS, 2, "url"))
    first = len(json.dumps({"items": RECORDS[:2], "next": source_server.url("/pages?cursor=2")}))

    failed = await failure(source(source_server, "url", max_bytes=first + 10))

    assert str(failed) == (f"all pages together are larger than {first + 10} bytes (maxBytes)")
    assert failed.effort.pages == 1


async def test_records_of_several_pages_have_different_ids(source_server: SourceServer) -> None:
    """As of a server that takes no notice of the page's number."""
    source_server.at("/pages", as_json({"items": RECORDS}))

    failed = await failure(source(source_server, "number"))

    assert str(failed) == "record 8 has the id 'r0', which a record before it has, too"


async def test_a_circle_of_pages_ends(source_server: SourceServer) -> None:
    source_server.at("/pages", as_json({"items": [{"id": 1}], "next": "/other"}))
    source_server.at("/other", as_json({"items": [{"id": 2}], "next": "/pages?team=a"}))

    failed = await failure(source(source_server, "url"))

    assert str(failed) == "the next page is one that was read already"
    assert failed.effort.pages == 2


async def test_the_page_that_leads_to_itself_ends(source_server: SourceServer) -> None:
    source_server.at("/pages", as_json({"items": [{"id": 1}], "next": "?team=a"}))

    failed = await failure(source(source_server, "url"))

    assert str(failed) == "the next page is one that was read already"
    assert failed.effort.pages == 1


async def test_a_cursor_that_comes_again_with_nothing_is_the_end(
    source_server: SourceServer,
) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        items = [] if "cursor" in asked.query else RECORDS
        await send(writer, 200, {}, json.dumps({"items": items, "next": "the-end"}).encode())

    source_server.at("/pages", answer)

    result = await fetched(source(source_server, "cursor"))

    assert isinstance(result, Fetched)
    assert (len(result.records), result.effort.pages, result.is_complete) == (7, 2, True)


@pytest.mark.parametrize("cursor", [12, "12", "a b&c=d/ü+"])
async def test_a_cursor_is_sent_as_it_came(source_server: SourceServer, cursor: object) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = {"items": []} if "cursor" in asked.query else {"items": [], "next": cursor}
        await send(writer, 200, {}, json.dumps(body).encode())

    source_server.at("/pages", answer)
    await fetched(source(source_server, "cursor"))

    assert source_server.asked[1].query == {"team": "a", "cursor": str(cursor)}


@pytest.mark.parametrize("end", [None, "", False, {}, []])
async def test_what_is_no_cursor_is_the_end(source_server: SourceServer, end: object) -> None:
    source_server.at("/pages", as_json({"items": RECORDS, "next": end}))

    result = await fetched(source(source_server, "cursor"))

    assert (result.effort.pages, getattr(result, "is_complete", None)) == (1, True)


async def test_secrets_go_to_no_other_origin_by_a_next_url(source_server: SourceServer) -> None:
    headers = (
        Header("Authorization", value="Bearer {}", secret="key"),
        Header("Accept-Language", value="de"),
        Header("X-Team", value="shop"),
    )
    async with serve_sources() as other:
        other.at("/more", as_json({"items": [{"id": 2}], "next": source_server.url("/end")}))
        source_server.at("/end", as_json({"items": [{"id": 3}]}))
        source_server.at("/pages", as_json({"items": [{"id": 1}], "next": other.url("/more")}))

        found = await contents(
            source(source_server, "url", headers=headers), secrets={"key": "s3cret"}
        )

        assert list(found) == ["1", "2", "3"]
        (away,) = other.asked
    first, last = source_server.asked
    assert first.headers["authorization"] == last.headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(away)
    assert "x-team" not in away.headers
    assert away.headers["accept-language"] == "de"


async def test_a_body_goes_to_no_other_origin_by_a_next_url(source_server: SourceServer) -> None:
    async with serve_sources() as other:
        source_server.at("/pages", as_json({"items": [], "next": other.url("/more")}))

        failed = await failure(source(source_server, "url", method=Method.POST, body="{}"))

        assert "leads a POST on to" in str(failed)
        assert other.asked == []


@pytest.mark.parametrize(
    ("following", "message"),
    [
        ("file:///etc/passwd", "only http:// and https:// addresses are called"),
        ("http://u:p@127.0.0.1/", "the address on 127.0.0.1 has a user name or password in it"),
        ("http://[", "what leads to the next page is no URL"),
        ("/" + "x" * 9_000, "the URL of the next page is too long"),
    ],
)
async def test_a_next_url_leads_to_http_alone(
    source_server: SourceServer, following: str, message: str
) -> None:
    source_server.at("/pages", as_json({"items": [], "next": following}))

    assert str(await failure(source(source_server, "url"))) == message


async def test_pages_by_a_field_need_json(source_server: SourceServer) -> None:
    source_server.at("/pages", csv(["id", "1"]))

    failed = await failure(source(source_server, "url", records_at=None))

    assert str(failed) == "the next page is looked for in JSON, but the answer is none"


async def test_csv_has_pages_by_number_and_by_link(source_server: SourceServer) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        page = int(asked.query["page"])
        lines = ["id,n", *(f"{page}-{row},x" for row in range(2) if page < 3)]
        await send(writer, 200, {"content-type": "text/csv"}, "\n".join(lines).encode())

    source_server.at("/pages", answer)

    found = await contents(source(source_server, "number", records_at=None))

    assert list(found) == ["1-0", "1-1", "2-0", "2-1"]


async def test_a_page_that_is_no_list_of_records_is_told(source_server: SourceServer) -> None:
    source_server.at("/pages", text('{"items": null}'))

    failed = await failure(source(source_server, "cursor"))

    assert str(failed) == "what is at '/items' is not a list of records"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.example/x", "http://a.example/x?page=2"),
        ("http://a.example/x?", "http://a.example/x?page=2"),
        ("http://a.example/x?page=1", "http://a.example/x?page=2"),
        ("http://a.example/x?a=%20+b&page=1&c", "http://a.example/x?a=%20+b&c&page=2"),
        ("http://a.example/x?pag%65=1&pages=7", "http://a.example/x?pages=7&page=2"),
    ],
)
def test_a_parameter_takes_the_place_of_its_namesakes(url: str, expected: str) -> None:
    assert with_parameter(url, "page", "2") == expected


def test_names_and_values_of_parameters_are_escaped() -> None:
    assert with_parameter("http://a.example", "page[at]", "a&b=c#d") == (
        "http://a.example?page%5Bat%5D=a%26b%3Dc%23d"
    )
