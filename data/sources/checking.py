"""Whether a source can be used, as far as that can be known when it is saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

import jmespath
from jmespath.exceptions import JMESPathError
from jsonpointer import JsonPointer, JsonPointerException

from data.calendar import UnknownZone, zone_of
from data.outbound.addresses import resolve
from data.outbound.failures import OutboundFailed
from data.schedules import InvalidCron, cron_of
from data.secret_errors import SecretMissing
from data.secret_names import check_name
from data.sources.source import Format, Header, Method, Paging, PagingKind, Source

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_URL_CHARS = 2_048
_MAX_QUERY_CHARS = 2_000
_MAX_BODY_BYTES = 64 * 1024
_MAX_VALUE_CHARS = 4_096
_MAX_HEADERS = 20
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_PARAMETER = re.compile(r"[!-~]{1,100}")
# By these a server knows who asks; their values are kept where secrets are.
_SECRET_NAME = re.compile(
    r"authori[sz]ation|cookie|token|secret|passw|credential|signature|session"
    r"|api[-_]?key|access[-_]?key|auth[-_]?key|private[-_]?key|subscription[-_]?key",
    re.IGNORECASE,
)
_OURS = {
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
# Least and most of each number, under its name in SourceInput.
_RANGES = {
    "refreshSeconds": (1, 31 * 24 * 60 * 60),
    "minRecords": (0, 1_000_000),
    "maxRecords": (1, 1_000_000),
    "maxBytes": (1, 256 * 1024 * 1024),
    "timeoutSeconds": (0.1, 120),
    "breakerFailures": (1, 1_000),
    "breakerSeconds": (1, 24 * 60 * 60),
}


class SourceInvalid(Exception):
    """A source that cannot be used: a field as SourceInput has it, and what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def check_source(source: Source) -> None:
    """Raises `SourceInvalid` for the first thing that is wrong; asks nobody."""
    if not _KEY.fullmatch(source.key):
        raise SourceInvalid(
            "key", "a key has 1 to 64 letters, digits, and - _ . after the first of them"
        )
    check_url(source.url)
    _check_numbers(source)
    _check_schedule(source)
    _check_request(source)
    _check_headers(source.headers)
    _check_places(source)
    if source.paging is not None:
        _check_paging(source, source.paging)


