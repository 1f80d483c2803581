"""`footfall migrate` and `footfall schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data.postgres.ledger import ledger_urls
from data.postgres.migrate import migrate as apply_migrations
from schema.build import sdl
from schema.changes import NoSchema, breaks
from server.cli.failures import CommandFailed
from server.cli.options import Json
from server.cli.session import run, settings_of_command
from server.cli.terminal import show, show_json, waiting
from server.resources import ledger_address, prepare_home
from server.settings import Settings


def migrate(json: Json = False) -> None:
    """Bring the database's tables up to date: the embedded ones, or those of DATABASE_URL."""
    applied = run(_migrate(settings_of_command()))
    if json:
        show_json({"applied": applied})
        return
    for revision in applied:
        show(f"applied {revision}")
    if not applied:
        show("nothing to apply: the database is up to date")


async def _migrate(settings: Settings) -> list[str]:
    address = ledger_address(settings)
    if address.database_url is None:
        prepare_home(settings)
    with waiting("Bringing the database up to date"):
        async with ledger_urls(address) as urls:
            return await apply_migrations(urls.admin)


def schema(
    since: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An earlier schema: print what its clients can no longer rely on, and fail if "
            "there is anything.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Print the GraphQL schema (SDL), or compare it with an earlier one."""
    if since is None:
        show(sdl().rstrip("\n"))
        return
    try:
        broken = breaks(since.read_text(encoding="utf-8"), sdl())
    except (NoSchema, UnicodeDecodeError) as error:
        raise CommandFailed(f"{since} is no schema: {error}") from None
    for sentence in broken:
        show(sentence)
    if broken:
        raise CommandFailed(
            f"{len(broken)} changes break clients of {since}: deprecate what is there, and add "
            "the new beside it"
        )
