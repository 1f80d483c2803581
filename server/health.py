"""Health: whether the service can take events, and how each of its parts is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from data.resources import Resources
from jobs.runner import JobRunner
from resolvers.access import authenticate, require_service_wide
from resolvers.errors import Refusal
from resolvers.system import PartStatus, queue_takes, source_state, system_state
from server.addresses import client_address, is_near
from server.graphql_request import key_of
from server.settings import Network

_NOT_YOURS = {
    "status": "error",
    "code": "FORBIDDEN",
    "message": "ask from a private network, or with an admin key that is bound to no site",
}


async def health(request: Request) -> JSONResponse:
    """200 while events can be taken, else 503; each part by name."""
    resources: Resources = request.state.resources
    runner: JobRunner[Resources] = request.state.jobs
    state = await system_state(resources)
    parts = {part.name: part for part in state.parts}
    can_commit = parts["ledger"].status is not PartStatus.DOWN and not resources.lookout.is_away()
    can_ingest = can_commit or resources.spool.can_take or queue_takes(resources)
    is_whole = all(part.status is PartStatus.OK for part in state.parts)
    failing = [job.name for job in runner.states() if job.last_error]
    body = {
        "status": "ok" if can_ingest and is_whole else "degraded" if can_ingest else "down",
        "database": parts["ledger"].status.value.lower(),
        "replica": parts["replica"].status.value.lower(),
        "columnar": parts["columnar"].status.value.lower(),
        "spool": parts["spool"].status.value.lower(),
        "queue": parts["queue"].status.value.lower() if "queue" in parts else "none",
        "cache": parts["redis"].status.value.lower() if "redis" in parts else "none",
        "leader": resources.leadership.leader,
        "vault": parts["vault"].status.value.lower() if "vault" in parts else "none",
        "admin_log": parts["admin_log"].status.value.lower(),
        "scheduler": f"failing: {', '.join(failing)}" if failing else "ok",
        "sources": {source.key: source_state(source) for source in state.sources},
        "data_through": state.data_through.isoformat() if state.data_through else None,
        "details": {part.name: part.detail for part in state.parts},
    }
    return JSONResponse(body, 200 if can_ingest else 503, {"cache-control": "no-store"})


async def live(_: Request) -> JSONResponse:
    """The process answers, whatever else is the matter."""
    return JSONResponse({"status": "alive"}, headers={"cache-control": "no-store"})


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """All metrics. `proxies` None: anybody may read them.

    Otherwise only who asks from this machine or a private network, looking through these proxies,
    or with an admin key that is bound to no site.
    """

    proxies: Sequence[Network] | None = None

    async def get(self, request: Request) -> Response:
        """The page, as Prometheus reads it."""
        resources: Resources = request.state.resources
        if self.proxies is not None and not is_near(client_address(request.scope, self.proxies)):
            try:
                key = key_of(dict(request.scope["headers"]))
                caller = await authenticate(resources, key, resources.clock())
                require_service_wide(caller)
            except Refusal:
                return JSONResponse(_NOT_YOURS, 403, {"cache-control": "no-store"})
        page, content_type = resources.metrics.render()
        return Response(page, media_type=content_type)
