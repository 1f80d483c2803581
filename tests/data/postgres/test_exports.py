"""Destinations, plans and claims in the ledger, also where several are at it at once."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.exports.checking import DestinationInvalid
from data.exports.hooks import hook_hash, new_hook_token
from data.exports.records import RunAsked, RunProgress, RunStatus, StoredRun, Trigger
from data.local_secrets import NamedSecrets
from data.postgres.engine import transaction
from data.postgres.export_claims import Claim, DueTarget, abandon, claim, due_targets, renew
from data.postgres.export_destinations import (
    SecretChanges,
    SecretKind,
    delete_destination,
    destination_by_hook,
    destination_by_id,
    destinations,
    save_destination,
    sealed_secrets,
)
from data.postgres.export_outcomes import After, Failure, write_failure
from data.postgres.export_planning import PlannedMeanwhile, plan_run
from data.postgres.export_runs import runs_by_ids
from tests.fixtures.exporting import BACKUP, CLIENT, KEY, Exports


async def test_what_was_saved_is_read_by_anybody_but_its_secrets(
    exports: Exports, reader: AsyncEngine
) -> None:
    saved = await exports.save(name="Lake", client=exports.place("a"))
    other = await exports.save(name="Pond", client=exports.place("b"), site_id="blog")

    assert await destinations(reader) == [saved, other]
    assert await destinations(reader, "blog") == [other]
    assert await destination_by_id(reader, saved.destination_id) == saved
    assert (saved.planned_through, saved.runs, saved.version) == (0, 0, 1)
    assert saved.credentials_at is not None
    assert saved.hook_at is None


async def test_a_place_belongs_to_one_destination_for_ever(exports: Exports) -> None:
    first = await exports.save(client=exports.place("a/b"), backup=exports.place("safe"))
    for taken in ("a", "a/b", "a/b/c", "safe/x", ""):
        with pytest.raises(DestinationInvalid, match="the destination 'Lake'") as refused:
            await exports.save(name="Pond", client=exports.place(taken))
        assert refused.value.field == "prefix"
    with pytest.raises(DestinationInvalid, match="overlaps") as refused:
        await exports.save(client=exports.place("c"), backup=exports.place("a/b"))
    assert refused.value.field == "backupBucket"
    with pytest.raises(DestinationInvalid, match="a destination of another site") as refused:
        await exports.save(client=exports.place("a/b"), site_id="blog")
    assert "Lake" not in str(refused.value)

    # Also what it had once, and when it is gone.
    moved = await exports.save(first, client=exports.place("a/c"), backup=None)
    assert moved.destination.client.prefix == "a/c"
    async with transaction(exports.engine) as connection:
        await delete_destination(connection, first.destination_id, exports.now())
    for taken in ("a/b", "a/c", "safe"):
        with pytest.raises(DestinationInvalid, match="which was deleted"):
            await exports.save(client=exports.place(taken))
    with pytest.raises(DestinationInvalid, match="was deleted"):
        await exports.save(first)
    await exports.save(client=exports.place("a/d"))


async def test_a_destination_with_runs_stays_where_they_are(exports: Exports) -> None:
    saved = await exports.save()
    await exports.ask(saved)
    with pytest.raises(DestinationInvalid, match="a chain of runs stays together"):
        await exports.save(saved, client=exports.place("elsewhere"))
    with pytest.raises(DestinationInvalid, match="keeps its site"):
        await exports.save(saved, site_id="blog")
    other = await exports.save(saved, client=exports.place(region="eu-west-1"), name="Other")
    assert (other.version, other.destination.name) == (2, "Other")


async def test_a_backup_that_is_taken_away_is_not_waited_for(exports: Exports) -> None:
    saved = await exports.save(backup=exports.place("safe"))
    run = await exports.ask(saved)
    await exports.save(saved, backup=exports.place("safer"))
    ended = await exports.run(run)
    assert [target.status for target in ended.targets] == [RunStatus.PENDING, RunStatus.DEAD]
    assert ended.targets[1].reason == "BACKUP_REMOVED"


async def test_two_who_save_the_same_place_at_once_do_not_both_get_it(exports: Exports) -> None:
    found = await asyncio.gather(
        *(exports.save(name=f"Lake {number}") for number in range(4)), return_exceptions=True
    )
    refused = [one for one in found if isinstance(one, DestinationInvalid)]
    assert len(refused) == 3


async def test_secrets_are_changed_kept_and_forgotten_one_by_one(exports: Exports) -> None:
    saved = await exports.save(backup=exports.place("safe"), backup_key=replace(KEY, key_id="B"))
    whose, buckets = saved.destination_id, exports.buckets
    token = new_hook_token()

    async def change(**given: Any) -> None:
        async with transaction(exports.engine) as connection:
            changes = SecretChanges(**given)
            await save_destination(connection, saved.destination, changes, exports.now())

    await change(hook_hash=hook_hash(token), webhook="text")
    assert await buckets.kept_key(whose, CLIENT) == KEY
    assert await buckets.kept_key(whose, BACKUP) == replace(KEY, key_id="B")
    by_hook = await destination_by_hook(exports.engine, token)
    assert by_hook is not None
    assert by_hook.destination_id == whose
    assert by_hook.hook_at is not None
    assert await destination_by_hook(exports.engine, token[:-1]) is None
    sealed = await sealed_secrets(exports.engine, whose)
    assert sealed is not None
    assert sealed.webhook == "text"
    assert "local:" not in repr(sealed)

    await change(forgotten=frozenset({SecretKind.BACKUP, SecretKind.HOOK, SecretKind.WEBHOOK}))
    assert await buckets.kept_key(whose, BACKUP) == KEY
    assert await destination_by_hook(exports.engine, token) is None


async def test_secrets_move_on_to_a_new_master_key(exports: Exports) -> None:
    saved = await exports.save(backup=exports.place("safe"), backup_key=KEY)
    assert await exports.buckets.rewrap() == 0
    before = await sealed_secrets(exports.engine, saved.destination_id)
    NamedSecrets(exports.home).rotate()

    assert await exports.buckets.rewrap() == 2

    after = await sealed_secrets(exports.engine, saved.destination_id)
    assert before is not None
    assert after is not None
    assert after.client is not None
    assert after.client.startswith("local:v2.")
    assert after != before
    assert await exports.buckets.kept_key(saved.destination_id, CLIENT) == KEY
    assert await exports.buckets.rewrap() == 0


async def test_all_who_ask_at_once_get_the_same_run(exports: Exports) -> None:
    await exports.ingest(3)
    saved = await exports.save()
    runs = await asyncio.gather(*(exports.ask(saved) for _ in range(8)))
    assert len({run.run_id for run in runs}) == 1
    assert (await exports.stored(saved)).planned_through == 1


async def test_a_plan_on_what_was_counted_elsewhere_is_none(exports: Exports) -> None:
    await exports.ingest(3)
    saved = await exports.save()
    await exports.ask(saved)
    await exports.rows("update export_targets set status = 'SUCCEEDED'")
    asked = RunAsked(saved.destination_id, Trigger.SCHEDULE, counted_from=0)
    with pytest.raises(PlannedMeanwhile):
        async with transaction(exports.engine) as connection:
            await plan_run(connection, asked, exports.now())


async def due(exports: Exports, reached: int = 1_000, *, only_fresh: bool = False) -> list[str]:
    """The targets that may be taken up."""
    found = await due_targets(
        exports.engine, exports.now(), reached, only_fresh=only_fresh, first=10
    )
    return [one.kind.value for one in found]


async def taken(exports: Exports, run: StoredRun, holder: str = "me") -> Claim:
    """A claim on the client's target that must be there to be had."""
    claimed = await claim(exports.engine, DueTarget(run.run_id, CLIENT), exports.now(), holder)
    assert claimed is not None
    return claimed


