"""`footfall import`: the events of a file into a site, with a summary of what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from data.group_commit import open_group_commit
from data.imports.files import open_rows, total_bytes
from data.imports.rows import Format, ImportFileError
from data.postgres.append import append, make_partitions_ahead
from data.postgres.ledger import Ledger
from data.secrets import load_secrets
from resolvers.imports import Import, LedgerAway, Tally, take_rows
from resolvers.ingest import Door
from server.cli.failures import CommandFailed, Stopped
from server.cli.options import Json
from server.cli.refused_rows import RefusedRows
from server.cli.session import opened_ledger, require_known_site, run, settings_of_command
from server.cli.terminal import progress, say, show, show_json
from server.resources import prepare_home, utc_now
from server.settings import Settings
from telemetry.metrics import Metrics

_SHOWN_SITES = 5
_AGAIN = "run it again to take up the rest: rows that are in are not counted twice"


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be imported, and where."""

    file: Path
    site_id: str
    format: Format


@dataclass(slots=True)
class _Course:
    """How it goes, and how it went."""

    refused: RefusedRows
    tally: Tally = field(default_factory=Tally)
    bytes_read: int = 0
    started: float = field(default_factory=monotonic)


def import_file(
    file: Annotated[Path, typer.Argument(help="The file; it may be compressed by gzip.")],
    site: Annotated[str, typer.Option(metavar="ID", help="The site that the events are for.")],
    format: Annotated[
        Format, typer.Option(help="How the file is written; found out from it if left out.")
    ] = Format.AUTO,
    json: Json = False,
) -> None:
    """Import events from a file.

    CSV (event_id, occurred_at, user_id, event_type, properties_json, ...), JSON lines, Parquet, or
    a web server's access log. It is safe to repeat, and to interrupt and begin again: what is in
    already is a duplicate and counts once.
    """
    settings = settings_of_command()
    prepare_home(settings)
    order = _Order(file, site, format)
    course = _Course(RefusedRows(settings.home / "imports", file.name, utc_now()))
    problem: str | None = None
    with course.refused:
        try:
            run(_import(settings, order, course))
        except Stopped as stopped:
            rows = f"{course.tally.rows:,} rows are done"
            raise Stopped(stopped.number, f"stopped, {rows}; {_AGAIN}") from None
        except LedgerAway as away:
            problem = f"the database went away ({away}); {_AGAIN}"
        except ImportFileError as error:
            problem = str(error)
            if not course.tally.rows:
                raise
    _tell(order, course, problem, as_json=json)
    if problem is not None:
        raise CommandFailed(problem)


async def _import(settings: Settings, order: _Order, course: _Course) -> None:
    size = total_bytes(order.file)
    visitor_key = load_secrets(settings.home / "secrets.json").import_key

    def follow(done: int) -> None:
        course.bytes_read = done

    async with opened_ledger(settings) as ledger:
        await require_known_site(ledger, order.site_id)
        await make_partitions_ahead(ledger.writer, utc_now())
        ...
