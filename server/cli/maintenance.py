"""`footfall migrate` and `footfall schema`."""

from __future__ import annotations

from data.postgres.ledger import ledger_urls
from data.postgres.migrate import migrate as apply_migrations
from schema.build import sdl
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


def schema() -> None:
    """Print the GraphQL schema (SDL)."""
    show(sdl().rstrip("\n"))
