"""The admin log as values: one way to write an entry down, and a chain that shows every change."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.admin_log import (
    NOTHING,
    Actor,
    AdminAction,
    BreakKind,
    Entry,
    Head,
    LoggedEntry,
    break_at,
    break_before,
    canonical,
    follow,
    hash_of,
    hashed_text,
)

# What PostgreSQL keeps: no NUL, and no half of a surrogate pair.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
entries = st.builds(
    Entry,
    at=st.datetimes(timezones=st.just(UTC)),
    actor=st.builds(Actor, texts, texts),
    action=st.sampled_from(AdminAction),
    target=texts,
    site_id=st.none() | texts,
    details=st.dictionaries(texts, values, max_size=4),
)

AN_ENTRY = Entry(
    datetime(2026, 3, 1, 12, tzinfo=UTC),
    Actor("a1b2", "Ops “one”"),
    AdminAction.KEY_CREATED,
    "c3d4",
    "shop",
    {"scopes": ["READ"], "name": "line\nbreak"},
)


def chained(listed: list[Entry]) -> list[LoggedEntry]:
    """Entries as a log holds them."""
    head, log = NOTHING, []
    for entry in listed:
        logged = follow(head, entry)
        log.append(logged)
        head = logged.head
    return log


def first_break(log: list[LoggedEntry]) -> tuple[BreakKind, int] | None:
    """Kind and position of the first break of a log."""
    head = NOTHING
    for logged in log:
        if broken := break_before(logged, head):
            return broken.kind, broken.position
        head = logged.head
    return None


def test_the_text_that_is_hashed_is_the_documented_one() -> None:
    logged = follow(NOTHING, AN_ENTRY)

    assert hashed_text(logged) == (
        '{"action":"key.created","actorKeyId":"a1b2","actorName":"Ops “one”",'
        '"at":"2026-03-01T12:00:00.000000Z",'
        r'"details":"{\"name\":\"line\\nbreak\",\"scopes\":[\"READ\"]}",'
        f'"format":1,"position":1,"previousHash":"{"0" * 64}","siteId":"shop","target":"c3d4"}}'
    )
    assert logged.hash == sha256(hashed_text(logged).encode()).hexdigest()


@given(values)
def test_a_value_has_one_text_whatever_the_order_of_its_fields(value: object) -> None:
    def turned(one: object) -> object:
        if isinstance(one, dict):
            return {name: turned(one[name]) for name in reversed(one)}
        return [turned(item) for item in one] if isinstance(one, list) else one

    assert canonical(turned(value)) == canonical(value)
    assert json.loads(canonical(value)) == value


@given(st.lists(entries, max_size=6))
def test_what_was_added_in_order_is_whole(listed: list[Entry]) -> None:
    log = chained(listed)

    assert first_break(log) is None
    assert [one.position for one in log] == list(range(1, len(listed) + 1))
    for before, after in pairwise(log):
        assert after.previous_hash == before.hash


CHANGES = {
    "at": timedelta(microseconds=1),
    "site_id": "another",
    "action": "another",
    "target": "another",
    "details": '{"a":"another"}',
}


@given(st.lists(entries, min_size=1, max_size=6), st.data())
def test_whatever_is_changed_is_found_where_it_was_changed(
    listed: list[Entry], data: st.DataObject
) -> None:
    log = chained(listed)
    index = data.draw(st.integers(0, len(log) - 1))
    name = data.draw(st.sampled_from([*CHANGES, "actor"]))
    victim = log[index]
    change: Any = CHANGES.get(name, Actor("another", victim.actor.name))
    if isinstance(change, timedelta):
        step = change if victim.at.year < 9999 else -change
        change = victim.at + step
    log[index] = replace(victim, **{name: change})

    assert first_break(log) == (BreakKind.ALTERED, index + 1)


@given(st.lists(entries, min_size=2, max_size=6), entries, st.data())
def test_an_entry_that_is_replaced_with_its_hash_no_longer_fits_the_next_one(
    listed: list[Entry], other: Entry, data: st.DataObject
) -> None:
    log = chained(listed)
    index = data.draw(st.integers(0, len(log) - 2))
    before = log[index - 1].head if index else NOTHING
    forged = follow(before, replace(other, target=f"{log[index].target}!"))
    log[index] = forged

    assert first_break(log) == (BreakKind.UNLINKED, index + 2)


@given(st.lists(entries, min_size=2, max_size=6), st.data())
def test_an_entry_that_is_taken_out_or_moved_is_missed(
    listed: list[Entry], data: st.DataObject
) -> None:
    log = chained(listed)
    index = data.draw(st.integers(0, len(log) - 2))
    without, moved = log[:], log[:]
    del without[index]
    moved[index], moved[index + 1] = moved[index + 1], moved[index]

    assert first_break(without) == (BreakKind.MISSING, index + 1)
    assert first_break(moved) == (BreakKind.MISSING, index + 1)


@given(st.lists(entries, min_size=2, max_size=6), st.data())
def test_a_log_whose_end_is_cut_off_is_whole_but_for_the_end_that_was_seen(
    listed: list[Entry], data: st.DataObject
) -> None:
    log = chained(listed)
    left = log[: data.draw(st.integers(0, len(log) - 1))]
    newest = left[-1].head if left else NOTHING
    seen = log[-1].head

    assert first_break(left) is None
    broken = break_at(seen, None, newest)
    assert broken is not None
    assert (broken.kind, broken.position) == (BreakKind.CUT_OFF, len(log))
    assert break_at(seen, seen, seen) is None
    assert break_at(NOTHING, None, newest) is None
    other = break_at(seen, Head(seen.position, "f" * 64), seen)
    assert other is not None
    assert other.kind is BreakKind.REPLACED


def test_moments_of_every_zone_are_kept_as_those_of_utc() -> None:
    there = AN_ENTRY.at.astimezone(timezone(timedelta(hours=5, minutes=45)))

    assert follow(NOTHING, replace(AN_ENTRY, at=there)).hash == follow(NOTHING, AN_ENTRY).hash
    with pytest.raises(ValueError, match="zone"):
        follow(NOTHING, replace(AN_ENTRY, at=datetime(2026, 3, 1)))


@pytest.mark.parametrize("details", [{"a": float("nan")}, {"a": float("inf")}, {"a": {1, 2}}])
def test_details_that_are_no_json_are_refused(details: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        follow(NOTHING, replace(AN_ENTRY, details=details))


def test_a_break_says_in_words_what_was_expected_and_found() -> None:
    logged = follow(NOTHING, AN_ENTRY)
    broken = break_before(replace(logged, target="other"), NOTHING)

    assert broken is not None
    assert str(broken).startswith("entry 1 was altered")
    assert logged.hash in str(broken)
    assert hash_of(replace(logged, target="other")) in str(broken)
