"""The Redis connection: it helps while it is there, and costs nothing while it is not."""

import asyncio
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import WatchError
from structlog.testing import capture_logs

from data.redis.client import (
    RedisConnection,
    RedisPace,
    RedisRefused,
    RedisUnavailable,
    check_redis_url,
    open_redis,
)
from telemetry.metrics import Metrics, RedisOutcome
from tests.fixtures.redis import RedisServer, running_redis
from tests.fixtures.service import free_port

# Not timed assertions: bounds that only something that hangs would reach.
SOON = 30.0


def uses(metrics: Metrics, outcome: RedisOutcome) -> float:
    value = metrics.registry.get_sample_value("footfall_redis_uses_total", {"outcome": outcome})
    assert value is not None
    return value


async def ask(redis: RedisConnection) -> int:
    async with redis.using() as client:
        return await client.incr("count")


async def until_away(redis: RedisConnection) -> None:
    """Use Redis until it is known to be away."""
    async with asyncio.timeout(SOON):
        while redis.is_available:
            with pytest.raises(RedisUnavailable):
                await ask(redis)


async def until_back(redis: RedisConnection) -> None:
    async with asyncio.timeout(SOON):
        await redis.until_available()


async def test_it_answers_and_counts(redis: RedisConnection, metrics: Metrics) -> None:
    assert [await ask(redis), await ask(redis)] == [1, 2]

    assert redis.is_available
    assert uses(metrics, "succeeded") == 2


async def test_many_at_once_share_a_few_connections(
    redis_server: RedisServer, metrics: Metrics
) -> None:
    pace = RedisPace(answer_seconds=20, connections=10)
    async with open_redis(redis_server.url, metrics.redis, pace) as redis:
        answers = await asyncio.gather(*(ask(redis) for _ in range(500)))

        async with redis_server.client() as client:
            connections = [one for one in await client.client_list() if one["name"] == "footfall"]
    assert sorted(answers) == list(range(1, 501))
    assert 1 <= len(connections) <= 10


