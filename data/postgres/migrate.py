"""Brings the ledger's tables up to date, by Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, text

from data.postgres.engine import ledger_errors, single_use_engine
from data.postgres.tables import metadata

_SCRIPTS = Path(__file__).parents[2] / "migrations"
# One migrating process at a time; the others wait and then find nothing left to do.
_LOCK = "select pg_advisory_lock(7077, 3)"
_UNLOCK = "select pg_advisory_unlock(7077, 3)"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def migrate(url: URL) -> list[str]:
    """Apply what is missing; the revisions that were applied, oldest first.

    The URL's user must be a superuser or be allowed to create roles.
    """
    engine = single_use_engine(url)
    try:
        with ledger_errors():
            async with engine.connect() as guard, engine.connect() as connection:
                await guard.execute(text(_LOCK))
                before = await connection.run_sync(_applied)
                await connection.run_sync(lambda sync: command.upgrade(_config(sync), "head"))
                await connection.commit()
                after = await connection.run_sync(_applied)
                await guard.execute(text(_UNLOCK))
    finally:
        await engine.dispose()
    return [revision for revision in _known() if revision in after - before]


async def pending(url: URL) -> list[str]:
    """Revisions that the ledger lacks, oldest first."""
    engine = single_use_engine(url)
    try:
        with ledger_errors():
            async with engine.connect() as connection:
                applied = await connection.run_sync(_applied)
    finally:
        await engine.dispose()
    return [revision for revision in _known() if revision not in applied]


async def differences(url: URL) -> list[str]:
    """How the ledger's tables differ from `tables.py`, in words; empty if they are the same."""
    engine = single_use_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_differences)
    finally:
        await engine.dispose()


def _known() -> list[str]:
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def _applied(connection: Connection) -> set[str]:
    context = MigrationContext.configure(connection)
    heads = context.get_current_heads()
    scripts = ScriptDirectory.from_config(_config())
    return {script.revision for head in heads for script in scripts.iterate_revisions(head, "base")}


def _differences(connection: Connection) -> list[str]:
    def is_ours(name: str | None, kind: str, _: object) -> bool:
        # Partitions come and go and are not declared; nor are the tables of others.
        return kind != "table" or name in metadata.tables

    context = MigrationContext.configure(
        connection, opts={"include_name": is_ours, "compare_type": True}
    )
    return [str(difference) for difference in compare_metadata(context, metadata)]
