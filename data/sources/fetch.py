"""One fetch of a source: all of its pages, or a failure in plain words; nothing in between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from data.outbound.client import Answer, Call, Outbound, Visit
from data.outbound.failures import OutboundFailed
from data.sources.extraction import NotAsExpected, RecordReader
from data.sources.fetched import Effort, Fetched, FetchFailed, Progress, Unchanged, Validators
from data.sources.formats import Page, read_page
from data.sources.pages import Pages
from data.sources.source import Format, Method, Source
from data.sources.statuses import BadStatus, bad_status

# From here on, taking an answer apart would hold up the loop for some milliseconds.
_THREAD_BYTES = 64 * 1024
_MAX_VALIDATOR_CHARS = 500
_ACCEPTED = {
    Format.AUTO: "application/json, application/x-ndjson, text/csv, */*;q=0.5",
    Format.JSON: "application/json, */*;q=0.5",
    Format.NDJSON: "application/x-ndjson, */*;q=0.5",
    Format.CSV: "text/csv, */*;q=0.5",
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a fetch is. Seconds, but for `tries`, which is for each request.

    `longest_wait`: a source that wants to be left alone for longer is, by giving up.
    """

    tries: int = 3
    first_wait: float = 0.5
    most_between: float = 10.0
    longest_wait: float = 30.0
    whole: float = 300.0


def request_headers(source: Source, secrets: Mapping[str, str]) -> dict[str, str]:
    """The headers of each request, with secrets by name filled in.

    Raises `FetchFailed` where a secret cannot stand in a header.
    """
    headers = {"accept": _ACCEPTED[source.format]}
    if source.body is not None:
        headers["content-type"] = "application/json"
    for header in source.headers:
        value = header.value or ""
        if header.secret is not None:
            secret = secrets[header.secret]
            if not (secret.isascii() and secret.isprintable() and secret == secret.strip()):
                raise FetchFailed(
                    f"the secret {header.secret} holds something that no header can "
                    "(a line break, a blank at an end, an umlaut)"
                )
            value = value.replace("{}", secret) if header.value else secret
        headers[header.name.lower()] = value
    return headers


async def fetch(  # noqa: PLR0913, PLR0917 - a struct of these would have one use
    outbound: Outbound,
    source: Source,
    headers: Mapping[str, str],
    validators: Validators | None,
    progress: Progress,
    now: datetime,
    *,
    pace: Pace | None = None,
) -> Fetched | Unchanged:
    """What the source holds now: every record of every page, or that nothing is new.

    `headers` are those of `request_headers`, `validators` what the last fetch came with.
    `progress` is kept up to date meanwhile. Raises `FetchFailed`.
    """
    pace = pace or Pace()
    run = _Run(source, headers, progress, pace)
    run.begun_at = now
    if validators is not None and is_conditional(source):
        run.conditions = _conditions(validators)
    try:
        async with asyncio.timeout(pace.whole), outbound.visit() as visit:
            return await run.pages(visit)
    except TimeoutError:
        message = f"it was not done within {pace.whole / 60:g} minutes"
        raise FetchFailed(message, effort=run.effort) from None
    except (OutboundFailed, NotAsExpected) as error:
        retry_after = error.retry_after if isinstance(error, BadStatus) else None
        raise FetchFailed(str(error), effort=run.effort, retry_after=retry_after) from None


def is_conditional(source: Source) -> bool:
    """Whether a request can say what is known: of one page, as 304 speaks of one."""
    return source.paging is None and source.method is Method.GET


