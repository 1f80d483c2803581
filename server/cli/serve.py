"""`footfall serve`: the service, from a free port to an orderly end."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any

import structlog
import typer
import uvicorn

from data.background import in_background
from data.resources import Resources
from server.app import create_app
from server.cli.failures import CommandFailed, Stopped
from server.cli.session import end_if_stopped, run
from server.cli.terminal import show
from server.production import require_fit
from server.settings import Settings, load_settings
from server.slow_clients import GuardedHttp, ending_slow_clients
from telemetry.logs import configure_logs

log = structlog.get_logger()

STOP_WORDS = "Ctrl-C stops it."

_GRACE_SECONDS = 10
_BACKLOG = 2_048
# Connections take these from the socket that listens: what may lie unsent in the system's buffers,
# in bytes, and for how long a peer may take nothing of it, in milliseconds. Not every system has
# them.
_FOR_PEERS_THAT_DO_NOT_READ = {"TCP_NOTSENT_LOWAT": 131_072, "TCP_USER_TIMEOUT": 60_000}
_MAX_FRAME_BYTES = 4 * 1024 * 1024
_PING_SECONDS = 20

Host = Annotated[str | None, typer.Option(help="The address to listen on; HOST if left out.")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="The port; PORT if left out, 0 for any free one."),
]
# Called once the service answers, with its address; ends before the service does.
Announce = Callable[[Resources, str], Awaitable[None]]


def serve(host: Host = None, port: Port = None) -> None:
    """Run the service, until Ctrl-C or SIGTERM."""
    settings = settings_to_serve(host, port)
    configure_logs(level=settings.log_level, json=settings.is_production)
    # Before anything is started: a port that is taken is the likeliest trouble, and cheap to find.
    with listening(settings.host, settings.port) as listener:
        run(serve_on(listener, settings, _announce(settings)))


def settings_to_serve(host: str | None, port: int | None) -> Settings:
    """The settings, with what was given on the command line in place of theirs.

    Raises `UnfitForProduction` where they are none to face real users with.
    """
    given = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    require_fit(settings)
    return settings


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; who connects waits until the service answers."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CommandFailed(f"{host} is no address of this machine: pass another --host") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for name, value in _FOR_PEERS_THAT_DO_NOT_READ.items():
            if (option := getattr(socket, name, None)) is not None:
                listener.setsockopt(socket.IPPROTO_TCP, option, value)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise CommandFailed(_why_not_bound(error, host, port)) from error
        yield listener


def _why_not_bound(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: stop the other program or pass --port"
    if error.errno == errno.EACCES:
        return f"this user may not use port {port}: pass a --port from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: pass another --host"
    return f"{host} port {port} cannot be listened on ({os.strerror(error.errno or 0)})"


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds the service."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - recognised, not bound
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def serve_on(listener: socket.socket, settings: Settings, announce: Announce) -> None:
    """Answer on a listening socket until a signal comes; raises `Stopped` for Ctrl-C.

    The lifespan is entered here and not by uvicorn, which would log a traceback for whatever
    keeps the service from starting and leave with an exit code of its own.
    """
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=GuardedHttp,
        log_config=None,
        # It tells of starting and stopping, which we do ourselves.
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        # Its `send` waits until a peer has room, so nothing piles up for one that does not read.
        ws="websockets-sansio",
        # Above what we take, so that it is us who say why a larger one is refused.
        ws_max_size=_MAX_FRAME_BYTES,
        # Payloads are encoded once for all readers; compressing them for each would undo that.
        ws_per_message_deflate=False,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
    )
    async with app.router.lifespan_context(app) as state:
        assert state is not None  # create_app's lifespan yields one
        end_if_stopped()
        server = _Server(config, dict(state))
        looking = ending_slow_clients(
            server.server_state, settings.receive_timeout_seconds, state["http_metrics"]
        )
        # What is there now stays: collections need not look at it over and over.
        gc.collect()
        gc.freeze()
        announcing = asyncio.create_task(
            _announce_when_ready(server, announce, state["resources"], url_of(listener))
        )
        async with in_background(looking):
            with _noted_signals(server) as noted:
                await server.serve(sockets=[listener])
        gc.unfreeze()
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
    if signal.SIGINT in noted:
        raise Stopped(signal.SIGINT)


class _Server(uvicorn.Server):
    """Uvicorn, which hands every request the state of a lifespan that is open already."""

    def __init__(self, config: uvicorn.Config, state: dict[str, Any]) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state.update(self._state)
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Event streams never end by themselves.
        self._state["connections"].end_all()
        await super().shutdown(sockets)


@contextmanager
def _noted_signals(server: uvicorn.Server) -> Iterator[list[int]]:
    """Signals that uvicorn acts on and raises anew at its end, so that we get to know of them."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        # One that comes just before uvicorn listens to signals would be noted and not acted on.
        server.should_exit = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _announce_when_ready(
    server: _Server, announce: Announce, resources: Resources, url: str
) -> None:
    await server.ready.wait()
    log.info("service.listening", url=url)
    try:
        await announce(resources, url)
    except Exception:
        # The service goes on, whether or not somebody reads what it says.
        log.exception("service.announcement.failed")


def _announce(settings: Settings) -> Announce:
    async def announce(resources: Resources, url: str) -> None:
        if settings.is_production:
            return  # the log has it
        show_addresses(settings, resources, url)
        show(STOP_WORDS)

    return announce


def show_addresses(settings: Settings, resources: Resources, url: str) -> None:
    """Print where everything is."""
    database = "PostgreSQL of its own" if resources.ledger.is_embedded else "DATABASE_URL"
    show(f"Footfall {version('footfall')} answers on {url}")
    explorer = "" if settings.is_production else "  (in a browser: GraphiQL)"
    show(f"  GraphQL   {url}/graphql{explorer}")
    show(f"  collect   {url}/collect")
    show(f"  health    {url}/health")
    show(f"  metrics   {url}/metrics")
    show(f"  data      {settings.home} ({database})")
