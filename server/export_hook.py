"""`POST /hooks/export/TOKEN`: a client's own systems begin a run of an export.

The token is all that counts: no cookie, no header of a browser. Whoever knows it can begin a run
and gets to know its id, nothing else. A body may come along, and is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from data.resources import Resources
from resolvers.errors import NotFound, RateLimited, Unavailable
from resolvers.export_changes import ExportPaused
from resolvers.export_hooks import begin_by_hook
from server.failed_logins import note_login_failure
from server.metering import meter_of, telling
from server.responses import Answer, Header, encode_json, send_answer
from server.settings import Network

ROUTE = "/hooks/export/{token}"

_NO_STORE: Header = (b"cache-control", b"no-store")
_POST: Header = (b"allow", b"POST")


@dataclass(frozen=True, slots=True)
class ExportHook:
    """The ASGI endpoint. The resources come with the lifespan's state."""

    trusted_proxies: Sequence[Network]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer a request, which counts before its token is looked at: nobody tries many."""
        meter = meter_of(scope, self.trusted_proxies)
        if meter is not None:
            send = telling(send, meter)
            try:
                await meter.count("query")
            except RateLimited as limited:
                body = _error(limited.code.value, limited.message)
                answer = Answer(429, body, headers=(_wait(limited.retry_after),))
                await send_answer(send, answer, [_NO_STORE])
                return
        await send_answer(send, await self._answer(scope), [_NO_STORE])

    async def _answer(self, scope: Scope) -> Answer:
        if scope["method"] != "POST":
            return Answer(405, _error("METHOD_NOT_ALLOWED", "use POST"), headers=(_POST,))
        resources: Resources = scope["state"]["resources"]
        token: str = scope["path_params"]["token"]
        try:
            begun = await begin_by_hook(resources, token)
        except NotFound as unknown:
            note_login_failure(scope, token, self.trusted_proxies)
            return Answer(404, _error(unknown.code.value, unknown.message))
        except ExportPaused as paused:
            return Answer(409, _error("PAUSED", paused.message))
        except Unavailable as away:
            body = _error(away.code.value, away.message)
            return Answer(503, body, headers=(_wait(away.retry_after),))
        status = "accepted" if begun.is_new else "under way"
        body = encode_json({"status": status, "run_id": begun.run_id})
        return Answer(202 if begun.is_new else 200, body)


def _error(code: str, message: str) -> bytes:
    return encode_json({"status": "error", "code": code, "message": message})


def _wait(seconds: int) -> Header:
    return b"retry-after", b"%d" % seconds
