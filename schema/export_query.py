"""Questions about exports: input to query object, resolver, type."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import strawberry
from strawberry import ID, UNSET

from resolvers import export_runs, exports
from resolvers.export_views import MAX_DESTINATIONS, RunPage, ShownDestination, ShownSetup
from resolvers.raw_events import MAX_PAGE
from schema.arguments import Info, SiteId, given
from schema.directives import Cost, ListSize
from schema.export_enums import RunStatus
from schema.exports import ExportDestination, ExportRunConnection, ExportSetup
from schema.fields import field
from schema.pagination import After, First, page_asked

OfSite: TypeAlias = Annotated[
    ID | None,
    strawberry.argument(
        "Those of this site only. Where it is left out, a key of one site gets that site's, and a "
        "key for all sites those of all."
    ),
]
OfDestination: TypeAlias = Annotated[
    ID | None, strawberry.argument("Runs of this destination only; of every one where left out.")
]
OfStatus: TypeAlias = Annotated[
    RunStatus | None, strawberry.argument("Runs of this status only; of every one where left out.")
]

# What asking the ledger costs: see decision 12.
_STORE = Cost(weight="100")
_AT_HAND = Cost(weight="10")
_DESTINATIONS = ListSize(assumed_size=MAX_DESTINATIONS)
_PAGE = ListSize(
    assumed_size=MAX_PAGE, slicing_arguments=["first"], sized_fields=["edges", "nodes"]
)


@strawberry.type
class ExportQuery:
    """What can be asked about exports; a part of `Query`."""

    @field(
        "Where events are exported to, in the order in which that was set up. Takes the scope ADMIN.",
        list[ExportDestination],
        directives=[_STORE, _DESTINATIONS],
    )
    async def export_destinations(
        self, info: Info, *, site_id: OfSite = UNSET
    ) -> list[ShownDestination]:
        return await exports.destinations(info.context, given(site_id))

    @field(
        "Runs of exports, those that were begun last first. Takes the scope ADMIN.",
        ExportRunConnection,
        directives=[_STORE, _PAGE],
    )
    async def export_runs(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        site_id: OfSite = UNSET,
        destination_id: OfDestination = UNSET,
        status: OfStatus = UNSET,
        first: First = 50,
        after: After = UNSET,
    ) -> RunPage:
        asked = export_runs.RunsAsked(given(site_id), given(destination_id), given(status))
        return await export_runs.runs(info.context, asked, page_asked(first, after))

    @field(
        "What has to be known before a destination of the site is saved. Takes the scope ADMIN.",
        ExportSetup,
        directives=[_AT_HAND],
    )
    async def export_setup(self, info: Info, *, site_id: SiteId = UNSET) -> ShownSetup:
        return await exports.setup(info.context, given(site_id))
