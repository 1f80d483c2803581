"""Files of trusted documents: the manifests that client tools write, and plain GraphQL files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

_APOLLO = "apollo-persisted-query-manifest"
_GRAPHQL = (".graphql", ".gql")
_BY_HASH = "sha256:"
MOST_BYTES = 64 * 1024 * 1024
MOST_ID_CHARACTERS = 200


class ManifestUnusable(Exception):
    """A file does not say which documents are to be trusted; the message says why, in a line."""


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """A document as a manifest lists it. `name` is empty where the manifest gives none."""

    document_id: str
    text: str
    name: str = ""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the text, in hex."""
        return sha256(self.text.encode()).hexdigest()


def read_manifest(path: Path) -> list[ListedDocument]:
    """The documents that a file or a folder lists, in its order; raises `ManifestUnusable`.

    It may be what graphql-codegen or Relay write (`{id: text}`), Apollo's manifest, a `.graphql`
    file, or a folder of such files, whose ids are the SHA-256 of their texts.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.suffix in _GRAPHQL]
        if not files:
            raise ManifestUnusable(f"{path}: there is no .graphql file in this folder")
        listed = [_plain(file) for file in files]
        # Two files with the same text are one document.
        return list({document.document_id: document for document in listed}.values())
    if path.suffix in _GRAPHQL:
        return [_plain(path)]
    listed = _listed(path, _json(path))
    if not listed:
        raise ManifestUnusable(f"{path}: it lists no documents")
    for document in listed:
        _check(path, document)
    return listed


def _plain(path: Path) -> ListedDocument:
    text = _text(path)
    document = ListedDocument(sha256(text.encode()).hexdigest(), text)
    _check(path, document)
    return document


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ManifestUnusable(f"{path}: it is larger than {MOST_BYTES // 1024**2} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ManifestUnusable(f"{path}: it is not written in UTF-8") from None


def _json(path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ManifestUnusable(f"{path}: {twice!r} stands in it twice")
        return found

    try:
        return json.loads(
            _text(path).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"), object_pairs_hook=once
        )
    except json.JSONDecodeError as error:
        raise ManifestUnusable(
            f"{path}: it is not JSON ({error.msg}, line {error.lineno}): give a manifest, a "
            ".graphql file or a folder of them"
        ) from None
    except RecursionError:
        raise ManifestUnusable(f"{path}: it is nested too deep for a manifest") from None


def _listed(path: Path, found: Any) -> list[ListedDocument]:
    if isinstance(found, dict) and "format" in found and "operations" in found:
        return _apollo(path, found)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ManifestUnusable(
            f"{path}: it is no manifest: it must map ids to texts, or be Apollo's {_APOLLO}"
        )
    return [ListedDocument(document_id, text) for document_id, text in found.items()]


def _apollo(path: Path, found: dict[str, Any]) -> list[ListedDocument]:
    if found["format"] != _APOLLO or found.get("version") != 1:
        raise ManifestUnusable(
            f"{path}: its format is {found['format']!r}, version {found.get('version')!r}; "
            f"{_APOLLO!r}, version 1, is known"
        )
    listed: dict[str, ListedDocument] = {}
    operations = found["operations"] if isinstance(found["operations"], list) else [None]
    for number, operation in enumerate(operations, start=1):
        parts = operation if isinstance(operation, dict) else {}
        document_id, text, name = parts.get("id"), parts.get("body"), parts.get("name", "")
        if not (isinstance(document_id, str) and isinstance(text, str) and isinstance(name, str)):
            raise ManifestUnusable(f"{path}: operation {number} has no id and body that are texts")
        if document_id in listed:
            raise ManifestUnusable(f"{path}: {document_id!r} stands in it twice")
        listed[document_id] = ListedDocument(document_id, text, name)
    return list(listed.values())


def _check(path: Path, document: ListedDocument) -> None:
    document_id = document.document_id
    if not 1 <= len(document_id) <= MOST_ID_CHARACTERS or not document_id.isprintable():
        raise ManifestUnusable(
            f"{path}: an id has 1 to {MOST_ID_CHARACTERS} printable characters, unlike "
            f"{document_id[:50]!r}"
        )
    if not document.name.isprintable():
        raise ManifestUnusable(f"{path}: the name of {document_id!r} is not printable")
    try:
        hashed = document.sha256
    except UnicodeEncodeError:
        hashed = ""
    # A comment may hold a NUL by GraphQL's grammar; a text in PostgreSQL may not.
    if not hashed or "\0" in document.text:
        raise ManifestUnusable(
            f"{path}: the text of {document_id!r} has characters that cannot be stored"
        )
    if document_id.startswith(_BY_HASH) and document_id != f"{_BY_HASH}{hashed}":
        raise ManifestUnusable(f"{path}: {document_id!r} is not the SHA-256 of its text")
