"""The one place that says no: who a key belongs to, and what it may do with which site."""

from __future__ import annotations

from datetime import datetime

from data.postgres.engine import LedgerUnavailable
from data.postgres.keys import ApiKey, Scope, hash_secret, secret_matches, split_key
from data.postgres.sites import Site
from data.resources import Resources
from data.secrets import ADMIN_KEY_ID
from resolvers.context import Caller, Context
from resolvers.errors import BadUserInput, Forbidden, NotFound, Unauthenticated, Unavailable

# Compared with where a key's id is unknown, so that both cases take the same time.
_NOBODY = hash_secret("")
_ADMIN = Caller(ADMIN_KEY_ID, "service-wide admin key", frozenset(Scope), None)


async def authenticate(resources: Resources, key_text: str | None, now: datetime) -> Caller:
    """Who sends this key; raises `Unauthenticated`, without a word on what is wrong with it."""
    if not key_text:
        raise Unauthenticated("send an API key in the X-API-Key header")
    parts = split_key(key_text)
    if parts is None:
        raise Unauthenticated("the API key is not valid")
    key_id, secret = parts
    if key_id == ADMIN_KEY_ID:
        if not secret_matches(secret, resources.secrets.admin_key_hash):
            raise Unauthenticated("the API key is not valid")
        return _ADMIN
    known = await _key(resources, key_id)
    matches = secret_matches(secret, known.secret_hash if known else _NOBODY)
    if known is None or not matches or not known.is_valid(now):
        raise Unauthenticated("the API key is not valid")
    resources.key_uses.note(key_id, now)
    return Caller(
        key_id=key_id,
        name=known.name,
        scopes=known.scopes,
        site_id=known.site_id,
        expires_at=known.expires_at,
        documents=known.documents,
    )


async def _key(resources: Resources, key_id: str) -> ApiKey | None:
    try:
        return await resources.directory.key(key_id)
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "keys cannot be checked now; try again shortly") from error


def require_scope(caller: Caller, scope: Scope) -> None:
    """Raises `Forbidden` unless the key has the scope."""
    if scope not in caller.scopes:
        raise Forbidden(f"this needs a key with the scope {scope.value}")


def require_service_wide(caller: Caller) -> None:
    """Raises `Forbidden` unless the key is an admin's and bound to no site."""
    require_scope(caller, Scope.ADMIN)
    if caller.site_id is not None:
        raise Forbidden("this needs an admin key that is not bound to a site")


async def require_site(ctx: Context, site_id: str | None, scope: Scope) -> Site:
    """The site that is meant, if the caller may do this with it.

    Where `site_id` is left out, the key's own site or, for a key of all sites, the only one.
    A key of one site learns nothing about others, not even whether they exist.
    """
    require_scope(ctx.caller, scope)
    own = ctx.caller.site_id
    if own is not None:
        if site_id not in (None, own):
            raise Forbidden("this key belongs to another site")
        site_id = own
    try:
        if site_id is None:
            return await _only_site(ctx)
        site = await ctx.resources.directory.site(site_id)
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "sites cannot be read now; try again shortly") from error
    if site is None:
        raise NotFound(f"there is no site {site_id!r}", argument="siteId")
    return site


async def _only_site(ctx: Context) -> Site:
    sites = await ctx.resources.directory.sites()
    if len(sites) != 1:
        raise BadUserInput("siteId", f"say which of the {len(sites)} sites is meant")
    return sites[0]
