"""Trusted documents in the ledger: the texts that keys of the mode TRUSTED may run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from data.postgres.tables import ledger, trusted_documents


@dataclass(frozen=True, slots=True)
class TrustedDocument:
    """A document under the id that clients send. `site_id` None: for keys of every site.

    `sha256` is that of the text, in lower hex digits; the id may be the same or anything else.
    """

    document_id: str
    sha256: str
    name: str
    text: str
    site_id: str | None
    added_at: datetime


@dataclass(frozen=True, slots=True)
class DocumentIndex:
    """Which documents are trusted, without their texts."""

    by_id: Mapping[tuple[str | None, str], str] = field(default_factory=dict)
    by_hash: Mapping[str, frozenset[str | None]] = field(default_factory=dict)

    def hash_of(self, document_id: str, site_id: str | None) -> str | None:
        """The hash of the document of an id for keys of a site (None: of all sites).

        A site's own document goes before one for every site.
        """
        own = self.by_id.get((site_id, document_id))
        return own or self.by_id.get((None, document_id))

    def trusts(self, sha256: str, site_id: str | None) -> bool:
        """Whether keys of a site may run the text of this hash."""
        sites = self.by_hash.get(sha256, frozenset())
        return None in sites or site_id in sites


async def documents_version(connection: AsyncConnection) -> int:
    """A number that rises with every change; 0 where there never was one."""
    version: int = (await connection.execute(select(ledger.c.documents_version))).scalar_one()
    return version


async def document_index(connection: AsyncConnection) -> DocumentIndex:
    """The index as it is now."""
    columns = trusted_documents.c
    rows = await connection.execute(select(columns.document_id, columns.site_id, columns.sha256))
    by_id: dict[tuple[str | None, str], str] = {}
    by_hash: dict[str, frozenset[str | None]] = {}
    for row in rows:
        by_id[row.site_id, row.document_id] = row.sha256
        by_hash[row.sha256] = by_hash.get(row.sha256, frozenset()) | {row.site_id}
    return DocumentIndex(by_id, by_hash)


async def document_text(connection: AsyncConnection, sha256: str) -> str | None:
    """The text of a hash, or None if no trusted document has it."""
    columns = trusted_documents.c
    statement = select(columns.text).where(columns.sha256 == sha256).limit(1)
    text: str | None = await connection.scalar(statement)
    return text


async def all_documents(connection: AsyncConnection) -> list[TrustedDocument]:
    """Every trusted document: those for every site first, then by site, name and id."""
    columns = trusted_documents.c
    order = (columns.site_id.nulls_first(), columns.name, columns.document_id)
    rows = await connection.execute(select(trusted_documents).order_by(*order))
    return [TrustedDocument(**row._mapping) for row in rows]


async def add_documents(
    connection: AsyncConnection, documents: Sequence[TrustedDocument]
) -> tuple[int, list[TrustedDocument]]:
    """How many were new, and which could not be added as their id stands for another text.

    Where there are any of the latter, roll back.
    """
    new = 0
    taken = []
    for document in documents:
        values = {name: getattr(document, name) for name in document.__slots__}
        statement = insert(trusted_documents).values(values).on_conflict_do_nothing()
        if (await connection.execute(statement)).rowcount:
            new += 1
        elif await _hash_under(connection, document) != document.sha256:
            taken.append(document)
    if new:
        await _note_change(connection)
    return new, taken


async def _hash_under(connection: AsyncConnection, document: TrustedDocument) -> str | None:
    columns = trusted_documents.c
    statement = select(columns.sha256).where(
        columns.document_id == document.document_id,
        columns.site_id.is_not_distinct_from(document.site_id),
    )
    known: str | None = await connection.scalar(statement)
    return known


async def remove_documents(
    connection: AsyncConnection, document_ids: Collection[str], site_id: str | None
) -> list[TrustedDocument]:
    """Take documents away by their ids: those for every site, or a site's own. Those taken."""
    columns = trusted_documents.c
    statement = (
        delete(trusted_documents)
        .where(columns.document_id.in_(document_ids), columns.site_id.is_not_distinct_from(site_id))
        .returning(trusted_documents)
    )
    removed = [TrustedDocument(**row._mapping) for row in await connection.execute(statement)]
    if removed:
        await _note_change(connection)
    return removed


async def _note_change(connection: AsyncConnection) -> None:
    version = ledger.c.documents_version
    await connection.execute(update(ledger).values(documents_version=version + 1))
