"""A source as a value: where external data is, how it is fetched, and how often."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Method(StrEnum):
    """How a source is asked."""

    GET = "GET"
    POST = "POST"


class Format(StrEnum):
    """What a source answers with; AUTO goes by the content type of the answer."""

    AUTO = "AUTO"
    JSON = "JSON"
    NDJSON = "NDJSON"
    CSV = "CSV"


class PagingKind(StrEnum):
    """How the next page of a source is found.

    LINK_HEADER: the `Link` header's `next`. NEXT_URL: a URL in the answer. CURSOR: a text in the
    answer, which is sent as a parameter. PAGE_NUMBER: a number that counts up, until a page has no
    records.
    """

    LINK_HEADER = "LINK_HEADER"
    NEXT_URL = "NEXT_URL"
    CURSOR = "CURSOR"
    PAGE_NUMBER = "PAGE_NUMBER"


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A header of a request: a `value` in the open, or the name of a `secret` that holds it.

    With a secret, `{}` in `value` stands for it, so that `Bearer {}` works; all of it otherwise.
    """

    name: str
    value: str | None = None
    secret: str | None = None


class Paging(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to follow pages. `next_at` is a JSON Pointer to the next URL or cursor in an answer.

    `parameter` is the query parameter of the cursor or page number; `first` is the number of the
    first page. No more than `max_pages` are fetched in one refresh.
    """

    kind: PagingKind
    next_at: str | None = None
    parameter: str | None = None
    first: int = 1
    max_pages: int = 100


class Source(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """Where external data is. Made of a draft, a table of SOURCES_FILE or a row of the ledger.

    `site_id`: keys of this site may read it, too; others than those for all sites may not.
    `refresh_seconds` holds where there is no `cron` (five fields, in `timezone`).
    `records_at` is a JSON Pointer, `records_query` a JMESPath; one of them at most is given.
    `id_field` is a field's name, or a JSON Pointer into a record where it begins with a slash.
    Fewer than `min_records`, more than `max_records` or `max_bytes` (decoded, all pages together)
    are a failure, which changes nothing. `timeout_seconds` is for one request.
    The breaker opens after `breaker_failures` failed refreshes in a row, for `breaker_seconds`.
    """

    key: str
    url: str
    site_id: str | None = None
    enabled: bool = True
    refresh_seconds: int = 600
    cron: str | None = None
    timezone: str = "UTC"
    method: Method = Method.GET
    body: str | None = None
    headers: tuple[Header, ...] = ()
    format: Format = Format.AUTO
    records_at: str | None = None
    records_query: str | None = None
    id_field: str = "id"
    paging: Paging | None = None
    min_records: int = 0
    max_records: int = 100_000
    max_bytes: int = 32 * 1024 * 1024
    timeout_seconds: float = 10
    breaker_failures: int = 5
    breaker_seconds: int = 60
