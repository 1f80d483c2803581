"""Which text a request means: the one it sends, or one that it names by a hash or an id.

Automatic persisted queries follow Apollo's protocol: a client names a text by its SHA-256, hears
`PersistedQueryNotFound` the first time, and sends both then. Trusted documents are those that the
operator has added; a key of the mode TRUSTED may run no others.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256 as hash_of
from typing import Protocol

import msgspec

from data.persisted import PersistedQueries
from data.postgres.directory import Directory
from data.postgres.engine import LedgerUnavailable
from data.postgres.keys import DocumentsMode
from resolvers.context import Caller
from resolvers.errors import (
    BadUserInput,
    Forbidden,
    PersistedQueryNotFound,
    PersistedQueryNotSupported,
    Unavailable,
)

_HASH = re.compile(r"[0-9a-f]{64}")
_BY_HASH = "sha256:"
_NOT_TRUSTED = (
    "this key takes trusted documents only: ask by documentId, or add the document with "
    "`footfall documents add`"
)


class DocumentStores(Protocol):
    """Where texts are found; `Resources` has both."""

    @property
    def persisted(self) -> PersistedQueries:
        """Texts that were accepted before."""

    @property
    def directory(self) -> Directory:
        """Trusted documents."""


# Both are structs, as every request makes one of each.
class AskedDocument(msgspec.Struct, frozen=True):
    """How a request says what is to be run.

    `persisted` is `extensions.persistedQuery` as it was sent; `document_id` is
    `sha256:<64 lower hex digits>` or the id of a trusted document.
    """

    query: str | None = None
    persisted: object = None
    document_id: str | None = None


class DocumentText(msgspec.Struct, frozen=True):
    """A text to be run.

    `keep` is to be awaited once the text has been parsed and validated; it never raises.
    """

    text: str
    keep: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class _Name:
    """What a request calls its document: a hash of it, or an id that may or may not be one."""

    text: str
    is_hash: bool


async def document_text(
    stores: DocumentStores, caller: Caller, asked: AskedDocument
) -> DocumentText:
    """The text that is meant.

    Raises `PersistedQueryNotFound`, `PersistedQueryNotSupported`, `BadUserInput`, `Forbidden`, or
    `Unavailable` where the ledger is needed and away.
    """
    if caller.documents is DocumentsMode.OFF:
        return _whole(asked)
    name = _name(asked)
    if name is None and asked.query is None:
        raise _nothing_asked()
    try:
        if caller.documents is DocumentsMode.TRUSTED:
            return await _trusted(stores.directory, caller.site_id, asked.query, name)
        if name is None:
            return _whole(asked)
        return await _any(stores, caller.site_id, asked.query, name)
    except LedgerUnavailable as error:
        raise Unavailable(
            "ledger", "trusted documents cannot be read now; try again shortly"
        ) from error


def _whole(asked: AskedDocument) -> DocumentText:
    if asked.query is not None:
        return DocumentText(asked.query)
    if asked.persisted is None and asked.document_id is None:
        raise _nothing_asked()
    raise PersistedQueryNotSupported


def _nothing_asked() -> BadUserInput:
    return BadUserInput("query", "send a document in query, or name one in documentId")


async def _any(
    stores: DocumentStores, site_id: str | None, query: str | None, name: _Name
) -> DocumentText:
    """The text of a key that may run any."""
    if query is None:
        found = await stores.persisted.find(name.text) if _HASH.fullmatch(name.text) else None
        if found is not None:
            return DocumentText(found)
        return await _trusted_by_name(stores.directory, site_id, name)
    sha256 = _hash(query)
    if name.text == sha256:
        return DocumentText(query, keep=partial(stores.persisted.keep, sha256, query))
    index = await stores.directory.documents()
    # A client whose ids are not hashes sends both where an earlier version had not that document.
    if name.is_hash or index.hash_of(name.text, site_id) != sha256:
        raise _mismatch()
    return DocumentText(query)


async def _trusted(
    directory: Directory, site_id: str | None, query: str | None, name: _Name | None
) -> DocumentText:
    """The text of a key that may run trusted documents only."""
    if query is None:
        assert name is not None  # or nothing was asked
        return await _trusted_by_name(directory, site_id, name)
    sha256 = _hash(query)
    index = await directory.documents()
    if not index.trusts(sha256, site_id):
        raise Forbidden(_NOT_TRUSTED)
    if name and name.text != sha256 and index.hash_of(name.text, site_id) != sha256:
        raise _mismatch()
    return DocumentText(query)


async def _trusted_by_name(directory: Directory, site_id: str | None, name: _Name) -> DocumentText:
    index = await directory.documents()
    sha256 = None if name.is_hash else index.hash_of(name.text, site_id)
    if sha256 is None and index.trusts(name.text, site_id):
        sha256 = name.text
    text = await directory.document_text(sha256) if sha256 else None
    if text is None:
        raise PersistedQueryNotFound
    return DocumentText(text)


def _name(asked: AskedDocument) -> _Name | None:
    """What the request calls its document; raises `BadUserInput` for two different names."""
    by_id = _name_by_id(asked.document_id)
    persisted = _name_in_extension(asked.persisted)
    if by_id and persisted and by_id.text != persisted.text:
        raise BadUserInput("documentId", "documentId and persistedQuery name two documents")
    return by_id or persisted


def _name_by_id(document_id: str | None) -> _Name | None:
    if document_id is None:
        return None
    if not document_id.startswith(_BY_HASH):
        return _Name(document_id, is_hash=False)
    sha256 = document_id.removeprefix(_BY_HASH)
    if not _HASH.fullmatch(sha256):
        raise BadUserInput("documentId", "after `sha256:` come 64 lower-case hex digits")
    return _Name(sha256, is_hash=True)


def _name_in_extension(persisted: object) -> _Name | None:
    if persisted is None:
        return None
    if not isinstance(persisted, Mapping):
        raise BadUserInput("extensions", "extensions.persistedQuery must be an object")
    version, sha256 = persisted.get("version"), persisted.get("sha256Hash")
    if version != 1 or isinstance(version, bool):
        raise BadUserInput("extensions", "Unsupported persisted query version")
    if not isinstance(sha256, str):
        raise BadUserInput("extensions", "extensions.persistedQuery.sha256Hash must be a text")
    # Apollo Client sends the ids of its manifest here, too, and those need not be hashes.
    return _Name(sha256, is_hash=False)


def _hash(text: str) -> str:
    # Half of a surrogate pair can stand in JSON, though in no document; it must not be an outage.
    return hash_of(text.encode("utf-8", "surrogatepass")).hexdigest()


def _mismatch() -> BadUserInput:
    return BadUserInput("extensions", "provided sha does not match query")
