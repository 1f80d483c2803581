"""Commands: input to draft, resolver, type."""

from __future__ import annotations

from typing import Annotated

import strawberry
from strawberry import ID, UNSET

from data.events import MAX_EVENTS_PER_REQUEST
from data.postgres.keys import NewKey
from data.postgres.sites import Site as StoredSite
from resolvers import dead_letters, ingest, invalidation, keys, sites, source_changes
from resolvers.dead_letters import MAX_LETTER_IDS
from resolvers.ingest import Outcome
from resolvers.invalidation import Invalidated
from resolvers.source_changes import Refreshed
from resolvers.sources import MAX_SOURCES, ShownSource
from schema.arguments import Info, given
from schema.cache import InvalidateCachePayload
from schema.directives import Cost, ListSize
from schema.export_mutation import ExportMutation
from schema.fields import field
from schema.ingest import IngestInput, IngestPayload
from schema.keys import ApiKeyInput, CreatedApiKey
from schema.sites import Site, SiteInput
from schema.source_inputs import SourceInput
from schema.sources import RefreshSourcesPayload, Source

# What a write costs; see decision 12. Events cost by themselves, in their input.
_WRITE = Cost(weight="100")
_INGEST = Cost(weight="1")
_RECEIPTS = ListSize(
    assumed_size=MAX_EVENTS_PER_REQUEST,
    slicing_arguments=["input.events"],
    sized_fields=["receipts"],
)
_REFRESHED = ListSize(
    assumed_size=MAX_SOURCES, slicing_arguments=["keys"], sized_fields=["sources", "audits"]
)


@strawberry.type
class Mutation(ExportMutation):
    """What can be done."""

    @field(
        "Take events in. The answer comes when they are committed and says of each what became "
        "of it; sending the same ids again is safe. Takes the scope INGEST.",
        IngestPayload,
        directives=[_INGEST, _RECEIPTS],
    )
    async def ingest(
        self,
        info: Info,
        input: Annotated[IngestInput, strawberry.argument("The events.")],
    ) -> Outcome:
        return await ingest.ingest(info.context, input.site_id, input.events)

    @field(
        "Drop the results of reports that are kept, of one site or of all: they are computed anew. "
        "Takes the scope ADMIN, and for all sites a key that is bound to none.",
        InvalidateCachePayload,
        directives=[_WRITE],
    )
    async def invalidate_cache(
        self,
        info: Info,
        *,
        site_id: Annotated[
            ID | None,
            strawberry.argument("The site; the key's own or, for a key of all sites, all of them."),
        ] = UNSET,
    ) -> Invalidated:
        return await invalidation.invalidate_cache(info.context, given(site_id))

    @field(
        "Change a site, or make a new one; the site as it is then. Takes the scope ADMIN, and "
        "to make one a key that is bound to no site.",
        Site,
        directives=[_WRITE],
    )
    async def save_site(
        self,
        info: Info,
        input: Annotated[SiteInput, strawberry.argument("The site as it is to be.")],
    ) -> StoredSite:
        return await sites.save_site(info.context, input.to_draft())

    @field(
        "Make an API key. Takes the scope ADMIN; an admin of one site makes keys of that site.",
        CreatedApiKey,
        directives=[_WRITE],
    )
    async def create_api_key(
        self,
        info: Info,
        input: Annotated[ApiKeyInput, strawberry.argument("The key as it is to be.")],
    ) -> NewKey:
        return await keys.create_api_key(info.context, input.to_draft())

    @field(
        "Queue dead letters anew, as many as there is room for; how many that were. Takes an admin "
        "key that is bound to no site.",
        directives=[_WRITE],
    )
    async def replay_dead_letters(
        self,
        info: Info,
        ids: Annotated[
            list[ID] | None,
            strawberry.argument(
                f"Ids of dead letters, {MAX_LETTER_IDS:,} at most; the oldest where left out."
            ),
        ] = UNSET,
    ) -> int:
        return await dead_letters.replay(info.context, given(ids))

    @field(
        "Delete dead letters for good; how many there were of them. Takes an admin key that is "
        "bound to no site.",
        directives=[_WRITE],
    )
    async def delete_dead_letters(
        self,
        info: Info,
        ids: Annotated[
            list[ID], strawberry.argument(f"Ids of dead letters, {MAX_LETTER_IDS:,} at most.")
        ],
    ) -> int:
        return await dead_letters.delete(info.context, ids)

    @field(
        "End an API key for good: true when it is ended, an error where there is none. "
        "Takes the scope ADMIN.",
        directives=[_WRITE],
    )
    async def revoke_api_key(
        self,
        info: Info,
        id: Annotated[ID, strawberry.argument("The key's id.")],
    ) -> bool:
        return await keys.revoke_api_key(info.context, id)

    @field(
        "Change an external source, or make a new one; it is fetched at once. What can be known to "
        "be wrong is refused. Takes an admin key that is bound to no site.",
        Source,
        directives=[_WRITE],
    )
    async def save_source(
        self,
        info: Info,
        input: Annotated[SourceInput, strawberry.argument("The source as it is to be.")],
    ) -> ShownSource:
        return await source_changes.save(info.context, input.to_source())

    @field(
        "Delete an external source with its records and audits: true when it is deleted, an error "
        "where there is none. Takes an admin key that is bound to no site.",
        directives=[_WRITE],
    )
    async def delete_source(
        self, info: Info, key: Annotated[str, strawberry.argument("The source's key.")]
    ) -> bool:
        return await source_changes.delete(info.context, key)

    @field(
        "Fetch sources now, whenever they are due; one that is under way is not begun again. "
        "Takes an admin key that is bound to no site.",
        RefreshSourcesPayload,
        directives=[_WRITE, _REFRESHED],
    )
    async def refresh_sources(
        self,
        info: Info,
        *,
        keys: Annotated[
            list[str] | None,
            strawberry.argument("Which sources; all that are switched on where left out."),
        ] = UNSET,
        wait: Annotated[
            bool,
            strawberry.argument(
                "Answer when they are done, or a moment before the operation would time out."
            ),
        ] = False,
    ) -> Refreshed:
        return await source_changes.refresh(info.context, given(keys), wait=wait)