async def test_a_target_is_held_by_one_until_its_time_is_over(exports: Exports) -> None:
    await exports.ingest(3)
    run = await exports.ask(await exports.save(backup=exports.place("safe")))
    assert await due(exports) == ["client", "backup"]
    assert await due(exports, reached=0) == []
    wanted = DueTarget(run.run_id, CLIENT)
    claims = await asyncio.gather(
        *(claim(exports.engine, wanted, exports.now(), str(who)) for who in range(8))
    )
    [first] = [one for one in claims if one is not None]
    assert (first.hold_id, first.target.attempts, first.target.is_held) == (1, 1, True)
    assert await due(exports) == ["backup"]
    assert await renew(exports.engine, first, RunProgress(1, 2, 3, 4), seconds=5)
    shown = (await runs_by_ids(exports.reader, [run.run_id]))[run.run_id].client
    assert shown.progress == RunProgress(1, 2, 3, 4)

    await exports.rows("update export_targets set held_until = clock_timestamp()")
    assert await due(exports) == ["client", "backup"]
    assert await due(exports, only_fresh=True) == ["backup"]
    second = await taken(exports, run, "another")
    assert (second.hold_id, second.target.attempts) == (2, 2)
    assert not await renew(exports.engine, first, RunProgress(), seconds=5)
    failure = Failure("BUSY", "it is busy", After.RETRY, exports.now())
    assert not await write_failure(exports.engine, first, failure, exports.now())
    assert await renew(exports.engine, second, RunProgress(), seconds=5)


async def test_a_claim_that_is_given_up_unused_counts_for_nothing(exports: Exports) -> None:
    run = await exports.ask(await exports.save())
    claimed = await taken(exports, run)
    await abandon(exports.engine, claimed, seconds=5)
    again = await taken(exports, run)
    assert (again.hold_id, again.target.attempts) == (2, 1)


async def test_a_failure_that_may_pass_is_due_at_its_time(exports: Exports) -> None:
    run = await exports.ask(await exports.save())
    claimed = await taken(exports, run)
    later = exports.now() + timedelta(minutes=5)
    failure = Failure("BUSY", "it is busy", After.RETRY, later)
    assert await write_failure(exports.engine, claimed, failure, exports.now())
    assert await due(exports) == []
    exports.wait(minutes=5)
    assert await due(exports) == ["client"]
    found = await exports.run(run)
    assert (found.status, found.client.error) == (RunStatus.FAILED, "it is busy")


async def test_what_piled_up_for_a_backup_holds_up_no_client(exports: Exports) -> None:
    await exports.ingest(1)
    resting = await exports.save(backup=exports.place("safe"))
    piled = await exports.ask(resting)
    other = await exports.save(name="Other", client=exports.place("other"))
    failed = await exports.ask(other)
    await exports.rows("update export_targets set status = 'SUCCEEDED' where target = 'client'")
    exports.wait(hours=1)
    tried = "status = 'FAILED', next_attempt_at = $1, attempts = 1"
    await exports.rows(
        f"update export_targets set {tried} where run_id = $2", exports.now(), failed.run_id
    )
    new = await exports.ask(await exports.save(name="Third", client=exports.place("third")))

    async def due(*, only_fresh: bool) -> list[DueTarget]:
        now = exports.now()
        return await due_targets(exports.engine, now, 1, only_fresh=only_fresh, first=9)

    waiting = [DueTarget(new.run_id, CLIENT), DueTarget(piled.run_id, BACKUP)]
    assert await due(only_fresh=True) == waiting
    assert await due(only_fresh=False) == [
        waiting[0],
        DueTarget(failed.run_id, CLIENT),
        waiting[1],
    ]
