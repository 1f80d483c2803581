"""Brings the sources that SOURCES_FILE declares into the ledger, at the start of the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from data.admin_log import SERVICE, AdminAction, Entry
from data.postgres.admin_log import record
from data.postgres.directory import Directory
from data.postgres.engine import Engine, transaction
from data.postgres.sources import StoredSource, all_sources, lock_declarations, save_source
from data.secret_errors import SecretMissing, SecretsUnavailable
from data.secrets import Secrets
from data.sources.declared import read_declared, wrong
from data.sources.source import Source
from resolvers.source_changes import saving

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Change:
    """A source that is to be saved; `before` is None for a new one."""

    before: StoredSource | None
    source: Source
    is_declared: bool


async def declare_sources(
    file: str | None, writer: Engine, directory: Directory, secrets: Secrets, now: datetime
) -> None:
    """Save what the file declares, and switch off what it does not declare any more.

    "": nothing is declared; None: all stays as it is. Raises `DeclarationInvalid`, in which case
    nothing is saved.
    """
    if file is None:
        return
    path, declared = _read(file)
    for source in declared:
        await _check(path, source, directory, secrets)
    if not _changes(declared, await all_sources(writer, now)):
        return
    async with transaction(writer) as connection:
        # Processes that start at the same time go one after the other.
        await lock_declarations(connection)
        changes = _changes(declared, await all_sources(writer, now))
        for change in changes:
            await save_source(connection, change.source, now, is_declared=change.is_declared)
        for change in changes:
            await record(connection, _entry(change, now))
    for change in changes:
        log.info(
            "source.declared" if change.is_declared else "source.left_file",
            source=change.source.key,
        )


def _read(file: str) -> tuple[Path, list[Source]]:
    path = Path(file).expanduser()
    return path, read_declared(path) if file else []


async def _check(path: Path, source: Source, directory: Directory, secrets: Secrets) -> None:
    """What only the service knows: whether there is such a site, and such a secret."""
    if source.site_id is not None and await directory.site(source.site_id) is None:
        raise wrong(path, source.key, "site_id", f"there is no site {source.site_id!r}")
    for header in source.headers:
        if header.secret is None:
            continue
        try:
            await secrets.named(header.secret)
        except SecretMissing as error:
            raise wrong(path, source.key, "headers", str(error)) from None
        except SecretsUnavailable as error:
            # No reason not to start: it may be there when the source is fetched.
            log.warning("source.secret.unknown", source=source.key, error=str(error))


def _changes(declared: Sequence[Source], known: Sequence[StoredSource]) -> list[_Change]:
    stored = {one.source.key: one for one in known}
    changes = []
    for source in declared:
        before = stored.pop(source.key, None)
        if before is None or not before.is_declared or before.source != source:
            changes.append(_Change(before, source, is_declared=True))
    for before in stored.values():
        if before.is_declared:
            off = msgspec.structs.replace(before.source, enabled=False)
            changes.append(_Change(before, off, is_declared=False))
    # In the order in which others lock them, so that nobody waits for the other.
    return sorted(changes, key=lambda change: change.source.key)


def _entry(change: _Change, now: datetime) -> Entry:
    before, source = change.before, change.source
    details = saving(before.source if before else None, source)
    details["isDeclared"] = change.is_declared
    return Entry(now, SERVICE, AdminAction.SOURCE_SAVED, source.key, source.site_id, details)
