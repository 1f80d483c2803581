"""GraphiQL for browsers in development: a page, its assets and the examples, all from our disk."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from server.headers import GUARDS
from server.negotiation import takes_gzip
from server.responses import Answer, Header, encode_json, is_known_tag, send_answer

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "web" / "graphiql" / "build"
EXAMPLES = ROOT / "docs" / "examples"

# Scripts, workers and requests are ours or don't happen, and nothing is evaluated. Styles may be
# inline: the editor writes the place of each line into a style attribute. `connect-src 'self'`
# takes in WebSockets of the same host and port.
POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ON_ALL: tuple[Header, ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".ttf": b"font/ttf",
    ".txt": b"text/plain; charset=utf-8",
}
_JSON = b"application/json; charset=utf-8"

# The name of an asset has a hash of what it holds; the other names stay.
_FOR_EVER = b"public, max-age=31536000, immutable"
_ASK_EACH_TIME = b"no-cache"
_KIND = re.compile(r"^(query|mutation|subscription)\b", re.MULTILINE)


class Example(msgspec.Struct, frozen=True):
    """An example operation as the page shows it.

    `title` is the first line of the comment at the head of its document, `about` the others.
    """

    name: str
    kind: str
    title: str
    about: str
    query: str
    variables: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Body:
    """A file as it was read, plain and as gzip, and the name of its state."""

    plain: bytes
    zipped: bytes
    tag: str


@dataclass(slots=True)
class _File:
    """What is at an address. `read` gets it from disk, once; `body` keeps it from then on."""

    read: Callable[[], bytes]
    content_type: bytes
    caching: bytes
    body: _Body | None = None


class GraphiQL:
    """The ASGI app: the page at `/graphql`, and everything that it asks for at `paths`."""

    def __init__(self, build: Path = BUILD, examples: Path = EXAMPLES) -> None:
        self._page = _File((build / "index.html").read_bytes, _TYPES[".html"], _ASK_EACH_TIME)
        self._files: Mapping[str, _File] = {
            f"/graphql/assets/{asset.name}": _File(
                asset.read_bytes, _TYPES[asset.suffix], _FOR_EVER
            )
            for asset in sorted((build / "assets").iterdir())
            if asset.suffix in _TYPES  # and not what a file manager left there
        } | {"/graphql/examples.json": _File(partial(_as_json, examples), _JSON, _ASK_EACH_TIME)}

    @property
    def paths(self) -> Iterable[str]:
        """The paths that it answers, besides that of the API."""
        return self._files.keys()

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        scope[GUARDS] = ()  # a page needs others, which are in its answers already
        if scope["method"] not in ("GET", "HEAD"):
            await send_answer(send, Answer(405, headers=((b"allow", b"GET, HEAD"),)), _ON_ALL)
            return
        file = self._files.get(scope["path"], self._page)
        if file.body is None:
            # A tenth of a second for the largest, and only where somebody looks at the page.
            file.body = await asyncio.to_thread(_read, file)
        await _send(send, file, file.body, dict(scope["headers"]))


def read_examples(folder: Path = EXAMPLES) -> list[Example]:
    """The example operations in a folder, by title; none where there is no such folder."""
    found = [_example(path) for path in folder.glob("*.graphql")]
    return sorted(found, key=lambda example: example.title.casefold())


def _example(path: Path) -> Example:
    query = path.read_text(encoding="utf-8")
    head = query.splitlines()
    comment = [line.removeprefix("#").strip() for line in head[: _comment_lines(head)]]
    kind = _KIND.search(query)
    beside = path.with_suffix(".variables.json")
    return Example(
        name=path.stem,
        kind=kind[1] if kind else "query",
        title=comment[0].rstrip(".") if comment else path.stem,
        about=" ".join(comment[1:]).strip(),
        query=query,
        variables=msgspec.json.decode(beside.read_bytes()) if beside.exists() else None,
    )


def _comment_lines(lines: list[str]) -> int:
    return next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _as_json(folder: Path) -> bytes:
    return encode_json(read_examples(folder))


def _read(file: _File) -> _Body:
    plain = file.read()
    tag = hashlib.sha256(plain).hexdigest()[:16]
    return _Body(plain, gzip.compress(plain, compresslevel=6, mtime=0), tag)


async def _send(send: Send, file: _File, body: _Body, headers: Mapping[bytes, bytes]) -> None:
    zipped = takes_gzip(headers.get(b"accept-encoding", b""))
    etag = f'"{body.tag}-gzip"'.encode() if zipped else f'"{body.tag}"'.encode()
    caching: tuple[Header, ...] = (
        (b"cache-control", file.caching),
        (b"etag", etag),
        (b"vary", b"Accept, Accept-Encoding"),
    )
    if is_known_tag(headers, etag):
        not_modified = [*caching, *_ON_ALL]
        await send({"type": "http.response.start", "status": 304, "headers": not_modified})
        await send({"type": "http.response.body"})
        return
    encoding = ((b"content-encoding", b"gzip"),) if zipped else ()
    answer = Answer(200, body.zipped if zipped else body.plain, file.content_type, caching)
    await send_answer(send, answer, (*encoding, *_ON_ALL))