async def test_a_redis_that_is_killed_is_skipped_and_comes_back_by_itself(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    await ask(redis)
    with capture_logs() as logs:
        await redis_server.kill()
        await until_away(redis)
        for _ in range(100):
            with pytest.raises(RedisUnavailable):
                await ask(redis)
        async with asyncio.timeout(SOON):
            while not logs:
                await asyncio.sleep(0.02)
        await redis_server.start()
        await until_back(redis)

    assert await ask(redis) == 1
    assert uses(metrics, "skipped") >= 100
    assert uses(metrics, "failed") < 10
    assert [entry["event"] for entry in logs] == ["redis.gone", "redis.back"]


async def test_a_redis_that_hangs_holds_nobody_up(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    await asyncio.gather(*(ask(redis) for _ in range(50)))
    redis_server.freeze()

    # All of it while the server stands still: who waited for an answer would wait for ever.
    async with asyncio.timeout(SOON):
        # More than there are connections: some wait for one, and they give up as well.
        failures = await asyncio.gather(*(ask(redis) for _ in range(100)), return_exceptions=True)
        for _ in range(1_000):
            with pytest.raises(RedisUnavailable):
                await ask(redis)

    assert {type(failure) for failure in failures} == {RedisUnavailable}
    assert not redis.is_available
    assert uses(metrics, "skipped") >= 1_000
    redis_server.thaw()
    await until_back(redis)
    assert await ask(redis) > 50


async def test_answers_that_come_too_late_are_not_taken_for_those_of_later_questions(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    async with redis.using() as client:
        await client.set("late", "old")
    redis_server.freeze()
    with pytest.raises(RedisUnavailable):
        async with redis.using() as client:
            await client.get("late")
    redis_server.thaw()
    await until_back(redis)

    for number in range(100):
        async with redis.using() as client:
            assert await client.echo(str(number)) == str(number).encode()


async def test_a_caller_who_gives_up_leaves_the_connections_in_order(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    waiting = [asyncio.create_task(ask(redis)) for _ in range(10)]
    await asyncio.sleep(0.05)
    for task in waiting:
        task.cancel()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    redis_server.thaw()

    assert {type(one) for one in ended} == {asyncio.CancelledError}
    assert redis.is_available
    for number in range(50):
        async with redis.using() as client:
            assert await client.echo(str(number)) == str(number).encode()


async def test_cut_connections_are_made_anew_without_a_word(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    await asyncio.gather(*(ask(redis) for _ in range(20)))
    with capture_logs() as logs:
        await redis_server.drop_clients()
        async with asyncio.timeout(SOON), redis_server.client() as looking:
            while any(one["name"] == "footfall" for one in await looking.client_list()):
                await asyncio.sleep(0.02)
            # What the server has closed is known here before its next answer is.
            await looking.ping()
        await asyncio.sleep(0.05)
        answers = await asyncio.gather(*(ask(redis) for _ in range(20)))

    assert len(set(answers)) == 20
    assert logs == []


async def test_a_use_ends_in_time_though_each_of_its_commands_is_answered(
    redis: RedisConnection,
) -> None:
    async def go_on() -> None:
        async with redis.using() as client:
            while True:
                await client.echo("still there")

    async with asyncio.timeout(SOON):
        with pytest.raises(RedisUnavailable):
            await go_on()


async def test_connections_from_before_an_outage_are_not_used_after_it(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    async def connections() -> set[str]:
        async with redis_server.client() as client:
            clients = await client.client_list()
        return {one["id"] for one in clients if one["name"] == "footfall"}

    await asyncio.gather(*(ask(redis) for _ in range(10)))
    before = await connections()
    redis_server.freeze()
    await until_away(redis)
    redis_server.thaw()
    await until_back(redis)
    await ask(redis)

    assert len(before) > 1
    assert before & await connections() == set()


async def test_what_began_before_an_outage_says_nothing_about_the_time_after_it(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    async def begin_before_and_fail_after() -> None:
        with redis.outages():
            await redis_server.kill()
            await until_away(redis)
            await redis_server.start()
            await until_back(redis)
            raise ConnectionFailed

    with pytest.raises(RedisUnavailable):
        await begin_before_and_fail_after()

    assert redis.is_available


async def test_it_opens_while_redis_is_away_and_finds_it_later(
    tmp_path: Path, metrics: Metrics
) -> None:
    server = RedisServer(tmp_path)
    pace = RedisPace(look_seconds=0.1)
    async with open_redis(server.url, metrics.redis, pace) as redis:
        with pytest.raises(RedisUnavailable, match="Connect call failed"):
            await ask(redis)
        await server.start()
        try:
            await until_back(redis)
            assert await ask(redis) == 1
        finally:
            await server.kill()


async def test_what_redis_refuses_is_no_outage(
    redis: RedisConnection, redis_server: RedisServer, metrics: Metrics
) -> None:
    async with redis_server.client() as client:
        await client.config_set("maxmemory", "1")
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(RedisRefused, match="maxmemory"):
                async with redis.using() as client:
                    await client.set("x", "y")

    assert redis.is_available
    assert uses(metrics, "refused") == 3
    assert [entry["event"] for entry in logs] == ["redis.refused"]


async def test_errors_of_the_user_are_not_taken_for_outages(redis: RedisConnection) -> None:
    with pytest.raises(WatchError):
        async with redis.using():
            raise WatchError
    with pytest.raises(KeyError):
        async with redis.using():
            raise KeyError

    assert redis.is_available


async def test_a_wrong_password_is_said_once_and_never_shown(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with running_redis(tmp_path, "--requirepass", "right") as server:
        wrong = f"redis://:very-wrong@127.0.0.1:{server.port}"
        with capture_logs() as logs:
            async with open_redis(wrong, metrics.redis, RedisPace(look_seconds=0.05)) as redis:
                async with asyncio.timeout(SOON):
                    while not logs:
                        await asyncio.sleep(0.02)
                # Long enough to have been told so several times more.
                await asyncio.sleep(0.3)
                assert not redis.is_available
                assert "very-wrong" not in repr(redis)
        right = f"redis://:right@127.0.0.1:{server.port}/3"
        async with open_redis(right, metrics.redis, RedisPace(answer_seconds=10)) as redis:
            assert await ask(redis) == 1

    assert [entry["event"] for entry in logs] == ["redis.gone"]
    assert "very-wrong" not in str(logs)


async def test_a_socket_will_do(tmp_path: Path, metrics: Metrics) -> None:
    path = tmp_path / "redis.sock"
    async with (
        running_redis(tmp_path, "--unixsocket", str(path)),
        open_redis(f"unix://{path}?db=1", metrics.redis, RedisPace(answer_seconds=10)) as redis,
    ):
        # The server listens on its port, by which it is known to be there, a moment earlier.
        await redis.until_available()
        assert await ask(redis) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost", "redis://"),
        ("localhost:6379", "redis://"),
        ("redis://", "no host"),
        ("redis://localhost:port", "port"),
        ("redis://localhost:99999", "port"),
        ("redis://localhost/first", "number"),
        ("redis://localhost?db=first", "db"),
        ("unix://", "no socket"),
        ("rediss://localhost?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("rediss://localhost?ssl_check_hostname=false", "ssl_check_hostname"),
        ("redis://localhost?socket_timeout=60", "socket_timeout"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_redis_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:p%40ss@redis.example:6380/2",
        "rediss://redis.example/0?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock?db=2",
    ],
)
def test_an_address_that_can_be_used_passes(url: str) -> None:
    check_redis_url(url)


@asynccontextmanager
async def tls_in_front_of(server: RedisServer, folder: Path, host: str) -> AsyncIterator[int]:
    """The port of a TLS server with a certificate for `host` that passes all on to Redis."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(
            carry(reader, inner_writer), carry(inner_reader, writer), return_exceptions=True
        )

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port, ssl=context):
        yield port


async def test_tls_is_spoken_with_a_server_whose_certificate_is_right(
    redis_server: RedisServer, tmp_path: Path, metrics: Metrics
) -> None:
    async with tls_in_front_of(redis_server, tmp_path, "localhost") as port:
        known = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'cert.pem'}"
        async with open_redis(known, metrics.redis, RedisPace(answer_seconds=10)) as redis:
            assert await ask(redis) == 1


@pytest.mark.parametrize("host", ["localhost", "elsewhere.example"])
async def test_tls_is_not_spoken_with_just_anybody(
    host: str, redis_server: RedisServer, tmp_path: Path, metrics: Metrics
) -> None:
    async with tls_in_front_of(redis_server, tmp_path, host) as port:
        # Once nobody vouches for the certificate, once it is another host's.
        vouched = "" if host == "localhost" else f"?ssl_ca_certs={tmp_path / 'cert.pem'}"
        url = f"rediss://localhost:{port}{vouched}"
        async with open_redis(url, metrics.redis, RedisPace(answer_seconds=10)) as redis:
            with pytest.raises(RedisUnavailable, match=r"(?i)certificate"):
                await ask(redis)


async def test_nothing_is_left_open(redis_server: RedisServer, metrics: Metrics) -> None:
    pace = RedisPace(answer_seconds=10)
    async with open_redis(redis_server.url, metrics.redis, pace) as redis:
        await asyncio.gather(*(ask(redis) for _ in range(50)))

    async with redis_server.client() as client:
        names = [one["name"] for one in await client.client_list()]
    assert "footfall" not in names


async def test_whatever_happens_an_answer_is_the_right_one_or_none(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    outcomes: Counter[str] = Counter()
    is_over = False

    async def user(name: int) -> None:
        number = 0
        while not is_over:
            number += 1
            word = f"{name}-{number}".encode()
            try:
                async with redis.using() as client:
                    outcomes["right" if await client.echo(word) == word else "wrong"] += 1
            except RedisUnavailable:
                outcomes["none"] += 1
                await asyncio.sleep(0.005)

    users = [asyncio.create_task(user(name)) for name in range(60)]
    await asyncio.sleep(0.3)
    await redis_server.kill()
    await asyncio.sleep(0.2)
    await redis_server.start()
    await asyncio.sleep(0.5)
    redis_server.freeze()
    await asyncio.sleep(1.8)
    redis_server.thaw()
    await asyncio.sleep(0.2)
    await redis_server.drop_clients()
    await asyncio.sleep(0.3)
    is_over = True
    async with asyncio.timeout(SOON):
        await asyncio.gather(*users)

    await until_back(redis)
    assert outcomes["right"] > 100
    assert outcomes["none"] > 60
    assert outcomes["wrong"] == 0
