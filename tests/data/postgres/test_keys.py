"""Keys in the ledger: ending them."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import transaction
from data.postgres.keys import Scope, all_keys, revoke_key
from resolvers.keys import KeyDraft, store_key
from resolvers.sites import SiteDraft, checked, store_site

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_a_key_is_ended_once_and_only_for_the_site_that_it_is_of(
    writer: AsyncEngine,
) -> None:
    for site_id in ("shop", "blog"):
        await store_site(writer, checked(SiteDraft(site_id)), NOW)
    made = await store_key(writer, KeyDraft("test", (Scope.READ,)), "blog", NOW)
    everywhere = await store_key(writer, KeyDraft("test", (Scope.READ,)), None, NOW)

    async with transaction(writer) as connection:
        assert not await revoke_key(connection, made.key_id, NOW, "shop")
        assert not await revoke_key(connection, everywhere.key_id, NOW, "shop")
        assert await revoke_key(connection, made.key_id, NOW, "blog")
        assert not await revoke_key(connection, made.key_id, NOW)
        assert await revoke_key(connection, everywhere.key_id, NOW)
        revoked = {key.key_id: key.revoked_at for key in await all_keys(connection)}

    assert revoked == {made.key_id: NOW, everywhere.key_id: NOW}
