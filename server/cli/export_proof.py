"""All runs of a destination compared with its buckets and the ledger, whatever time that takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import msgspec

from data.export_buckets import ExportBuckets
from data.exporter import NotPublished
from data.exports.destination import TargetKind
from data.exports.manifest import Manifest
from data.exports.records import RunsQuery, RunStatus, StoredDestination, StoredRun
from data.exports.verification import chain_problems, verify
from data.postgres.engine import Engine
from data.postgres.export_destinations import destinations
from data.postgres.export_runs import manifests_of, runs_page
from data.postgres.exports import ledger_proof
from resolvers.errors import BadUserInput, NotFound
from resolvers.export_verifying import note, problems_of
from resolvers.export_views import Verified
from server.cli.recording import command_actor, ledger_to_change
from server.cli.session import opened_secrets
from server.cli.terminal import progress
from server.clock import utc_now
from server.settings import Settings

_AT_ONCE = 100


@dataclass(slots=True)
class Proven:
    """What the comparison of all runs of a destination came to."""

    name: str
    site_id: str
    runs: int = 0
    files: int = 0
    events: int = 0
    problems: list[str] = field(default_factory=list)

    def take(self, run: StoredRun, problems: list[str]) -> None:
        """Count a run that was compared."""
        self.runs += 1
        self.files += run.client.files
        self.events += run.client.events
        self.problems += problems

    @property
    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "destination": self.name,
            "site_id": self.site_id,
            "runs": self.runs,
            "files": self.files,
            "events": self.events,
            "matches": not self.problems,
            "problems": self.problems,
        }


async def require_destination(engine: Engine, text: str) -> StoredDestination:
    """The destination of a name or an id; raises `NotFound`, and `BadUserInput` for several."""
    found = [
        one
        for one in await destinations(engine)
        if text in (one.destination.name, str(one.destination_id))
    ]
    if not found:
        raise NotFound(
            f"there is no export destination {text!r}: make it by the API (saveExportDestination), "
            "see docs/exports.md"
        )
    if len(found) > 1:
        which = ", ".join(f"{one.destination_id} (site {one.site_id})" for one in found)
        raise BadUserInput("DESTINATION", f"several are called {text!r}, give an id: {which}")
    return found[0]


async def prove(settings: Settings, text: str) -> Proven:
    """Every run of a destination compared, the newest first; the admin log says so of each."""
    async with ledger_to_change(settings) as ledger, opened_secrets(settings) as (_, secrets):
        engine = ledger.writer
        stored = await require_destination(engine, text)
        proven = Proven(stored.destination.name, stored.site_id)
        buckets = ExportBuckets(engine, secrets, settings.outbound_allow_private)
        comparing = partial(_problems, engine, buckets, stored)
        chain: list[Manifest] = []
        with progress(f"Comparing {proven.name}") as advance:
            async for found in _published(engine, stored.destination_id):
                problems = await problems_of(comparing, found, stored.destination)
                verified = Verified(found.run_id, problems, utc_now())
                await note(engine, found, verified, command_actor())
                proven.take(found, problems)
                advance(proven.runs, stored.runs, f"{proven.runs:,} runs, {proven.events:,} events")
                chain += await _positions(engine, found)
        proven.problems += chain_problems(chain)
    return proven


async def _problems(
    engine: Engine,
    buckets: ExportBuckets,
    stored: StoredDestination,
    run_id: UUID,
    kind: TargetKind,
) -> list[str]:
    manifest = (await manifests_of(engine, [run_id])).get((run_id, kind))
    if manifest is None:
        raise NotPublished(f"run {run_id} has published nothing there")
    async with buckets.open_target(stored.destination, kind) as bucket:
        return await verify(manifest, bucket, partial(ledger_proof, engine))


async def _published(engine: Engine, destination_id: UUID) -> AsyncIterator[StoredRun]:
    """The runs of a destination that are done for its client, newest first."""
    before = None
    while True:
        query = RunsQuery(_AT_ONCE, destination_id=destination_id, before=before)
        page = await runs_page(engine, query)
        for found in page:
            if found.status is RunStatus.SUCCEEDED:
                yield found
        if len(page) < _AT_ONCE:
            return
        before = page[-1].sequence


async def _positions(engine: Engine, found: StoredRun) -> list[Manifest]:
    """The manifest of a run without what takes room, to see whether one follows the other."""
    kept = (await manifests_of(engine, [found.run_id])).get((found.run_id, TargetKind.CLIENT))
    return [] if kept is None else [msgspec.structs.replace(kept, files=(), days=())]
