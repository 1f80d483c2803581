"""What is told when a source is saved."""

from typing import Any

import pytest

from data.sources.checking import SourceInvalid, check_reachable, check_source
from data.sources.source import Format, Header, Method, Paging, PagingKind, Source

PLAIN: dict[str, Any] = {"key": "prices", "url": "https://api.example/prices"}
NEXT_URL = Paging(PagingKind.NEXT_URL, next_at="/next")

GOOD: dict[str, dict[str, Any]] = {
    "plain": {},
    "a key with all that it may have": {"key": "Shop.prices_2-x"},
    "http": {"url": "http://api.example:8080/prices?a=b&c=%20"},
    "an address": {"url": "http://93.184.215.14/x"},
    "an address by IPv6": {"url": "http://[2606:4700::1]:80/x"},
    "a name with umlauts": {"url": "https://bücher.example/"},
    "cron": {"cron": "*/5 8-18 * * mon-fri", "timezone": "Europe/Berlin"},
    "post": {"method": Method.POST, "body": "{}"},
    "post without a body": {"method": Method.POST},
    "a secret": {"headers": (Header("Authorization", secret="prices-key"),)},
    "a part of a secret": {
        "headers": (Header("Authorization", value="Bearer {}", secret="prices-key"),)
    },
    "an open header": {"headers": (Header("X-Team", value="shop"),)},
    "a pointer": {"records_at": "/data/items", "id_field": "/meta/id"},
    "all of it": {"records_at": ""},
    "a query": {"records_query": "data.items[?active].{id: sku, price: price}"},
    "csv": {"format": Format.CSV, "paging": Paging(PagingKind.PAGE_NUMBER, parameter="page[no]")},
    "links": {"paging": Paging(PagingKind.LINK_HEADER, max_pages=10_000)},
    "urls": {"paging": NEXT_URL},
    "cursors": {"paging": Paging(PagingKind.CURSOR, next_at="/next", parameter="after")},
    "pages from 0": {"paging": Paging(PagingKind.PAGE_NUMBER, parameter="p", first=0)},
    "the ends of numbers": {"refresh_seconds": 1, "min_records": 0, "timeout_seconds": 0.1},
    "the other ends": {"refresh_seconds": 2_678_400, "max_bytes": 268_435_456},
}

BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "no key": ("key", {"key": ""}),
    "a key with blanks": ("key", {"key": "a b"}),
    "a key with a slash": ("key", {"key": "../a"}),
    "a long key": ("key", {"key": "a" * 65}),
    "a key in other letters": ("key", {"key": "größe"}),
    "no url": ("url", {"url": ""}),
    "no scheme": ("url", {"url": "api.example/prices"}),
    "a file": ("url", {"url": "file:///etc/passwd"}),
    "ftp": ("url", {"url": "ftp://api.example/"}),
    "no host": ("url", {"url": "http:///prices"}),
    "a bad port": ("url", {"url": "http://api.example:99999/"}),
    "no port": ("url", {"url": "http://api.example:x/"}),
    "userinfo": ("url", {"url": "https://me:pass@api.example/"}),
    "a user": ("url", {"url": "https://me@api.example/"}),
    "no user": ("url", {"url": "https://@api.example/"}),
    "a fragment": ("url", {"url": "https://api.example/#x"}),
    "a blank": ("url", {"url": "https://api.example/a b"}),
    "a line break": ("url", {"url": "https://api.example/\r\nHost: x"}),
    "a backslash": ("url", {"url": "https://api.example\\@other.example/"}),
    "half an address": ("url", {"url": "http://[::1"}),
    "a long label": ("url", {"url": f"http://{'a' * 64}.example/"}),
    "a long url": ("url", {"url": "https://api.example/" + "a" * 2_048}),
    "an interval of 0": ("refreshSeconds", {"refresh_seconds": 0}),
    "a negative interval": ("refreshSeconds", {"refresh_seconds": -1}),
    "a long interval": ("refreshSeconds", {"refresh_seconds": 2_678_401}),
    "cron": ("cron", {"cron": "every day"}),
    "cron with seconds": ("cron", {"cron": "0 0 * * * *"}),
    "cron that never comes": ("cron", {"cron": "0 0 30 2 *"}),
    "a zone": ("timezone", {"timezone": "Mars/Olympus"}),
    "a zone without cron": ("timezone", {"timezone": ""}),
    "a body of a GET": ("body", {"body": "{}"}),
    "a large body": ("body", {"method": Method.POST, "body": "x" * 65_537}),
    "a NUL in a body": ("body", {"method": Method.POST, "body": "a\0b"}),
    "half a character": ("body", {"method": Method.POST, "body": "\ud800"}),
    "pointer and query": ("recordsQuery", {"records_at": "/a", "records_query": "a"}),
    "a pointer without a slash": ("recordsAt", {"records_at": "data.items"}),
    "a pointer with a bad escape": ("recordsAt", {"records_at": "/a~2"}),
    "a pointer into CSV": ("recordsAt", {"records_at": "/a", "format": Format.CSV}),
    "a query": ("recordsQuery", {"records_query": "data[?"}),
    "an empty query": ("recordsQuery", {"records_query": ""}),
    "a query of NDJSON": ("recordsQuery", {"records_query": "a", "format": Format.NDJSON}),
    "a deep query": ("recordsQuery", {"records_query": "(" * 1_900}),
    "a long query": ("recordsQuery", {"records_query": "a" * 2_001}),
    "no id": ("idField", {"id_field": ""}),
    "a bad id": ("idField", {"id_field": "/a~"}),
    "urls without a place": ("paging.nextAt", {"paging": Paging(PagingKind.NEXT_URL)}),
    "a bad place": ("paging.nextAt", {"paging": Paging(PagingKind.NEXT_URL, next_at="next")}),
    "a place of links": ("paging.nextAt", {"paging": Paging(PagingKind.LINK_HEADER, next_at="/a")}),
    "cursors without a parameter": (
        "paging.parameter",
        {"paging": Paging(PagingKind.CURSOR, next_at="/a")},
    ),
    "pages without a parameter": ("paging.parameter", {"paging": Paging(PagingKind.PAGE_NUMBER)}),
    "a parameter of urls": (
        "paging.parameter",
        {"paging": Paging(PagingKind.NEXT_URL, next_at="/a", parameter="b")},
    ),
    "an odd parameter": (
        "paging.parameter",
        {"paging": Paging(PagingKind.PAGE_NUMBER, parameter="a b")},
    ),
    "urls in CSV": ("paging.kind", {"paging": NEXT_URL, "format": Format.CSV}),
    "no pages": ("paging.maxPages", {"paging": Paging(PagingKind.LINK_HEADER, max_pages=0)}),
    "a negative page": (
        "paging.first",
        {"paging": Paging(PagingKind.PAGE_NUMBER, parameter="p", first=-1)},
    ),
    "negative records": ("minRecords", {"min_records": -1}),
    "no records": ("maxRecords", {"max_records": 0}),
    "more at least than at most": ("minRecords", {"min_records": 5, "max_records": 4}),
    "negative bytes": ("maxBytes", {"max_bytes": -1}),
    "very many bytes": ("maxBytes", {"max_bytes": 268_435_457}),
    "no time": ("timeoutSeconds", {"timeout_seconds": 0}),
    "negative time": ("timeoutSeconds", {"timeout_seconds": -1}),
    "no number": ("timeoutSeconds", {"timeout_seconds": float("nan")}),
    "for ever": ("timeoutSeconds", {"timeout_seconds": float("inf")}),
    "no failures": ("breakerFailures", {"breaker_failures": 0}),
    "no pause": ("breakerSeconds", {"breaker_seconds": 0}),
}

