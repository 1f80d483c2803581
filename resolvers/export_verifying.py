"""Comparing what runs have left in buckets with what the ledger holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from data.admin_log import Actor, AdminAction, Entry
from data.export_buckets import NoCredentials
from data.exporter import NotPublished
from data.exports.checking import is_same_place
from data.exports.destination import Destination, TargetKind
from data.exports.records import RunStatus, StoredRun
from data.postgres.admin_log import record_alone
from data.postgres.engine import Engine, LedgerRefused, LedgerUnavailable
from data.s3.failures import BucketFailed, Verdict
from data.s3.places import PlaceInvalid
from data.secret_errors import (
    SecretMissing,
    SecretsUnavailable,
    SecretsUnreadable,
    Undecipherable,
)
from resolvers.context import Context
from resolvers.errors import BadUserInput, Unavailable
from resolvers.export_runs import require_run
from resolvers.export_views import Verified
from resolvers.exports import away, require_destination

# What differs of a run in one of its buckets; raises what `Exporter.verify` raises.
Compare = Callable[[UUID, TargetKind], Awaitable[list[str]]]

# So many problems stand in the admin log.
_NOTED = 20


async def verify(ctx: Context, text: str) -> Verified:
    """What differs of a run, in every bucket that it has published into."""
    run = await require_run(ctx, text)
    resources = ctx.resources
    stored = await require_destination(ctx, str(run.destination_id), "runId")
    problems = await problems_of(resources.exporter.verify, run, stored.destination)
    verified = Verified(run.run_id, problems, resources.clock())
    await note(resources.ledger.writer, run, verified, ctx.caller.actor)
    return verified


async def problems_of(compare: Compare, run: StoredRun, destination: Destination) -> list[str]:
    """What differs in the buckets that the destination has, a sentence each.

    Raises `BadUserInput` where there is nothing to compare, `Unavailable` where it cannot be found
    out now.
    """
    published = [one for one in run.targets if one.status is RunStatus.SUCCEEDED]
    # A backup that it has no more, or elsewhere by now, is nobody's business any more.
    done = [one.kind for one in published if is_same_place(one.place, destination.place(one.kind))]
    if not done:
        raise BadUserInput("runId", "the run has no manifest yet: there is nothing to compare")
    found = []
    for kind in done:
        where = "" if kind is TargetKind.CLIENT else "in the backup: "
        found += [f"{where}{problem}" for problem in await _problems(compare, run, kind)]
    return found


async def _problems(compare: Compare, run: StoredRun, kind: TargetKind) -> list[str]:
    try:
        return await compare(run.run_id, kind)
    except BucketFailed as failed:
        if failed.verdict is Verdict.MAY_PASS:
            raise Unavailable("bucket", f"{failed}; try again shortly") from None
        return [f"nothing can be read: {failed}"]
    except (NoCredentials, PlaceInvalid, SecretMissing, Undecipherable, NotPublished) as error:
        return [f"nothing can be read: {error}"]
    except (SecretsUnavailable, SecretsUnreadable) as error:
        raise Unavailable("secrets", "secrets cannot be read now; try again shortly") from error
    except (LedgerUnavailable, LedgerRefused) as error:
        raise away() from error


async def note(engine: Engine, run: StoredRun, verified: Verified, actor: Actor) -> None:
    """Have the admin log say that a run was compared, and what that came to."""
    details: dict[str, object] = {
        "number": run.number,
        "matches": verified.matches,
        "problems": list(verified.problems[:_NOTED]),
    }
    action, run_id = AdminAction.EXPORT_VERIFIED, str(run.run_id)
    entry = Entry(verified.verified_at, actor, action, run_id, run.site_id, details)
    try:
        await record_alone(engine, entry)
    except (LedgerUnavailable, LedgerRefused) as error:
        raise Unavailable("ledger", "this cannot be logged now; try again shortly") from error
