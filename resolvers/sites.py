"""Sites and who asks: reading, saving, and the rules for their names and calendars."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlsplit

from data.admin_log import SERVICE, Actor, AdminAction, Entry
from data.calendar import Weekday
from data.postgres.admin_log import record
from data.postgres.engine import Engine, LedgerUnavailable, transaction
from data.postgres.keys import Scope
from data.postgres.sites import Site, all_sites, create_site, update_site
from resolvers.access import require_scope, require_service_wide, require_site
from resolvers.context import Context
from resolvers.errors import BadUserInput, Forbidden, Unavailable
from resolvers.names import checked_name
from resolvers.reports import require_zone

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_IN_ORIGINS = re.compile(r"[\x00-\x20\x7f]")
_SITE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class SiteDraft:
    """A site as it is to be; None leaves what is there, or takes the default for a new one."""

    site_id: str
    name: str | None = None
    timezone: str | None = None
    week_start: Weekday | None = None
    origins: Sequence[str] | None = None


async def site(ctx: Context, site_id: str | None) -> Site:
    """A site that the caller may read."""
    return await require_site(ctx, site_id, Scope.READ)


async def sites(ctx: Context) -> list[Site]:
    """All sites that the caller may read, in order of id."""
    require_scope(ctx.caller, Scope.READ)
    if ctx.caller.site_id is not None:
        return [await require_site(ctx, None, Scope.READ)]
    try:
        return await ctx.resources.directory.sites()
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "sites cannot be read now; try again shortly") from error


def checked(draft: SiteDraft) -> SiteDraft:
    """The draft with tidy values; raises `BadUserInput` for what a site cannot have."""
    if not _SITE_ID.fullmatch(draft.site_id):
        raise BadUserInput(
            "id", "a site's id has 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit"
        )
    name = None if draft.name is None else checked_name(draft.name, "site")
    if draft.timezone is not None:
        require_zone(draft.timezone)
    origins = None
    if draft.origins is not None:
        origins = tuple(dict.fromkeys(_origin(origin) for origin in draft.origins))
    return replace(draft, name=name, origins=origins)


def _origin(text: str) -> str:
    """An origin as browsers send it, such as `https://example.com`, or `*` for any."""
    if text == "*":
        return text
    bad = BadUserInput("origins", f"{text!r} is not an origin such as https://example.com")
    tidy = text.strip().rstrip("/")
    if _NOT_IN_ORIGINS.search(tidy):
        raise bad
    try:
        parts = urlsplit(tidy)
        port = parts.port
    except ValueError:
        raise bad from None
    more = parts.path or parts.query or parts.fragment or parts.username
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or more:
        raise bad
    suffix = f":{port}" if port not in (None, _DEFAULT_PORTS[parts.scheme]) else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{suffix}"


def may_send(site: Site, origin: str | None) -> bool:
    """Whether events from a page of this origin are taken; None is a sender without a page."""
    return origin is None or not site.origins or origin in site.origins or "*" in site.origins


async def save_site(ctx: Context, draft: SiteDraft) -> Site:
    """Change a site, or make a new one; making one takes a key that is bound to no site."""
    require_scope(ctx.caller, Scope.ADMIN)
    if ctx.caller.site_id is None:
        require_service_wide(ctx.caller)
    elif ctx.caller.site_id != draft.site_id:
        raise Forbidden("this key belongs to another site")
    try:
        writer = ctx.resources.ledger.writer
        saved, _ = await store_site(writer, checked(draft), ctx.now, ctx.caller.actor)
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "the site cannot be saved now; try again shortly") from error
    ctx.resources.directory.forget()
    return saved


async def store_site(
    writer: Engine, wanted: SiteDraft, now: datetime, by: Actor = SERVICE
) -> tuple[Site, bool]:
    """Save a checked draft; the site as it is then, and whether it is new."""
    async with transaction(writer) as connection:
        known = {one.site_id: one for one in await all_sites(connection)}
        existing = known.get(wanted.site_id)
        # Defaults: UTC, weeks from Monday, events from any origin.
        base = existing or Site(
            wanted.site_id, wanted.site_id, "UTC", Weekday.MONDAY, (), created_at=now
        )
        saved = replace(
            base,
            name=wanted.name or base.name,
            timezone=wanted.timezone or base.timezone,
            week_start=wanted.week_start or base.week_start,
            origins=base.origins if wanted.origins is None else tuple(wanted.origins),
        )
        is_new = await create_site(connection, saved)
        if not is_new:
            await update_site(connection, saved)
        await record(connection, saving(existing, saved, by, now))
        return saved, is_new


def saving(before: Site | None, saved: Site, by: Actor, now: datetime) -> Entry:
    """The entry of the admin log for a site that was made (`before` is None) or changed."""
    new, old = _described(saved), _described(before) if before else {}
    if before is None:
        details: dict[str, object] = {"isNew": True, **new}
    else:
        changed = [name for name in new if new[name] != old[name]]
        changes = {name: {"from": old[name], "to": new[name]} for name in changed}
        details = {"isNew": False, "changes": changes}
    return Entry(now, by, AdminAction.SITE_SAVED, saved.site_id, saved.site_id, details)


def _described(site: Site) -> dict[str, object]:
    return {
        "name": site.name,
        "timezone": site.timezone,
        "weekStart": site.week_start.value,
        "origins": list(site.origins),
    }
