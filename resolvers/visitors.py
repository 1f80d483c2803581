"""Visitors of whom a page says nothing: told apart for a day, without keeping who they are."""

from __future__ import annotations

import hmac
from datetime import datetime
from hashlib import sha256

from data.postgres.engine import LedgerUnavailable
from data.postgres.salts import SaltKeeper
from resolvers.errors import Unavailable


async def visitor_id(
    salts: SaltKeeper, *, site_id: str, address: str, user_agent: str, now: datetime
) -> str:
    """32 hex digits that stand for one browser on one site on one UTC day.

    Made from the day's random salt, which is destroyed 48 hours after the day began: from then
    on nobody can find out from which address an id was made, not even by trying them all.
    """
    try:
        salt = await salts.salt(now)
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "events cannot be taken now; try again shortly") from error
    # Lengths first: no two different visitors can be written the same way.
    parts = (site_id, address, user_agent)
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hmac.new(salt, text.encode("utf-8", "surrogatepass"), sha256).hexdigest()[:32]
