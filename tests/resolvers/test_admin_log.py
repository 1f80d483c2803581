"""What is done outside of the ledger, and stands in the log all the same."""

import pytest

from data.admin_log import AdminAction, LoggedEntry
from data.postgres.admin_log import LogQuery, log_page
from resolvers.access import authenticate
from resolvers.admin_log import logged
from resolvers.context import Context
from resolvers.errors import Unavailable
from resolvers.throttle import Throttle
from schema.build import graphql_schema
from schema.operations import Operations, Policy
from tests.fixtures.app import App
from tests.fixtures.ledger import Database


async def context_of(app: App) -> Context:
    caller = await authenticate(app.resources, app.admin_key, app.resources.clock())
    policy = Policy(hide_suggestions=False, is_introspection_open=True)
    return Operations(graphql_schema(), policy, Throttle()).context(app.resources, caller)


async def dropped(app: App) -> list[LoggedEntry]:
    writer = app.resources.ledger.writer
    return await log_page(writer, LogQuery(first=9, action=AdminAction.CACHE_INVALIDATED))


async def drop(ctx: Context, done: list[str], error: Exception | None = None) -> None:
    async with logged(ctx, AdminAction.CACHE_INVALIDATED, "shop", "shop") as details:
        done.append("dropped")
        if error:
            raise error
        details["dropped"] = 3


async def test_it_is_logged_when_it_was_done_and_not_when_it_failed(app: App) -> None:
    ctx, done = await context_of(app), list[str]()

    with pytest.raises(LookupError):
        await drop(ctx, done, LookupError())
    assert await dropped(app) == []
    await drop(ctx, done)

    [entry] = await dropped(app)
    assert (entry.details, entry.target, entry.site_id) == ('{"dropped":3}', "shop", "shop")
    assert (entry.actor, entry.at) == (ctx.caller.actor, ctx.now)
    assert done == ["dropped", "dropped"]


async def test_it_is_not_begun_where_it_could_not_be_logged(app: App, database: Database) -> None:
    ctx, done = await context_of(app), list[str]()
    superuser = await database.connect()
    await superuser.execute("alter table admin_log rename to away")
    await superuser.close()

    with pytest.raises(Unavailable):
        await drop(ctx, done)

    assert done == []