BAD_HEADERS = {
    "no name": Header("", value="a"),
    "a name with a colon": Header("X:Y", value="a"),
    "a name with a line break": Header("X\r\nY", value="a"),
    "neither value nor secret": Header("X-Team"),
    "a line break": Header("X-Team", value="a\r\nX-Other: b"),
    "a NUL": Header("X-Team", value="a\0b"),
    "umlauts": Header("X-Team", value="größe"),
    "blanks at the end": Header("X-Team", value="a "),
    "a long value": Header("X-Team", value="a" * 4_097),
    "no place for the secret": Header("Authorization", value="Bearer", secret="a"),
    "no secret's name": Header("Authorization", secret="-"),
    "ours": Header("Host", value="other.example"),
    "ours, too": Header("content-length", value="5"),
    "a condition": Header("If-None-Match", value="a"),
}

IN_THE_OPEN = (
    "Authorization",
    "authorization",
    "Proxy-Authorization",
    "Cookie",
    "X-Api-Key",
    "apikey",
    "X-Auth-Token",
    "Private-Token",
    "X-Amz-Security-Token",
    "Ocp-Apim-Subscription-Key",
    "X-Password",
    "X-Client-Secret",
)


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD)
def test_a_source_that_can_be_used_is_taken(fields: dict[str, Any]) -> None:
    check_source(Source(**{**PLAIN, **fields}))


@pytest.mark.parametrize(("field", "fields"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_told_by_its_field(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(SourceInvalid) as refused:
        check_source(Source(**{**PLAIN, **fields}))

    assert refused.value.field == field
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_header_that_cannot_be_sent_is_refused(header: Header) -> None:
    with pytest.raises(SourceInvalid) as refused:
        check_source(Source(**PLAIN, headers=(header,)))

    assert refused.value.field == "headers"
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", IN_THE_OPEN)
def test_secrets_are_not_taken_in_the_open(name: str) -> None:
    with pytest.raises(SourceInvalid, match="footfall secrets set NAME") as refused:
        check_source(Source(**PLAIN, headers=(Header(name, value="s3cret"),)))

    assert "s3cret" not in str(refused.value)


def test_a_header_is_given_once_and_there_are_not_too_many() -> None:
    twice = (Header("X-Team", value="a"), Header("x-team", value="b"))
    many = tuple(Header(f"X-{number}", value="a") for number in range(21))

    for headers, said in ((twice, "x-team is there twice"), (many, "there are more than 20")):
        with pytest.raises(SourceInvalid, match=said):
            check_source(Source(**PLAIN, headers=headers))


def test_the_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(SourceInvalid) as refused:
        check_source(Source(key="a", url="https://me:s3cret@api.example/"))

    assert "s3cret" not in str(refused.value)
    assert "footfall secrets set NAME" in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8000/", "127.0.0.1 may not be called: it is not a public address"),
        ("http://localhost/", "localhost is at "),
        ("http://0x7f.1/", "0x7f.1 is at 127.0.0.1, which is not a public address"),
        ("http://2130706433/", "2130706433 is at 127.0.0.1, which is not a public address"),
        ("http://169.254.169.254/latest/", "169.254.169.254 may not be called"),
        ("https://[::1]/", "::1 may not be called"),
        ("https://[::ffff:10.0.0.1]/", "may not be called"),
        ("https://no-such-host.invalid/", "no-such-host.invalid"),
    ],
)
async def test_a_host_is_looked_up_before_a_source_is_saved(url: str, said: str) -> None:
    source = Source(key="a", url=url)
    check_source(source)

    with pytest.raises(SourceInvalid, match=said.replace(".", r"\.")) as refused:
        await check_reachable(source, allow_private=False)

    assert refused.value.field == "url"


async def test_private_hosts_can_be_allowed() -> None:
    await check_reachable(Source(key="a", url="http://localhost:1/"), allow_private=True)
