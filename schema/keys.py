"""API keys, and who asks."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import ID

from data.postgres import sites
from data.postgres.keys import ApiKey as StoredKey
from data.postgres.keys import DocumentsMode, Scope
from resolvers.access import require_site
from resolvers.context import Caller
from resolvers.keys import KeyDraft
from schema.arguments import Info
from schema.enums import describe_enum
from schema.fields import field
from schema.scalars import SentInstant, instant_of
from schema.sites import Site
from schema.viewer import ViewerLimits, limits_of

describe_enum(
    Scope,
    "What a key may do.",
    INGEST="Send events.",
    READ="Ask for reports, events and receipts.",
    ADMIN="Change sites and keys. A key that is bound to no site also sees the service's state.",
)

describe_enum(
    DocumentsMode,
    "Which documents a key may send, and how it may name them.",
    OFF="Any document, always as a whole: hashes and ids are not taken.",
    APQ=(
        "Any document. One that was sent once may be named by its SHA-256 from then on (automatic "
        "persisted queries), and a trusted document by its id."
    ),
    TRUSTED="Trusted documents only, by id, by SHA-256 or as a whole: for keys that are public.",
)


@strawberry.input
class ApiKeyInput:
    """A key as it is to be made."""

    site_id: ID | None = strawberry.field(
        description=(
            "The only site that the key is for. Where it is left out, a key made by an admin of "
            "one site is for that site, any other key for all sites."
        )
    )
    name: str = strawberry.field(description="1 to 200 characters, to know the key by later.")
    scopes: list[Scope] = strawberry.field(description="What the key may do; at least one scope.")
    expires_at: SentInstant | None = strawberry.field(
        description="When the key ends by itself; never where it is left out."
    )

    documents: DocumentsMode = strawberry.field(
        default=DocumentsMode.APQ, description="Which documents the key may send."
    )

    def to_draft(self) -> KeyDraft:
        """The key for the resolver; raises `BadUserInput`."""
        ends = self.expires_at
        return KeyDraft(
            name=self.name,
            scopes=self.scopes,
            site_id=self.site_id,
            expires_at=None if ends is None else instant_of(ends, "expiresAt"),
            documents=self.documents,
        )


@strawberry.type
class ApiKey:
    """A key as the service knows it; the key itself is not kept."""

    key_id: ID = strawberry.field(name="id", description="The key's id, which is no secret.")
    name: str = strawberry.field(description="The name that the key was given.")
    site_id: ID | None = strawberry.field(
        description="The only site that the key is for; null for a key for all sites."
    )
    documents: DocumentsMode = strawberry.field(description="Which documents the key may send.")
    created_at: datetime = strawberry.field(description="When the key was made.")
    expires_at: datetime | None = strawberry.field(
        description="When the key ends by itself; null where it doesn't."
    )
    revoked_at: datetime | None = strawberry.field(
        description="When the key was revoked; null where it wasn't."
    )
    last_used_at: datetime | None = strawberry.field(
        description=(
            "When the key was last sent to the service; null where it never was. A minute late at "
            "most, and no later than the database could be written to."
        )
    )

    @field("What the key may do.")
    @staticmethod
    def scopes(key: strawberry.Parent[StoredKey]) -> list[Scope]:
        return [scope for scope in Scope if scope in key.scopes]


@strawberry.type
class CreatedApiKey:
    """A key just made."""

    key_id: ID = strawberry.field(
        name="id", description="The key's id, by which it can be revoked; it is no secret."
    )
    text: str = strawberry.field(
        name="key",
        description=(
            "The key itself, for the `X-API-Key` header. It is shown this once and kept nowhere; "
            "only its hash is."
        ),
    )


@strawberry.type
class Viewer:
    """Who asks: the key with which this request was sent."""

    key_id: ID = strawberry.field(description="The key's id.")
    name: str = strawberry.field(description="The name that the key was given.")
    expires_at: datetime | None = strawberry.field(
        description="When the key ends by itself; null where it doesn't."
    )

    documents: DocumentsMode = strawberry.field(description="Which documents the key may send.")

    @field("What the key may do.")
    @staticmethod
    def scopes(caller: strawberry.Parent[Caller]) -> list[Scope]:
        return [scope for scope in Scope if scope in caller.scopes]

    @field("The only site that the key is for; null for a key for all sites.", Site | None)
    @staticmethod
    async def site(caller: strawberry.Parent[Caller], info: Info) -> sites.Site | None:
        if caller.site_id is None:
            return None
        # Whatever a key may do there, it may know which site that is.
        return await require_site(info.context, caller.site_id, min(caller.scopes))

    @field("What an operation may be and cost, and what the key has left.")
    @staticmethod
    def limits(info: Info) -> ViewerLimits:
        return limits_of(info.context)
