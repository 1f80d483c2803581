"""From one page of a source to the next."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urljoin, urlsplit, urlunsplit

from data.sources.extraction import JsonText, NotAsExpected, text_at
from data.sources.source import PagingKind, Source

_MAX_URL_CHARS = 8_192


class Pages:
    """The way through the pages of a source; raises `NotAsExpected` where it leads in a circle."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._paging = source.paging
        self._number = self._paging.first if self._paging else 0
        self.first = self._first()
        self._seen = {self.first}

    def _first(self) -> str:
        if self._paging is None or self._paging.kind is not PagingKind.PAGE_NUMBER:
            return self._source.url
        return with_parameter(self._source.url, self._paging.parameter or "page", str(self._number))

    def following(
        self, url: str, link: str | None, body: JsonText | None, found: int
    ) -> str | None:
        """The URL of the next page; None after the last.

        `url` is where the page was, `link` its `Link: next`, `body` its JSON (None where it is
        not JSON), and `found` how many records were on it.
        """
        following = self._following(url, link, body, found)
        if following is None:
            return None
        if len(following) > _MAX_URL_CHARS:
            raise NotAsExpected("the URL of the next page is too long")
        if following in self._seen:
            # Some say the same cursor again when there is nothing more.
            if not found:
                return None
            raise NotAsExpected("the next page is one that was read already")
        self._seen.add(following)
        return following

    def _following(
        self, url: str, link: str | None, body: JsonText | None, found: int
    ) -> str | None:
        paging = self._paging
        if paging is None:
            return None
        if paging.kind is PagingKind.LINK_HEADER:
            return _joined(url, link) if link else None
        if paging.kind is PagingKind.PAGE_NUMBER:
            self._number += 1
            name = paging.parameter or "page"
            return with_parameter(self._source.url, name, str(self._number)) if found else None
        if body is None:
            raise NotAsExpected("the next page is looked for in JSON, but the answer is none")
        value = text_at(body, paging.next_at or "")
        if value is None:
            return None
        if paging.kind is PagingKind.NEXT_URL:
            return _joined(url, value)
        return with_parameter(self._source.url, paging.parameter or "cursor", value)


def _joined(url: str, following: str) -> str:
    try:
        return urljoin(url, following)
    except ValueError:
        raise NotAsExpected("what leads to the next page is no URL") from None


def with_parameter(url: str, name: str, value: str) -> str:
    """The URL with one parameter set, in place of those of the same name; others stay as written."""
    parts = urlsplit(url)
    kept = [
        pair
        for pair in parts.query.split("&")
        if pair and next(iter(parse_qsl(pair, keep_blank_values=True)), ("",))[0] != name
    ]
    kept.append(f"{quote(name, safe='')}={quote(value, safe='')}")
    return urlunsplit(parts._replace(query="&".join(kept), fragment=""))