class _Run:
    """One fetch under way."""

    begun_at: datetime

    def __init__(
        self,
        source: Source,
        headers: Mapping[str, str],
        progress: Progress,
        pace: Pace,
    ) -> None:
        self._source = source
        self._headers = headers
        self._progress = progress
        self._pace = pace
        self._started = monotonic()
        self._status: int | None = None
        # Bytes of the pages that are read.
        self._kept = 0
        self.conditions: Mapping[str, str] = {}

    @property
    def effort(self) -> Effort:
        """What it took until now."""
        done = self._progress
        return Effort(done.tries, done.pages, done.bytes, self._status)

    async def pages(self, visit: Visit) -> Fetched | Unchanged:
        """All pages, one after another."""
        source = self._source
        reader = RecordReader(source.id_field, source.max_records)
        pages = Pages(source)
        most = source.paging.max_pages if source.paging else 1
        url: str | None = pages.first
        validators: Validators | None = None
        while url is not None and self._progress.pages < most:
            answer = await self._ask(visit, url)
            if answer is None:
                return Unchanged(self.effort)
            before = len(reader.records)
            body = await self._read(answer.page, reader)
            self._kept += len(answer.page.body)
            self._progress.pages += 1
            self._progress.records = len(reader.records)
            found = len(reader.records) - before
            url = pages.following(answer.page.url, answer.next_link, body, found)
            validators = answer.validators
        if len(reader.records) < source.min_records:
            raise NotAsExpected(
                f"there are {len(reader.records):,} records, fewer than {source.min_records:,} "
                "(minRecords)"
            )
        return Fetched(
            reader.records,
            is_complete=url is None,
            effort=self.effort,
            validators=validators if is_conditional(source) else None,
        )

    async def _read(self, page: Page, reader: RecordReader) -> bytearray | None:
        if len(page.body) < _THREAD_BYTES:
            return read_page(self._source, page, reader)
        return await asyncio.to_thread(read_page, self._source, page, reader)

    async def _ask(self, visit: Visit, url: str) -> _Answered | None:
        """The answer after up to three tries; None for 304."""
        attempts = AsyncRetrying(
            retry=retry_if_exception(self._may_pass),
            stop=self._is_enough,
            wait=self._wait,
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                return await self._try(visit, url)
        raise AssertionError("tenacity ends by an answer or an exception")

    async def _try(self, visit: Visit, url: str) -> _Answered | None:
        self._progress.tries += 1
        self._status = None
        source = self._source
        call = Call(
            url,
            method=source.method,
            headers={**self._headers, **self.conditions},
            body=None if source.body is None else source.body.encode(),
            home=source.url,
            private=frozenset(one.name.lower() for one in source.headers if one.secret is not None),
            seconds=source.timeout_seconds,
        )
        async with visit.send(call) as answer:
            self._status = answer.status
            if answer.status == 304 and self.conditions:
                return None
            failure = bad_status(answer, urlsplit(url).hostname or "", self._now_about())
            if failure is not None:
                raise failure
            body = await self._body(answer)
            kind = answer.headers.get("content-type", "")
            page = Page(answer.url, kind, body)
            return _Answered(page, answer.next_link, _validators(answer))

    async def _body(self, answer: Answer) -> bytearray:
        """The body; raises `NotAsExpected` as soon as it is larger than the source allows."""
        room = self._source.max_bytes - self._kept
        declared = answer.headers.get("content-length", "")
        is_plain = "content-encoding" not in answer.headers
        if is_plain and declared.isdigit() and int(declared[:20]) > room:
            raise self._too_large()
        body = bytearray()
        async for piece in answer.pieces():
            self._progress.bytes += len(piece)
            if len(body) + len(piece) > room:
                raise self._too_large()
            body += piece
        return body

    def _too_large(self) -> NotAsExpected:
        what = "the answer is" if self._source.paging is None else "all pages together are"
        return NotAsExpected(f"{what} larger than {self._source.max_bytes:,} bytes (maxBytes)")

    def _now_about(self) -> float:
        """The time of the clock, as far as it can be told from when the fetch began."""
        return self.begun_at.timestamp() + monotonic() - self._started

    def _may_pass(self, error: BaseException) -> bool:
        if not isinstance(error, OutboundFailed) or not error.may_pass:
            return False
        return _asked_wait(error) <= self._pace.longest_wait

    def _wait(self, state: RetryCallState) -> float:
        pace = self._pace
        grown = wait_exponential_jitter(
            multiplier=pace.first_wait, max=pace.most_between, jitter=pace.first_wait
        )(state)
        error = state.outcome.exception() if state.outcome else None
        return max(grown, _asked_wait(error))

    def _is_enough(self, state: RetryCallState) -> bool:
        """Whether no other try is made: there were enough, or there is no time for one."""
        ends = self._started + self._pace.whole
        return (
            state.attempt_number >= self._pace.tries or monotonic() + state.upcoming_sleep >= ends
        )


@dataclass(frozen=True, slots=True)
class _Answered:
    page: Page
    next_link: str | None
    validators: Validators | None


def _asked_wait(error: BaseException | None) -> float:
    """How long the source asked to be left alone, in seconds."""
    return (error.retry_after or 0.0) if isinstance(error, BadStatus) else 0.0


def _conditions(validators: Validators) -> dict[str, str]:
    conditions = {}
    if validators.etag is not None:
        conditions["if-none-match"] = validators.etag
    if validators.last_modified is not None:
        conditions["if-modified-since"] = validators.last_modified
    return conditions


def _validators(answer: Answer) -> Validators | None:
    etag, modified = (_kept(answer, name) for name in ("etag", "last-modified"))
    return None if etag is None and modified is None else Validators(etag, modified)


def _kept(answer: Answer, name: str) -> str | None:
    """A header that can be sent back as it came."""
    value = answer.headers.get(name)
    if not value or len(value) > _MAX_VALIDATOR_CHARS or not value.isascii():
        return None
    return value if value.isprintable() else None
