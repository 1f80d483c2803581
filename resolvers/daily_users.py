"""Daily users: from the columnar copy or, while that is catching up, from the replica's view."""

from __future__ import annotations

from data.calendar import Interval
from data.event_store import StoreUnavailable
from data.postgres.daily_users import DaysAsked, ViewAnswer
from data.postgres.sites import Site
from data.queries import EVERYTHING, ActiveUsersQuery, Scope
from resolvers.context import Context
from resolvers.reports import (
    ActiveUsers,
    Asked,
    Meta,
    ReportSource,
    active_users,
    active_users_of,
    prepare,
)


async def dau(ctx: Context, asked: Asked) -> ActiveUsers:
    """Distinct users of each day of the range."""
    if not ctx.resources.follower.is_caught_up:
        site, scope = await prepare(ctx, asked)
        if (found := await _by_view(ctx, site, scope)) is not None:
            zone = scope.zone.key
            now = ctx.resources.clock()
            meta = Meta(found.through, now, zone, source=ReportSource.REPLICA_VIEW)
            return active_users_of(ActiveUsersQuery(scope), found.rows, meta)
    return await active_users(ctx, asked, Interval.DAY, None)


async def _by_view(ctx: Context, site: Site, scope: Scope) -> ViewAnswer | None:
    """What the view says, if it can say it exactly and knows more than the columnar copy."""
    if scope.filter != EVERYTHING or scope.zone.key != site.timezone:
        return None
    question = DaysAsked(site.site_id, scope.days, site.timezone)
    answer = await ctx.loaders.daily_users.load(question)
    if answer is None or answer.position <= await _copy_position(ctx):
        return None
    return answer


async def _copy_position(ctx: Context) -> int:
    try:
        watermark = await ctx.resources.columnar.store.watermark()
    except StoreUnavailable:
        return 0
    return watermark.position if watermark else 0
