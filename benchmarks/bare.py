"""An ASGI application that does nothing, under the settings that `footfall serve` gives uvicorn.

What it reaches is the ceiling of load generator, server and loopback together.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.load import Address

# About as long as the answer to one event.
_BODY = b'{"status":"success","event_id":"00000000-0000-0000-0000-000000000000","receipt":"NONE"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


async def bare_app(_: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


async def empty_app(_: Scope, __: Receive, send: Send) -> None:
    """Answer 204 at once."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _serve(app: ASGIApp) -> None:
    config = uvicorn.Config(
        app,
        lifespan="off",
        http="httptools",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2_048)
        print(listener.getsockname()[1], flush=True)
        await uvicorn.Server(config).serve(sockets=[listener])


_APPS: dict[str, ASGIApp] = {"answer": bare_app, "empty": empty_app}


@asynccontextmanager
async def bare_service(app: str = "answer") -> AsyncIterator[tuple[Address, int]]:
    """The application as a process of its own, with its process id: `answer`, or `empty` (204)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare", app, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            port = int(await process.stdout.readline())
        yield Address("127.0.0.1", port), process.pid
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(_APPS[sys.argv[1]]))
