"""The admin log: for admins to read, and for what they do outside of the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from data.admin_log import AdminAction, Entry, LoggedEntry
from data.postgres.admin_log import LogQuery, log_page, newest_head, record
from data.postgres.engine import LedgerUnavailable, transaction
from data.postgres.keys import Scope
from resolvers.access import require_scope, require_site
from resolvers.context import Context
from resolvers.cursors import log_cursor_of, log_position_of
from resolvers.errors import BadUserInput, Unavailable
from resolvers.raw_events import PageAsked, page_size


@dataclass(frozen=True, slots=True)
class LogAsked:
    """Which entries are asked for: from `since` on, before `until`."""

    site_id: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AdminLogPage:
    """A page of the log, newest first; `cursors[i]` belongs to entry i."""

    entries: Sequence[LoggedEntry]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


async def admin_log(ctx: Context, asked: LogAsked, page: PageAsked) -> AdminLogPage:
    """Entries of the log: an admin of one site gets those of that site, any other all."""
    require_scope(ctx.caller, Scope.ADMIN)
    site_id = asked.site_id or ctx.caller.site_id
    if site_id is not None:
        site_id = (await require_site(ctx, site_id, Scope.ADMIN)).site_id
    size = page_size(page)
    query = LogQuery(
        first=size,
        site_id=site_id,
        action=_action(asked.action),
        since=asked.since,
        until=asked.until,
        before=log_position_of(page.after) if page.after else None,
    )
    try:
        found = await log_page(ctx.resources.ledger.writer, query)
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "the log cannot be read now; try again shortly") from error
    shown = found[: size - 1]
    return AdminLogPage(
        entries=shown,
        cursors=[log_cursor_of(entry.position) for entry in shown],
        has_next=len(found) > len(shown),
        has_previous=page.after is not None,
    )


def _action(name: str | None) -> str | None:
    if name is not None and name not in set(AdminAction):
        known = ", ".join(sorted(AdminAction))
        raise BadUserInput("action", f"action is one of {known}")
    return name


@asynccontextmanager
async def logged(
    ctx: Context, action: AdminAction, target: str, site_id: str | None = None
) -> AsyncIterator[dict[str, object]]:
    """A block that does something outside of the ledger; what it puts into the dict are details.

    It is not begun where the ledger is away (`Unavailable`), and leaves no entry where it fails.
    """
    details: dict[str, object] = {}
    try:
        async with transaction(ctx.resources.ledger.writer) as connection:
            # Nothing is done of which no entry could be made.
            await newest_head(connection)
            yield details
            await record(
                connection, Entry(ctx.now, ctx.caller.actor, action, target, site_id, details)
            )
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "this cannot be logged now; try again shortly") from error
