"""Dropping results that are kept."""

from __future__ import annotations

from dataclasses import dataclass

from data.admin_log import AdminAction
from data.postgres.keys import Scope
from resolvers.access import require_service_wide, require_site
from resolvers.admin_log import logged
from resolvers.context import Context


@dataclass(frozen=True, slots=True)
class Invalidated:
    """How many results were dropped."""

    dropped: int


async def invalidate_cache(ctx: Context, site_id: str | None) -> Invalidated:
    """Drop the results of a site; of all, where a key of all sites names none."""
    if site_id is None and ctx.caller.site_id is None:
        require_service_wide(ctx.caller)
        return await _drop(ctx, None)
    site = await require_site(ctx, site_id, Scope.ADMIN)
    return await _drop(ctx, site.site_id)


async def _drop(ctx: Context, site_id: str | None) -> Invalidated:
    target = site_id or "every site"
    async with logged(ctx, AdminAction.CACHE_INVALIDATED, target, site_id) as details:
        dropped = details["dropped"] = await ctx.resources.results.drop(site_id)
        return Invalidated(dropped)
