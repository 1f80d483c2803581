"""`footfall documents`: add, list and take away the documents that keys may be bound to."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from data.manifests import ListedDocument, read_manifest
from data.postgres.documents import (
    TrustedDocument,
    add_documents,
    all_documents,
    remove_documents,
)
from data.postgres.engine import transaction
from resolvers.errors import NotFound
from schema.build import graphql_schema
from schema.documents import BadDocument, Documents
from server.cli.failures import CommandFailed
from server.cli.options import Json
from server.cli.session import opened_ledger, require_known_site, run, settings_of_command
from server.cli.terminal import progress, say, show, show_json, show_table
from server.clock import utc_now
from server.settings import Settings

Site = Annotated[
    str | None,
    typer.Option(metavar="ID", help="For keys of this site only; for all keys if left out."),
]


def add(
    file: Annotated[
        Path,
        typer.Argument(
            help="A manifest of graphql-codegen, Apollo or Relay, a .graphql file, or a folder of "
            "such files."
        ),
    ],
    site: Site = None,
    json: Json = False,
) -> None:
    """Trust documents, within a second in running services.

    Every document is checked against the schema first; where one is wrong, none is added. Documents
    that are there already stay as they are.
    """
    settings = settings_of_command()
    documents = _checked(file, read_manifest(file), site, utc_now())
    new = run(_add(settings, file, documents, site))
    known = len(documents) - new
    if json:
        show_json({"file": str(file), "site_id": site, "added": new, "known": known})
        return
    show(f"added {_counted(new)} for {_whose(site)}")
    if known:
        say(f"there already: {_counted(known)} of {file.name}")


def _checked(
    file: Path, listed: list[ListedDocument], site_id: str | None, now: datetime
) -> list[TrustedDocument]:
    """The documents as they are to be kept; raises `CommandFailed` with a line for each bad one."""
    reader = Documents(graphql_schema(), hide_suggestions=False)
    trusted, bad = [], 0
    with progress(f"Checking {file.name}") as advance:
        for done, document in enumerate(listed, start=1):
            try:
                name = _name_in(reader, document.text)
            except BadDocument as error:
                bad += 1
                say(f"{document.document_id}: {_mistake(error)}")
                continue
            trusted.append(
                TrustedDocument(
                    document_id=document.document_id,
                    sha256=document.sha256,
                    name=document.name or name,
                    text=document.text,
                    site_id=site_id,
                    added_at=now,
                )
            )
            advance(done, len(listed), f"{done:,} documents")
    if bad:
        raise CommandFailed(
            f"{bad} of {_counted(len(listed))} in {file} cannot be run, so none was added: mend "
            "what is said above, then add the file again"
        )
    return trusted


def _name_in(reader: Documents, text: str) -> str:
    names = [name for name in reader.of(text).operations if name]
    return names[0] if names else ""


def _mistake(bad: BadDocument) -> str:
    first = bad.errors[0]
    place = f" (line {first.locations[0].line})" if first.locations else ""
    return " ".join(first.message.split()) + place


async def _add(
    settings: Settings, file: Path, documents: list[TrustedDocument], site_id: str | None
) -> int:
    async with opened_ledger(settings) as ledger:
        if site_id is not None:
            await require_known_site(ledger, site_id)
        async with transaction(ledger.writer) as connection:
            new, taken = await add_documents(connection, documents)
            if taken:
                ids = ", ".join(document.document_id for document in taken[:3])
                raise CommandFailed(
                    f"{ids}{', ...' if len(taken) > 3 else ''}: there already with another text, "
                    f"so nothing of {file} was added: take it away first with `footfall documents "
                    "remove`, if no client in use needs it"
                )
    return new


def list_documents(json: Json = False) -> None:
    """List all trusted documents."""
    documents = run(_list(settings_of_command()))
    if json:
        show_json(documents)
        return
    show_table(
        ("id", "name", "site", "characters", "added"),
        [
            (
                document.document_id,
                document.name,
                document.site_id or "all",
                f"{len(document.text):,}",
                f"{document.added_at:%Y-%m-%d %H:%M}",
            )
            for document in documents
        ],
    )
    if not documents:
        say("no trusted documents yet: add some with `footfall documents add FILE`")


async def _list(settings: Settings) -> list[TrustedDocument]:
    async with opened_ledger(settings) as ledger, transaction(ledger.writer) as connection:
        return await all_documents(connection)


def remove(
    document_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="The ids that `footfall documents list` shows."),
    ],
    site: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Those of this site; those for all keys if left out."),
    ] = None,
    json: Json = False,
) -> None:
    """Trust documents no longer, within a second in running services."""
    removed = run(_remove(settings_of_command(), set(document_ids), site))
    if json:
        show_json({"site_id": site, "removed": sorted(one.document_id for one in removed)})
        return
    say(f"took away {_counted(len(removed))} for {_whose(site)}")


async def _remove(
    settings: Settings, document_ids: set[str], site_id: str | None
) -> list[TrustedDocument]:
    async with opened_ledger(settings) as ledger, transaction(ledger.writer) as connection:
        removed = await remove_documents(connection, document_ids, site_id)
        missing = sorted(document_ids - {document.document_id for document in removed})
        if missing:
            raise NotFound(
                f"there is no document {missing[0]!r} for {_whose(site_id)}, so none was taken "
                "away: see `footfall documents list`"
            )
    return removed


def _counted(number: int) -> str:
    return f"{number:,} document{'' if number == 1 else 's'}"


def _whose(site_id: str | None) -> str:
    return f"keys of site {site_id}" if site_id else "all keys"
