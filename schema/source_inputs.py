"""Sources as they are to be: what `saveSource` takes."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry import ID, UNSET

from data.sources.source import Header, Paging, Source
from schema.source_enums import Format, Method, PagingKind


@strawberry.input
class SourceHeaderInput:
    """A header to send: with a value in the open, or with one from the secret store."""

    name: str = strawberry.field(description="The header's name.")
    value: str | None = strawberry.field(
        description=(
            "Its value. With `secret`, `{}` in it stands for the secret, as in `Bearer {}`."
        ),
    )
    secret: str | None = strawberry.field(
        description="The name of a secret, set by `footfall secrets set NAME`.",
    )


@strawberry.input
class SourcePagingInput:
    """How the pages of a source are followed."""

    kind: PagingKind = strawberry.field(description="How the next page is found.")
    next_at: str | None = strawberry.field(
        description="JSON Pointer to the next URL or cursor in an answer: NEXT_URL and CURSOR.",
    )
    parameter: str | None = strawberry.field(
        description="The query parameter that takes it: CURSOR and PAGE_NUMBER.",
    )
    first: int | None = strawberry.field(
        default=1, description="The number of the first page: PAGE_NUMBER."
    )
    max_pages: int | None = strawberry.field(
        default=100,
        description=(
            "The most pages that one refresh fetches. Where there are more, no record vanishes."
        ),
    )


@strawberry.input
class SourceInput:
    """A source as it is to be, as a whole: what is left out has its default.

    Where there is no source of this key, one is made.
    """

    key: str = strawberry.field(
        description="1 to 64 letters, digits, `.`, `_` and `-`; begins with a letter or a digit."
    )
    url: str = strawberry.field(description="An address with http or https; of pages, the first.")
    enabled: bool | None = strawberry.field(
        default=True, description="Whether it is fetched at all."
    )
    refresh_seconds: int | None = strawberry.field(
        default=600, description="The time from one refresh to the next, where there is no `cron`."
    )
    records_at: str | None = strawberry.field(
        description=(
            "JSON Pointer to the list of records, such as `/data/items`; the whole document where "
            "it is left out."
        )
    )
    id_field: str = strawberry.field(
        default="id",
        description=(
            "The field of a record that identifies it, or a JSON Pointer to it, which begins "
            "with a slash."
        ),
    )
    site_id: ID | None = strawberry.field(
        description=(
            "The site whose keys may read it; keys for all sites alone where it is left out."
        ),
    )
    cron: str | None = strawberry.field(
        description="When to refresh it, as the five fields of a crontab line.",
    )
    timezone: str | None = strawberry.field(
        default="UTC", description="IANA name of the time zone of `cron`."
    )
    method: Method | None = strawberry.field(default=Method.GET, description="How it is asked.")
    body: str | None = strawberry.field(description="What to send by POST; it is not shown again.")
    headers: list[SourceHeaderInput] | None = strawberry.field(
        description="Headers to send; their values are not shown again."
    )
    format: Format | None = strawberry.field(
        default=Format.AUTO, description="What it answers with."
    )
    records_query: str | None = strawberry.field(
        description="JMESPath that gives the list of records, in place of `recordsAt`.",
    )
    paging: SourcePagingInput | None = strawberry.field(
        description="How to follow its pages; one page alone where it is left out."
    )
    min_records: int | None = strawberry.field(
        default=0, description="A refresh with fewer records fails."
    )
    max_records: int | None = strawberry.field(
        default=100_000, description="A refresh with more records fails."
    )
    max_bytes: int | None = strawberry.field(
        default=32 * 1024 * 1024,
        description="A refresh with more bytes fails: all pages together, decompressed.",
    )
    timeout_seconds: float | None = strawberry.field(
        default=10.0, description="The longest that one request may take."
    )
    breaker_failures: int | None = strawberry.field(
        default=5, description="After so many failures in a row the breaker opens."
    )
    breaker_seconds: int | None = strawberry.field(
        default=60, description="For so long the breaker stays open."
    )

    def to_source(self) -> Source:
        """The source for the resolver; null counts as left out."""
        given = {
            "site_id": self.site_id,
            "enabled": self.enabled,
            "refresh_seconds": self.refresh_seconds,
            "cron": self.cron,
            "timezone": self.timezone,
            "method": self.method,
            "body": self.body,
            "format": self.format,
            "records_at": self.records_at,
            "records_query": self.records_query,
            "min_records": self.min_records,
            "max_records": self.max_records,
            "max_bytes": self.max_bytes,
            "timeout_seconds": self.timeout_seconds,
            "breaker_failures": self.breaker_failures,
            "breaker_seconds": self.breaker_seconds,
        }
        return Source(
            key=self.key,
            url=self.url,
            id_field=self.id_field,
            headers=tuple(Header(one.name, one.value, one.secret) for one in self.headers or ()),
            paging=None if self.paging is None else _paging(self.paging),
            **_without_nothing(given),
        )


def _paging(sent: SourcePagingInput) -> Paging:
    given = {"first": sent.first, "max_pages": sent.max_pages}
    return Paging(sent.kind, sent.next_at, sent.parameter, **_without_nothing(given))


def _without_nothing(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value not in (None, UNSET)}
