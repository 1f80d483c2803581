"""Media types and encodings: what clients name in their headers, and what they get."""

import pytest

from server.negotiation import (
    EVENT_STREAM,
    HTML,
    JSON,
    RESPONSE,
    MediaType,
    media_type_of,
    preferred,
    takes_gzip,
)

OFFERED = (JSON, RESPONSE, EVENT_STREAM)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"", JSON),
        (b" ", JSON),
        (b"*/*", JSON),
        (b"*", JSON),
        (b"application/*", JSON),
        (b"text/*", EVENT_STREAM),
        (b"application/json", JSON),
        (b"APPLICATION/JSON", JSON),
        (b"application/graphql-response+json", RESPONSE),
        (b"text/event-stream", EVENT_STREAM),
        # What clients really send: Apollo, urql, graphql-request, GraphiQL, browsers, Java.
        (b"application/graphql-response+json,application/json;q=0.9", RESPONSE),
        (
            b"application/graphql-response+json, application/graphql+json, application/json",
            RESPONSE,
        ),
        (b"application/graphql-response+json, application/json, text/event-stream", RESPONSE),
        (b"text/event-stream, multipart/mixed", EVENT_STREAM),
        (b"application/json, multipart/mixed", JSON),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        (b"text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JSON),
        # The quality decides, wherever it stands.
        (b"application/json;q=0.5, application/graphql-response+json;q=0.6", RESPONSE),
        (b"application/json ; q = 0.9 , application/graphql-response+json ; q=0.8", JSON),
        (b"application/json;q=0.5, text/event-stream", EVENT_STREAM),
        # The most specific range speaks for a type, wherever it stands.
        (b"*/*, application/json;q=0.1", RESPONSE),
        (b"application/*;q=0.5, application/json;q=0", RESPONSE),
        (b"application/*;q=0.2, */*;q=0.4", EVENT_STREAM),
        (b"application/json;q=0, */*;q=0.1", RESPONSE),
        # Among equals: named before let in, then earlier before later.
        (b"*/*, application/graphql-response+json", RESPONSE),
        (b"application/json, application/graphql-response+json", JSON),
        (b"application/graphql-response+json, application/json", RESPONSE),
        (b"application/json; charset=utf-8", JSON),
        (b'application/json; charset="UTF-8"', JSON),
        (b"application/json;version=1", JSON),
        (b"text/xml, application/json;q=0.001", JSON),
        (b"text/xml", None),
        (b"application/json;q=0", None),
        (b"*/*;q=0", None),
        (b"application/json; charset=utf-16", None),
        (b"application/json;q=much", None),
        (b"application/json;q=nan", None),
        (b"json", None),
        (b",", None),
        (b"x/y," * 500 + b"application/json", JSON),
        (b"x/y," * 50_000 + b"application/json", None),
    ],
)
def test_the_best_liked_media_type_is_taken(accept: bytes, expected: bytes | None) -> None:
    assert preferred(accept, OFFERED) == expected


def test_a_page_is_for_those_who_want_html_most() -> None:
    offered = (JSON, RESPONSE, HTML)

    assert preferred(b"text/html,application/xhtml+xml,*/*;q=0.8", offered) == HTML
    assert preferred(b"application/json, text/html;q=0.9", offered) == JSON
    assert preferred(b"*/*", offered) == JSON


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        (b"", False),
        (b"identity", False),
        (b"gzip", True),
        (b"GZIP", True),
        (b"x-gzip", True),
        (b"gzip, deflate, br, zstd", True),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        (b"*", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0, *", False),
        (b"*;q=0", False),
        (b"identity, gzip;q=0.5", False),
        (b"br", False),
        (b"br," * 500 + b"gzip", True),
        (b"br," * 50_000 + b"gzip", False),
    ],
)
def test_gzip_is_for_those_who_take_it(accept_encoding: bytes, expected: bool) -> None:
    assert takes_gzip(accept_encoding) is expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/json", MediaType(JSON, b"")),
        (b"Application/JSON ; Charset=UTF-8", MediaType(JSON, b"utf-8")),
        (b'application/json; x=y; charset="utf-8"', MediaType(JSON, b"utf-8")),
        (b"application/json-patch+json", MediaType(b"application/json-patch+json", b"")),
        (b"", MediaType(b"", b"")),
    ],
)
def test_a_content_type_is_read(content_type: bytes, expected: MediaType) -> None:
    assert media_type_of(content_type) == expected
