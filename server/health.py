"""Health: whether the service can take events, and how each of its parts is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from data.resources import Resources
from jobs.runner import JobRunner
from resolvers.access import authenticate, require_service_wide
from resolvers.errors import RateLimited, Refusal, Unauthenticated
from resolvers.system import (
    Looks,
    PartStatus,
    SystemState,
    look,
    queue_takes,
    source_state,
    system_state,
)
from server.addresses import client_address, is_near
from server.failed_logins import note_login_failure
from server.graphql_request import key_of
from server.metering import meter_of
from server.settings import Network

_NO_STORE = {"cache-control": "no-store"}
# Names in the answer, and those of `system`.
_SHOWN = {
    "database": "ledger",
    "replica": "replica",
    "columnar": "columnar",
    "spool": "spool",
    "queue": "queue",
    "cache": "redis",
    "vault": "vault",
    "admin_log": "admin_log",
}
_NOT_YOURS = {
    "status": "error",
    "code": "FORBIDDEN",
    "message": "ask from a private network, or with an admin key that is bound to no site",
}


@dataclass(slots=True)
class _SharedLooks:
    """What the databases say, asked for once in a while however many want to know.

    Anybody may ask how the service is: they shall not keep its connections busy with that.
    """

    seconds: float = 1.0
    _looking: asyncio.Task[Looks] | None = None
    _began_at: float = 0.0

    async def of(self, resources: Resources) -> Looks:
        """The looks that began a second ago at most, or are still under way."""
        looking = self._looking
        if looking is None or (looking.done() and monotonic() - self._began_at > self.seconds):
            self._began_at = monotonic()
            looking = self._looking = asyncio.create_task(look(resources), name="health-look")
        # Who goes away does not take it from the others.
        return await asyncio.shield(looking)


@dataclass(slots=True)
class HealthPage:
    """How the service is. To strangers (see `_is_known`) without names, numbers and sentences."""

    proxies: Sequence[Network] | None = None
    _looks: _SharedLooks = field(default_factory=_SharedLooks)

    async def get(self, request: Request) -> JSONResponse:
        """200 while events can be taken, else 503; each part by name."""
        resources: Resources = request.state.resources
        runner: JobRunner[Resources] = request.state.jobs
        state = await system_state(resources, await self._looks.of(resources))
        can_ingest = _can_ingest(resources, state)
        failing = [job.name for job in runner.states() if job.last_error]
        body = {"status": _status(state, can_ingest=can_ingest), **_parts(state)}
        body["scheduler"] = "failing" if failing else "ok"
        if await self._tells(request):
            body |= {
                "leader": resources.leadership.leader,
                "scheduler": f"failing: {', '.join(failing)}" if failing else "ok",
                "sources": {source.key: source_state(source) for source in state.sources},
                "data_through": state.data_through.isoformat() if state.data_through else None,
                "details": {part.name: part.detail for part in state.parts},
            }
        return JSONResponse(body, 200 if can_ingest else 503, _NO_STORE)

    async def _tells(self, request: Request) -> bool:
        try:
            return await _is_known(request, self.proxies)
        except RateLimited:
            return False  # whoever tries keys still gets to know what all do


def _can_ingest(resources: Resources, state: SystemState) -> bool:
    ledger = next(part for part in state.parts if part.name == "ledger")
    can_commit = ledger.status is not PartStatus.DOWN and not resources.lookout.is_away()
    return can_commit or resources.spool.can_take or queue_takes(resources)


def _status(state: SystemState, *, can_ingest: bool) -> str:
    is_whole = all(part.status is PartStatus.OK for part in state.parts)
    return "ok" if can_ingest and is_whole else "degraded" if can_ingest else "down"


def _parts(state: SystemState) -> dict[str, object]:
    """The parts by the names that operators know them by."""
    found = {part.name: part.status.value.lower() for part in state.parts}
    return {shown: found.get(name, "none") for shown, name in _SHOWN.items()}


async def live(_: Request) -> JSONResponse:
    """The process answers, whatever else is the matter."""
    return JSONResponse({"status": "alive"}, headers=_NO_STORE)


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """All metrics, for those who are known (see `_is_known`)."""

    proxies: Sequence[Network] | None = None

    async def get(self, request: Request) -> Response:
        """The page, as Prometheus reads it."""
        resources: Resources = request.state.resources
        try:
            if not await _is_known(request, self.proxies):
                return JSONResponse(_NOT_YOURS, 403, _NO_STORE)
        except RateLimited as limited:
            body = {"status": "error", "code": "RATE_LIMITED", "message": limited.message}
            wait = {"retry-after": str(limited.retry_after)}
            return JSONResponse(body, 429, {**_NO_STORE, **wait})
        page, content_type = resources.metrics.render()
        return Response(page, media_type=content_type)


async def _is_known(request: Request, proxies: Sequence[Network] | None) -> bool:
    """Whether all may be told; `proxies` None: to anybody.

    Otherwise only to who asks from this machine or a private network, looking through these
    proxies, or with an admin key that is bound to no site. A key that is no good counts, as it does
    everywhere; raises `RateLimited` where there were too many.
    """
    scope = request.scope
    if proxies is None or is_near(client_address(scope, proxies)):
        return True
    key = key_of(dict(scope["headers"]))
    resources: Resources = request.state.resources
    try:
        require_service_wide(await authenticate(resources, key, resources.clock()))
    except Unauthenticated:
        note_login_failure(scope, key, proxies)
        meter = meter_of(scope, proxies) if key else None
        if meter is not None:
            await meter.count("query")
        return False
    except Refusal:
        return False
    return True
