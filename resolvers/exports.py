"""Destinations of exports: which there are, for whoever may know of them."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

from data.event_store import StoreUnavailable
from data.exports.records import StoredDestination
from data.postgres import export_destinations as kept
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.keys import Scope
from resolvers.access import require_scope, require_site
from resolvers.context import Context
from resolvers.errors import BadUserInput, Forbidden, NotFound, Unavailable
from resolvers.export_views import (
    ShownDestination,
    ShownRun,
    ShownSetup,
    shown_destination,
    shown_run,
)


async def destinations(ctx: Context, site_id: str | None) -> list[ShownDestination]:
    """The destinations of a site, or all that the caller may know of, in order of their making."""
    site_id = await readable_site(ctx, site_id)
    try:
        found = await ctx.resources.ledger.reads.run(lambda at: kept.destinations(at, site_id))
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    for stored in found:
        tell_loaders(ctx, stored)
    return [shown_destination(stored) for stored in found]


async def readable_site(ctx: Context, site_id: str | None) -> str | None:
    """The site whose exports are asked for; None: those of all sites."""
    require_scope(ctx.caller, Scope.ADMIN)
    wanted = site_id if site_id is not None else ctx.caller.site_id
    if wanted is None:
        return None
    return (await require_site(ctx, wanted, Scope.ADMIN)).site_id


async def require_destination(ctx: Context, text: str, argument: str) -> StoredDestination:
    """The destination of an id, from the primary; raises `NotFound` and `Forbidden`."""
    require_scope(ctx.caller, Scope.ADMIN)
    missing = NotFound(f"there is no export destination {text[:60]!r}", argument=argument)
    destination_id = id_of(text)
    if destination_id is None:
        raise missing
    try:
        writer = ctx.resources.ledger.writer
        stored = await kept.destination_by_id(writer, destination_id)
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    if stored is None:
        raise missing
    require_own(ctx, stored.site_id)
    tell_loaders(ctx, stored)
    return stored


def tell_loaders(ctx: Context, stored: StoredDestination) -> None:
    """Have the rest of the answer tell what is now: a replica may not know of it yet."""
    loader = ctx.loaders.exports.destinations
    loader.clear(stored.destination_id)
    loader.prime(stored.destination_id, stored)


def require_own(ctx: Context, site_id: str) -> None:
    """Raises `Forbidden` unless the caller, an admin, may do something about a site's exports."""
    if ctx.caller.site_id not in (None, site_id):
        raise Forbidden("this key belongs to another site")


def id_of(text: str) -> UUID | None:
    """The id that a text is; None where it is none."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    # Only as it is shown: other ways of writing it are not worth explaining.
    return found if str(found) == text.lower() else None


async def destination_of(ctx: Context, run: ShownRun) -> ShownDestination:
    """The destination of a run."""
    stored = await ctx.loaders.exports.destinations.load(run.destination_id)
    if stored is None:
        raise away()
    return shown_destination(stored)


async def lag_events(ctx: Context, destination: ShownDestination) -> int:
    """Events of the site that no run of the chain has published yet."""
    try:
        count = ctx.loaders.exports.lags(ctx.resources.exporter.lags)
        lag = await count.load(destination.destination_id)
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error
    except StoreUnavailable as error:
        raise Unavailable("columnar", "what waits cannot be counted now") from error
    return 0 if lag is None else lag.events


async def last_run(ctx: Context, destination: ShownDestination) -> ShownRun | None:
    """The run that was begun last."""
    found = await ctx.loaders.exports.last_runs.load(destination.destination_id)
    return None if found is None else shown_run(found)


async def setup(ctx: Context, site_id: str | None) -> ShownSetup:
    """What has to be known before a destination of a site is saved."""
    site = await require_site(ctx, site_id, Scope.ADMIN)
    resources = ctx.resources
    external_id = external_id_of(resources.ledger.ledger_id, site.site_id)
    return ShownSetup(external_id, resources.exporter.endpoint)


def external_id_of(ledger_id: UUID, site_id: str) -> str:
    """That of a site: it can be told before there is a destination, and no other site has it."""
    text = f"footfall:external-id:{ledger_id}:{site_id}"
    return f"footfall-{sha256(text.encode()).hexdigest()[:32]}"


def away() -> Unavailable:
    """What is said of exports while the ledger is away."""
    return Unavailable("ledger", "exports cannot be read now; try again shortly")


def unsaved() -> Unavailable:
    """What is said of changes while the ledger is away."""
    return Unavailable("ledger", "exports cannot be changed now; try again shortly")


def require_count(first: int, most: int) -> int:
    """How many entries of a list are asked for; raises `BadUserInput`."""
    if not 1 <= first <= most:
        raise BadUserInput("first", f"first takes 1 to {most:,}")
    return first
