"""Direct mode with two processes and a Redis that fails: nobody who sends or asks notices."""

from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.load import Load
from tests.fixtures.redis import RedisServer, running_redis
from tests.fixtures.service import Service, launch
from tests.fixtures.standby import Replicated


async def answered(load: Load) -> None:
    """Return when enough was sent and asked to have met what is the matter."""
    await load.until_more(lambda: load.statuses["ACCEPTED"], 300)
    await load.until_more(lambda: load.answers, 15)


async def killed(redis: RedisServer, load: Load) -> None:
    await redis.kill()
    await load.until("cache", "down")
    await answered(load)
    await redis.start()


async def frozen(redis: RedisServer, load: Load) -> None:
    redis.freeze()
    await load.until("cache", "down")
    await answered(load)
    redis.thaw()


async def full(redis: RedisServer, load: Load) -> None:
    async with redis.client() as client:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1")
        await answered(load)
        await client.config_set("maxmemory", "0")


async def restarted_empty(redis: RedisServer, load: Load) -> None:
    await redis.kill()
    for file in redis.folder.rglob("*.aof"):
        file.unlink()
    await redis.start()
    await answered(load)


async def started(stack: AsyncExitStack, home: Path, environment: dict[str, str]) -> Service:
    """A service, which does not outlive the test whatever happens in it."""
    service = await launch(home, None, **environment)
    stack.push_async_callback(service.client.aclose)
    stack.push_async_callback(service.stop)
    return service


async def test_redis_fails_in_direct_mode_and_no_client_notices(
    replicated: Replicated, tmp_path: Path
) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(running_redis(folder, "--appendonly", "yes"))
        environment = {
            "DATABASE_URL": replicated.primary.url(),
            "REPLICA_DATABASE_URL": replicated.standby.url("replica_user"),
            "REDIS_URL": redis.url,
        }
        one = await started(stack, tmp_path / "one", environment)
        # Before the other one starts, so that it knows the site from the beginning.
        await one.data('mutation { saveSite(input: {id: "shop"}) { id } }')
        load = Load([one, await started(stack, tmp_path / "other", environment)])
        async with load.flowing():
            for fault in (killed, frozen, full, restarted_empty):
                await fault(redis, load)
                await load.until("cache", "ok")
                await load.until("status", "ok")
                assert load.failed == {}, fault.__name__
        await load.whole()
        for service in load.services:
            assert await service.stop() == 0
        await replicated.caught_up()
        await load.count(replicated.primary, replicated.standby)

    assert load.failed == {}
    assert load.statuses.keys() == {"ACCEPTED"}
