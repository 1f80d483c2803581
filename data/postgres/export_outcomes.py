"""What attempts at targets of runs come to, written with all that follows from it at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.admin_log import SERVICE, AdminAction, Entry
from data.exports.destination import TargetKind
from data.exports.manifest import Manifest
from data.exports.records import RunStatus
from data.postgres.admin_log import record
from data.postgres.engine import transaction
from data.postgres.export_claims import SETTINGS, Claim, still_held
from data.postgres.export_destinations import pause_target
from data.postgres.tables import export_targets

_MAX_ERROR = 2_000


class After(StrEnum):
    """What follows a failure: another try, a pause of the target, the end, or both of these."""

    RETRY = "RETRY"
    PAUSE = "PAUSE"
    DEATH = "DEATH"
    DEATH_AND_PAUSE = "DEATH_AND_PAUSE"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt came to nothing: a word for programs, a sentence for people."""

    reason: str
    error: str
    after: After
    # Of a retry.
    next_attempt_at: datetime | None = None


async def write_success(
    engine: AsyncEngine, claimed: Claim, manifest: Manifest, now: datetime
) -> bool:
    """Commit that a target was published; False, and nothing written, if the claim is lost."""
    raise NotImplementedError


async def write_failure(
    engine: AsyncEngine, claimed: Claim, failure: Failure, now: datetime
) -> bool:
    """Commit a failure and what follows from it; False if the claim is lost."""
    raise NotImplementedError
