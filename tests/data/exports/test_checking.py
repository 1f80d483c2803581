"""Which destinations can be, and what is said of those that cannot."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.exports.checking import (
    DestinationInvalid,
    Occupied,
    check_destination,
    check_range,
    first_overlap,
)
from data.exports.destination import AssumedRole, Destination, Place, RunLayout, role_key_of
from data.exports.hooks import hook_hash, new_hook_token
from data.exports.schedule import next_run
from data.queries import EventFilter, Field, StringFilter
from data.s3.places import AccessKey, PlaceInvalid, Role

NOW = datetime(2026, 3, 5, 12, 34, 56, tzinfo=UTC)
ARN = "arn:aws:iam::123456789012:role/exports"


def destination(**given: Any) -> Destination:
    usual: dict[str, Any] = {
        "destination_id": UUID(int=1),
        "site_id": "shop",
        "name": "Lake",
        "client": place(),
    }
    return Destination(**(usual | given))


def place(prefix: str = "a/b", bucket: str = "lake", **given: Any) -> Place:
    return Place(**({"bucket": bucket, "prefix": prefix, "region": "eu-central-1"} | given))


def test_what_can_be_is_let_through() -> None:
    for schedule in ("HOURLY", "DAILY", "REALTIME", "MANUAL", "*/5 8-18 * * mon-fri"):
        check_destination(destination(schedule=schedule, timezone="Europe/Berlin"))
    check_destination(
        destination(
            client=place(role=AssumedRole(arn=ARN, external_id="footfall-1")),
            backup=place("c", endpoint="https://s3.example.com", region="any"),
            layout=RunLayout(fields=("user_id",), max_file_bytes=1024 * 1024),
            threshold_events=1,
        )
    )


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"name": " "}, "name", "1 to 100 characters"),
        ({"name": "a\nb"}, "name", "1 to 100 characters"),
        ({"client": place(bucket="Lake")}, "bucket", "no bucket is named 'Lake'"),
        ({"client": place("a/../b")}, "prefix", r"must not go through '\.\.'"),
        ({"client": place("a//b")}, "prefix", "two slashes"),
        ({"client": place(region="mars-1")}, "region", "AWS has no region 'mars-1'"),
        ({"client": place(endpoint="s3.example")}, "endpointUrl", "a URL such as"),
        ({"client": place(endpoint="http://a.example", region="A!")}, "region", "small letters"),
        ({"client": place(endpoint="https://u:p@a.example")}, "endpointUrl", "credentials"),
        (
            {"client": place(role=AssumedRole(arn="exports", external_id="ab"))},
            "roleArn",
            "named by its ARN",
        ),
        ({"backup": place(bucket="a b")}, "backupBucket", "no bucket"),
        ({"backup": place("../x", "other")}, "backupPrefix", "must not go through"),
        ({"backup": place("a")}, "backupBucket", "the same place"),
        ({"layout": RunLayout(fields=("shoe_size",))}, "fields", "no field 'shoe_size'"),
        ({"layout": RunLayout(max_file_bytes=1)}, "maxFileBytes", "maximum file size"),
        ({"schedule": "WEEKLY"}, "schedule", "HOURLY, DAILY, REALTIME, MANUAL or five fields"),
        ({"schedule": "61 * * * *"}, "schedule", "bad minute"),
        ({"schedule": "0 0 30 2 *"}, "schedule", "bad day-of-month"),
        ({"timezone": "Mars/Olympus"}, "timezone", "not a time zone"),
        ({"threshold_events": 0}, "thresholdEvents", "from 1 to"),
    ],
)
def test_what_cannot_be_is_named_with_its_field(
    given: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(DestinationInvalid, match=message) as refused:
        check_destination(destination(**given))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("since", "until", "field"),
    [
        (1, None, "since"),
        (-2, 1, "until"),
        (-1, -1, "until"),
        (-1, -2, "until"),
        (0, None, "since"),
    ],
)
def test_a_range_that_is_none_is_refused(since: int, until: int | None, field: str) -> None:
    hours = [None if one is None else NOW + timedelta(hours=one) for one in (since, until)]
    with pytest.raises(DestinationInvalid) as refused:
        check_range(hours[0], hours[1], NOW)
    assert refused.value.field == field


def test_a_range_of_the_past_is_fine_with_one_end_or_two() -> None:
    check_range(None, NOW, NOW)
    check_range(NOW - timedelta(hours=1), None, NOW)
    check_range(NOW - timedelta(hours=1), NOW - timedelta(minutes=1), NOW)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (place("a"), place("a"), True),
        (place("a"), place("/a/"), True),
        (place("a"), place("a/b"), True),
        (place("a/b"), place("a"), True),
        (place(""), place("x"), True),
        (place("a"), place("ab"), False),
        (place("a/b"), place("a/c"), False),
        (place("a"), place("a", "other"), False),
        (place("a"), place("a", region="us-east-1"), True),
        (place("a"), place("a", endpoint="https://s3.eu-central-1.amazonaws.com"), True),
        (place("a"), place("a", endpoint="https://s3.example"), False),
        (
            place("a", endpoint="https://S3.example"),
            place("a/b", endpoint="http://s3.example:80/"),
            True,
        ),
        (
            place("a", endpoint="http://s3.example:9000"),
            place("a", endpoint="http://s3.example:9001"),
            False,
        ),
    ],
)
def test_places_overlap_where_one_lies_in_the_other(
    one: Place, other: Place, *, overlap: bool
) -> None:
    first, second = Occupied.of(one), Occupied.of(other)
    assert first.overlaps(second) is second.overlaps(first) is overlap
    found = first_overlap([first], [("Lake", [second])])
    assert (found == (first, "Lake")) is overlap


def test_a_definition_is_the_same_after_the_ledger_had_it() -> None:
    wanted = EventFilter(
        fields=((Field.EVENT_TYPE, StringFilter(in_=("a", "b"))),),
        any_of=(EventFilter(negated=EventFilter()),),
    )
    one = destination(
        layout=RunLayout(filter=wanted),
        backup=place("c", role=AssumedRole(arn=ARN, external_id="x-1", sts_endpoint="http://a.b")),
        webhook_url="https://hooks.example/x",
    )
    kept = msgspec.json.decode(msgspec.json.encode(one))
    assert msgspec.convert(kept, Destination) == one


def test_a_role_is_assumed_by_a_key_that_does_not_show() -> None:
    chosen = place(role=AssumedRole(arn=ARN, external_id="footfall-1"))
    key = role_key_of("KEYID:not:to:be:seen\n")
    opened = chosen.opened_by(key)
    assert isinstance(opened.login, Role)
    assert opened.login.by == AccessKey("KEYID", "not:to:be:seen")
    assert "not:to:be:seen" not in repr((opened, key, chosen))
    with pytest.raises(PlaceInvalid, match="KEY_ID:SECRET"):
        role_key_of("nothing")


@pytest.mark.parametrize(
    ("schedule", "timezone", "due"),
    [
        ("HOURLY", "UTC", "2026-03-05T13:00Z"),
        ("HOURLY", "Asia/Kolkata", "2026-03-05T13:30Z"),
        ("DAILY", "UTC", "2026-03-06T00:00Z"),
        ("DAILY", "Europe/Berlin", "2026-03-05T23:00Z"),
        ("15 3 * * *", "Europe/Berlin", "2026-03-06T02:15Z"),
    ],
)
def test_schedules_name_their_next_moment(schedule: str, timezone: str, due: str) -> None:
    assert next_run(schedule, timezone, NOW) == datetime.fromisoformat(due)


def test_realtime_is_soon_and_manual_never() -> None:
    soon = next_run("REALTIME", "UTC", NOW)
    assert soon is not None
    assert NOW < soon <= NOW + timedelta(seconds=30)
    assert next_run("MANUAL", "UTC", NOW) is None


@given(st.text(max_size=60))
def test_tokens_are_told_apart_by_their_hash(text: str) -> None:
    token = new_hook_token()
    assert token.startswith("ffx_")
    assert len(hook_hash(token)) == 32
    assert (hook_hash(text) == hook_hash(token)) is (text == token)