async def check_reachable(source: Source, *, allow_private: bool) -> None:
    """Raises `SourceInvalid` where the host of the URL is unknown, or may not be called."""
    parts = urlsplit(source.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        await resolve(parts.hostname or "", port, allow_private=allow_private)
    except OutboundFailed as error:
        raise SourceInvalid("url", str(error)) from None


def check_url(url: str) -> None:
    """Raises `SourceInvalid` unless the text is a URL that a source can have."""
    parts = _parts(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceInvalid("url", "it is not an address such as https://api.example/prices")
    if len(url) > _MAX_URL_CHARS:
        raise SourceInvalid("url", f"it has more than {_MAX_URL_CHARS:,} characters")
    if "@" in parts.netloc:
        raise SourceInvalid(
            "url",
            "it has a user name or password in it; put an Authorization header into the secret "
            "store instead: footfall secrets set NAME",
        )
    if parts.fragment:
        raise SourceInvalid("url", "what follows the # is never sent; leave it out")


def _parts(url: str) -> SplitResult | None:
    """The parts of a URL without blanks and control characters, in ASCII but for its host."""
    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - the property checks
        (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    return parts


def _check_numbers(source: Source) -> None:
    given = {
        "refreshSeconds": source.refresh_seconds,
        "minRecords": source.min_records,
        "maxRecords": source.max_records,
        "maxBytes": source.max_bytes,
        "timeoutSeconds": source.timeout_seconds,
        "breakerFailures": source.breaker_failures,
        "breakerSeconds": source.breaker_seconds,
    }
    for field, value in given.items():
        least, most = _RANGES[field]
        # Not the other way round: there is a number that is neither.
        if not least <= value <= most:
            raise SourceInvalid(field, f"it must be from {least:,} to {most:,}")
    if source.min_records > source.max_records:
        raise SourceInvalid("minRecords", "it is more than maxRecords")


def _check_schedule(source: Source) -> None:
    try:
        zone_of(source.timezone)
    except UnknownZone:
        raise SourceInvalid(
            "timezone", f"{source.timezone[:60]!r} is not a time zone such as Europe/Berlin"
        ) from None
    if source.cron is None:
        return
    try:
        cron_of(source.cron, source.timezone)
    except InvalidCron as error:
        raise SourceInvalid("cron", str(error)) from None


def _check_request(source: Source) -> None:
    if source.body is None:
        return
    if source.method is not Method.POST:
        raise SourceInvalid("body", "only a POST has a body")
    if len(source.body.encode("utf-8", "surrogatepass")) > _MAX_BODY_BYTES:
        raise SourceInvalid("body", f"it has more than {_MAX_BODY_BYTES:,} bytes")
    _check_text("body", source.body)


def _check_headers(headers: tuple[Header, ...]) -> None:
    if len(headers) > _MAX_HEADERS:
        raise SourceInvalid("headers", f"there are more than {_MAX_HEADERS}")
    seen: set[str] = set()
    for header in headers:
        for problem in _problems_of(header):
            raise SourceInvalid("headers", problem)
        if header.name.lower() in seen:
            raise SourceInvalid("headers", f"{header.name} is there twice")
        seen.add(header.name.lower())


def _problems_of(header: Header) -> Iterator[str]:
    name = header.name
    if not _TOKEN.fullmatch(name):
        yield f"{name[:60]!r} is not the name of a header"
    if name.lower() in _OURS:
        yield f"{name} is set by the service itself"
    if header.value is None and header.secret is None:
        yield f"{name} needs a value, or the name of a secret"
    if header.secret is None and _SECRET_NAME.search(name):
        yield (
            f"{name} tells who asks: put it into the secret store (footfall secrets set NAME) "
            "and give the secret's name"
        )
    if header.value is not None:
        yield from _problems_of_value(header)
    if header.secret is not None:
        try:
            check_name(header.secret)
        except SecretMissing as error:
            yield f"{name}: {error}"


def _problems_of_value(header: Header) -> Iterator[str]:
    value = header.value or ""
    if len(value) > _MAX_VALUE_CHARS:
        yield f"the value of {header.name} has more than {_MAX_VALUE_CHARS:,} characters"
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        yield f"the value of {header.name} holds something that no header can"
    if header.secret is not None and "{}" not in value:
        yield f"the value of {header.name} has no {{}}, which the secret would stand for"


def _check_places(source: Source) -> None:
    if source.records_at is not None and source.records_query is not None:
        raise SourceInvalid("recordsQuery", "give recordsAt or recordsQuery, not both")
    for field, given in (("recordsAt", source.records_at), ("recordsQuery", source.records_query)):
        if given is not None and source.format in (Format.CSV, Format.NDJSON):
            raise SourceInvalid(field, f"it is for JSON; each line of {source.format} is a record")
    if source.records_at is not None:
        _check_pointer("recordsAt", source.records_at)
    if source.records_query is not None:
        _check_jmespath(source.records_query)
    if not source.id_field or len(source.id_field) > _MAX_QUERY_CHARS:
        raise SourceInvalid("idField", "it is not the name of a field")
    _check_text("idField", source.id_field)
    if source.id_field.startswith("/"):
        _check_pointer("idField", source.id_field)


def _check_pointer(field: str, pointer: str) -> None:
    try:
        JsonPointer(pointer)
    except JsonPointerException:
        raise SourceInvalid(
            field, f"{pointer[:60]!r} is not a JSON Pointer such as /data/items"
        ) from None
    if len(pointer) > _MAX_QUERY_CHARS:
        raise SourceInvalid(field, f"it has more than {_MAX_QUERY_CHARS:,} characters")
    _check_text(field, pointer)


def _check_jmespath(query: str) -> None:
    if len(query) > _MAX_QUERY_CHARS:
        raise SourceInvalid("recordsQuery", f"it has more than {_MAX_QUERY_CHARS:,} characters")
    _check_text("recordsQuery", query)
    try:
        jmespath.compile(query)
    except (JMESPathError, RecursionError) as error:
        why = str(error).partition("\n")[0]
        raise SourceInvalid("recordsQuery", f"it is not a JMESPath: {why[:200]}") from None


def _check_paging(source: Source, paging: Paging) -> None:
    needs_place = paging.kind in (PagingKind.NEXT_URL, PagingKind.CURSOR)
    needs_parameter = paging.kind in (PagingKind.CURSOR, PagingKind.PAGE_NUMBER)
    if needs_place and paging.next_at is None:
        raise SourceInvalid("paging.nextAt", f"{paging.kind} needs it: a pointer such as /next")
    if needs_place and source.format in (Format.CSV, Format.NDJSON):
        raise SourceInvalid("paging.kind", f"{paging.kind} is for JSON")
    if not needs_place and paging.next_at is not None:
        raise SourceInvalid("paging.nextAt", f"{paging.kind} has no use for it")
    if paging.next_at is not None:
        _check_pointer("paging.nextAt", paging.next_at)
    if needs_parameter and not paging.parameter:
        raise SourceInvalid("paging.parameter", f"{paging.kind} needs it: the name of a parameter")
    if not needs_parameter and paging.parameter is not None:
        raise SourceInvalid("paging.parameter", f"{paging.kind} has no use for it")
    if paging.parameter is not None and not _PARAMETER.fullmatch(paging.parameter):
        raise SourceInvalid("paging.parameter", "it is not the name of a parameter")
    if not 0 <= paging.first <= 1_000_000:
        raise SourceInvalid("paging.first", "it must be from 0 to 1,000,000")
    if not 1 <= paging.max_pages <= 10_000:
        raise SourceInvalid("paging.maxPages", "it must be from 1 to 10,000")


def _check_text(field: str, text: str) -> None:
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
        raise SourceInvalid(field, "it holds a NUL or half a character, which cannot be kept")
