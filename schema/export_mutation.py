"""Commands about exports: input to draft, resolver, type."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import strawberry
from strawberry import ID, UNSET

from resolvers import export_changes, export_saving, export_verifying
from resolvers.export_views import ShownDestination, ShownRun, Verified
from schema.arguments import Info, given
from schema.directives import Cost
from schema.export_inputs import ExportDestinationInput
from schema.exports import ExportDestination, ExportRun, ExportVerification
from schema.fields import field
from schema.scalars import SentInstant, instant_of

DestinationId: TypeAlias = Annotated[ID, strawberry.argument("The destination's id.")]
RunId: TypeAlias = Annotated[ID, strawberry.argument("The run's id.")]
Since: TypeAlias = Annotated[
    SentInstant | None,
    strawberry.argument("Make a backfill: take what occurred at this moment or later."),
]
Until: TypeAlias = Annotated[
    SentInstant | None,
    strawberry.argument("Make a backfill: take what occurred before this moment."),
]

# What a write costs; see decision 12. The last one reads everything that a run has written.
_WRITE = Cost(weight="100")
_READING = Cost(weight="1000")


@strawberry.type
class ExportMutation:
    """What can be done about exports; a part of `Mutation`."""

    @field(
        "Change an export destination, or make a new one, after a small write into its buckets: "
        "what is missing there is refused. Takes the scope ADMIN.",
        ExportDestination,
        directives=[_WRITE],
    )
    async def save_export_destination(
        self,
        info: Info,
        input: Annotated[
            ExportDestinationInput, strawberry.argument("The destination as it is to be.")
        ],
    ) -> ShownDestination:
        return await export_saving.save(info.context, input.to_draft())

    @field(
        "End an export destination: true when it is ended, an error where there is none. Its "
        "objects stay, and its place stays taken. Takes the scope ADMIN.",
        directives=[_WRITE],
    )
    async def delete_export_destination(self, info: Info, id: DestinationId) -> bool:
        return await export_changes.delete(info.context, id)

    @field(
        "Pause an export destination with its backup, or let both go on; what had failed meanwhile "
        "is tried again at once. Takes the scope ADMIN.",
        ExportDestination,
        directives=[_WRITE],
    )
    async def set_export_paused(
        self,
        info: Info,
        id: DestinationId,
        paused: Annotated[bool, strawberry.argument("True to pause it, false to let it go on.")],
    ) -> ShownDestination:
        return await export_changes.set_paused(info.context, id, paused=paused)

    @field(
        "Begin a run now, of everything that came since the last one; with `since` or `until` a "
        "backfill beside these. Where one is under way, it is that one. Takes the scope ADMIN.",
        ExportRun,
        directives=[_WRITE],
    )
    async def run_export(
        self,
        info: Info,
        *,
        destination_id: DestinationId,
        since: Since = UNSET,
        until: Until = UNSET,
    ) -> ShownRun:
        begin, end = given(since), given(until)
        asked = export_changes.Range(
            None if begin is None else instant_of(begin, "since"),
            None if end is None else instant_of(end, "until"),
        )
        return await export_changes.run(info.context, destination_id, asked)

    @field(
        "Try a run again at once that failed or was given up. Takes the scope ADMIN.",
        ExportRun,
        directives=[_WRITE],
    )
    async def retry_export(self, info: Info, run_id: RunId) -> ShownRun:
        return await export_changes.retry(info.context, run_id)

    @field(
        "Compare an export's manifest with the bucket and the ledger: every byte is read. What "
        "takes longer than an operation may, `footfall export NAME --verify` does. Takes the scope "
        "ADMIN.",
        ExportVerification,
        directives=[_READING],
    )
    async def verify_export(self, info: Info, run_id: RunId) -> Verified:
        return await export_verifying.verify(info.context, run_id)
