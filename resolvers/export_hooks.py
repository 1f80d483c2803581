"""Runs of exports that a client's own systems begin, by a token in an address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from data.admin_log import Actor
from data.exports.hooks import PREFIX
from data.exports.records import Trigger
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.export_destinations import destination_by_hook
from data.resources import Resources
from resolvers.errors import NotFound, Unavailable
from resolvers.export_changes import By, Range, begin_run

# What cannot be a token is not worth a question to the ledger.
_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{20,100}}")


@dataclass(frozen=True, slots=True)
class Begun:
    """The run that a call has begun, or the one that was under way already."""

    run_id: UUID
    is_new: bool


async def begin_by_hook(resources: Resources, token: str) -> Begun:
    """Begin a run of the destination that a token belongs to.

    Raises `NotFound` for a token that belongs to none, `ExportPaused` and `Unavailable`. It is
    looked up by its hash, so how long that takes tells nothing of tokens that there are.
    """
    unknown = NotFound("there is no such hook")
    if not _TOKEN.fullmatch(token):
        raise unknown
    writer = resources.ledger.writer
    try:
        stored = await destination_by_hook(writer, token)
        if stored is None:
            raise unknown
        actor = Actor("hook", f"hook of export {stored.destination.name}")
        by = By(actor, Trigger.HOOK, resources.clock())
        planned = await begin_run(writer, stored, Range(), by)
    except (LedgerUnavailable, LedgerRefused) as error:
        raise Unavailable("ledger", "no run can be begun now; try again shortly") from error
    resources.exporter.wake()
    return Begun(planned.run.run_id, planned.is_new)
