"""The choices that a source's definition has, described once for inputs and answers."""

from __future__ import annotations

from data.sources.source import Format, Method, PagingKind
from schema.enums import describe_enum

__all__ = ["Format", "Method", "PagingKind"]

describe_enum(
    Method,
    "How a source is asked.",
    name="SourceMethod",
    GET="By GET.",
    POST="By POST, with a body.",
)
describe_enum(
    Format,
    "What a source answers with.",
    name="SourceFormat",
    AUTO="What the content type of its answer says.",
    JSON="A JSON document.",
    NDJSON="A JSON object on each line.",
    CSV="Comma-separated values, whose first line names the fields.",
)
describe_enum(
    PagingKind,
    "How the next page of a source is found.",
    name="SourcePagingKind",
    LINK_HEADER="The `Link` header of an answer has its URL, as `rel=next`.",
    NEXT_URL="The answer has its URL, at `nextAt`.",
    CURSOR="The answer has a text at `nextAt`, which is sent as `parameter`.",
    PAGE_NUMBER="Pages are numbered: `parameter` counts up until a page has no records.",
)
