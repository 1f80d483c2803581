"""`footfall import`: the events of a file into a site, with a summary of what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from data.imports.files import open_rows, total_bytes
from data.imports.rows import Format, ImportFileError
from data.postgres.append import make_partitions_ahead
from resolvers.imports import Import, LedgerAway, Tally, take_rows
from server.cli.failures import CommandFailed, Stopped
from server.cli.options import Json
from server.cli.refused_rows import RefusedRows
from server.cli.session import (
    import_door,
    opened_ledger,
    require_known_site,
    run,
    service_keys,
    settings_of_command,
)
from server.cli.terminal import progress, say, show, show_json
from server.clock import utc_now
from server.resources import prepare_home
from server.settings import Settings

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
    # Why the database is being waited for: what came first says more than what followed from it.
    trouble: str | None = None
    started: float = field(default_factory=monotonic)

    def read_on(self, taken: int) -> None:
        """So many bytes of the file have been read."""
        self.bytes_read = taken

    def wait(self, reason: str) -> None:
        """Say, once, that the database is being waited for."""
        if self.trouble is None:
            self.trouble = reason
            say(f"the database does not take rows ({reason}); trying again for a minute")


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
            problem = f"the database went away ({course.trouble or away}); {_AGAIN}"
        except ImportFileError as error:
            problem = str(error)
            if not course.tally.rows:
                raise
    _tell(order, course, problem, as_json=json)
    if problem is not None:
        raise CommandFailed(problem)


async def _import(settings: Settings, order: _Order, course: _Course) -> None:
    size = total_bytes(order.file)
    visitor_key = (await service_keys(settings)).import_key
    async with opened_ledger(settings) as ledger, import_door(ledger) as door:
        await require_known_site(ledger, order.site_id)
        await make_partitions_ahead(ledger.writer, utc_now())
        with (
            progress(f"Importing {order.file.name}") as advance,
            open_rows(
                order.file,
                order.format,
                site_id=order.site_id,
                visitor_key=visitor_key,
                follow_progress=course.read_on,
            ) as rows,
        ):

            def tell() -> None:
                course.trouble = None
                advance(course.bytes_read, size, f"{course.tally.rows:,} rows")

            work = Import(
                door,
                order.site_id,
                clock=utc_now,
                tally=course.tally,
                on_refused=course.refused.add,
                on_progress=tell,
                on_waiting=course.wait,
            )
            await take_rows(work, rows)


def _tell(order: _Order, course: _Course, problem: str | None, *, as_json: bool) -> None:
    tally, refused = course.tally, course.refused
    seconds = round(monotonic() - course.started, 1)
    if as_json:
        show_json(
            {
                "file": str(order.file),
                "site_id": order.site_id,
                "is_complete": problem is None,
                "problem": problem,
                "seconds": seconds,
                "rows": tally.rows,
                "accepted": tally.accepted,
                "duplicates": tally.duplicates,
                "rejected": tally.rejected,
                "other_sites": dict(tally.other_sites),
                "first_rejected": refused.first,
                "rejected_file": str(refused.path) if refused.path else None,
            }
        )
        return
    show(f"{tally.rows:,} rows of {order.file.name} for site {order.site_id} in {seconds:,} s")
    show(f"  accepted   {tally.accepted:>12,}")
    show(f"  duplicate  {tally.duplicates:>12,}")
    show(f"  rejected   {tally.rejected:>12,}")
    if tally.other_sites:
        others = tally.other_sites.most_common(_SHOWN_SITES)
        names = ", ".join(f"{site_id} {rows:,}" for site_id, rows in others)
        more = ", ..." if len(tally.other_sites) > len(others) else ""
        show(f"  left alone {tally.other_sites.total():>12,}  of other sites: {names}{more}")
    for row in refused.first:
        show(f"  row {row.row:,}: {row.code}, {row.message}")
    if refused.path:
        more = "all" if tally.rejected > len(refused.first) else "the"
        show(f"  {more} rejected rows, with what is wrong with each: {refused.path}")
