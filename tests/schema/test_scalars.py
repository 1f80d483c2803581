"""Scalars: what is read, what is refused, and that what is shown can be read again."""

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from graphql import GraphQLError, GraphQLScalarType, parse_value
from hypothesis import given
from hypothesis import strategies as st

from resolvers.errors import BadUserInput
from resolvers.pipeline import parse_instant
from schema.build import graphql_schema
from schema.scalars import MAX_SAFE_INTEGER, SentInstant, SentUUID, instant_of, uuid_of

SCALARS = graphql_schema().type_map
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=OFFSETS)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.from_regex(r"[_A-Za-z][_0-9A-Za-z]{0,8}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def scalar(name: str) -> GraphQLScalarType:
    found = SCALARS[name]
    assert isinstance(found, GraphQLScalarType)
    return found


def read(name: str, value: object) -> Any:
    """The value that a variable of this scalar becomes."""
    return scalar(name).coerce_input_value(value)


def read_literal(name: str, text: str, **variables: object) -> Any:
    """The value that a literal of this scalar becomes."""
    return scalar(name).parse_literal(parse_value(text), variables)


def shown(name: str, value: object) -> Any:
    """The value as an answer holds it, after a turn through JSON."""
    return json.loads(json.dumps(scalar(name).coerce_output_value(value)))


def literal_of(value: Any) -> str:
    """A JSON value as a literal of GraphQL: JSON but for the names of an object's members."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {literal_of(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal_of, value)) + "]"
    return json.dumps(value)


@given(st.dates())
def test_a_date_that_was_shown_can_be_read(day: date) -> None:
    assert read("Date", shown("Date", day)) == day
    assert read_literal("Date", literal_of(shown("Date", day))) == day


@pytest.mark.parametrize(
    "sent",
    [
        "20260131",
        "2026-W05-6",
        "2026-031",
        "2026-1-31",
        "26-01-31",
        "2026-02-29",
        "2026-13-01",
        "0000-01-01",
        "10000-01-01",
        "-001-01-01",
        " 2026-01-31",
        "2026-01-31\n",
        "2026-01-31T00:00:00Z",
        "２０２６-01-31",
        "today",
        "",
        1769817600000,
        20260131,
        True,
        ["2026-01-31"],
        {"day": "2026-01-31"},
        date(2026, 1, 31),
    ],
)
def test_anything_but_a_calendar_date_is_refused(sent: object) -> None:
    with pytest.raises(GraphQLError, match="Date takes a day of the calendar"):
        read("Date", sent)


def test_a_name_is_no_date() -> None:
    with pytest.raises(GraphQLError, match="quotes"):
        read_literal("Date", "TODAY")


@given(INSTANTS)
def test_an_instant_that_was_shown_can_be_read_down_to_the_microsecond(moment: datetime) -> None:
    text = shown("DateTime", moment)

    assert text.endswith("Z")
    assert parse_instant(read("DateTime", text)) == moment
    assert parse_instant(read_literal("DateTime", literal_of(text))) == moment


@given(st.integers(-(10**13), 10**14))
def test_an_instant_can_be_sent_as_milliseconds(milliseconds: int) -> None:
    sent = read("DateTime", milliseconds)

    assert sent == read_literal("DateTime", str(milliseconds)) == milliseconds
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    assert instant_of(sent, "expiresAt") == expected


@pytest.mark.parametrize("sent", ["yesterday", "", "2026-01-31", "2026-01-31T12:00:00", 1e300, 1.5])
def test_a_text_or_number_passes_as_it_is_so_that_one_event_cannot_sink_its_batch(
    sent: str | float,
) -> None:
    assert read("DateTime", sent) == sent
    assert read_literal("DateTime", json.dumps(sent)) == sent


@pytest.mark.parametrize("sent", [True, False, [], ["2026-01-31T12:00:00Z"], {}, {"at": 1}])
def test_what_is_neither_text_nor_number_is_no_instant(sent: object) -> None:
    with pytest.raises(GraphQLError, match="DateTime takes RFC 3339"):
        read("DateTime", sent)
    with pytest.raises(GraphQLError, match="DateTime takes RFC 3339"):
        read_literal("DateTime", literal_of(sent))


@pytest.mark.parametrize("sent", ["yesterday", "2026-01-31T12:00:00", math.inf, math.nan, 1e300])
def test_an_instant_that_must_be_right_names_its_argument(sent: object) -> None:
    with pytest.raises(BadUserInput, match=r"^expiresAt ") as refused:
        instant_of(SentInstant(sent), "expiresAt")

    assert refused.value.extensions == {"code": "BAD_USER_INPUT", "argument": "expiresAt"}


@given(st.uuids())
def test_a_uuid_that_was_shown_can_be_read(event_id: UUID) -> None:
    text = shown("UUID", event_id)

    assert uuid_of(read("UUID", text), "eventIds") == event_id
    assert uuid_of(read_literal("UUID", literal_of(text)), "eventIds") == event_id


@pytest.mark.parametrize("sent", [1, 1.5, True, [], [str(uuid4())], {}])
def test_what_is_no_text_is_no_uuid(sent: object) -> None:
    with pytest.raises(GraphQLError, match="UUID takes a text"):
        read("UUID", sent)
    with pytest.raises(GraphQLError, match="UUID takes a text"):
        read_literal("UUID", literal_of(sent))


@pytest.mark.parametrize("sent", ["", "order-1", "0192f0c1-7a3e-7cc3-8f5d-3c1f5a0d9b1", "x" * 9999])
def test_a_uuid_that_must_be_right_names_its_argument(sent: str) -> None:
    assert read("UUID", sent) == sent
    with pytest.raises(BadUserInput, match="is not a UUID") as refused:
        uuid_of(SentUUID(sent), "eventIds")

    assert refused.value.extensions == {"code": "BAD_USER_INPUT", "argument": "eventIds"}
    assert len(refused.value.message) < 100


@given(st.integers() | st.integers(MAX_SAFE_INTEGER - 2, MAX_SAFE_INTEGER + 2))
def test_a_big_integer_that_was_shown_can_be_read_and_no_reader_rounds_it(number: int) -> None:
    value = shown("BigInt", number)

    assert read("BigInt", value) == number
    assert read_literal("BigInt", literal_of(value)) == number
    assert read_literal("BigInt", str(number)) == number
    # JavaScript reads numbers as doubles.
    assert isinstance(value, str) or int(float(value)) == number
    assert isinstance(value, str) == (abs(number) > MAX_SAFE_INTEGER)


@pytest.mark.parametrize(
    "sent",
    [
        1.5,
        2.0**60,
        math.inf,
        math.nan,
        "1.5",
        "1e3",
        "0x1",
        " 1",
        "",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "9" * 5000,
        True,
        [1],
        {},
    ],
)
def test_what_is_no_integer_is_refused(sent: object) -> None:
    with pytest.raises(GraphQLError, match="BigInt takes an integer"):
        read("BigInt", sent)


@given(VALUES)
def test_any_json_value_passes_as_a_variable_and_as_a_literal(value: Any) -> None:
    assert read("JSON", value) is value
    assert scalar("JSON").coerce_output_value(value) is value
    assert repr(read_literal("JSON", literal_of(value))) == repr(value)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 5000, "{a: [1, {b: 1e999}]}"])
@pytest.mark.parametrize("name", ["JSON", "DateTime", "BigInt"])
def test_a_number_that_python_cannot_hold_is_refused_and_not_changed(name: str, text: str) -> None:
    with pytest.raises(GraphQLError, match="number is too large"):
        read_literal(name, text)


def test_an_integer_of_many_digits_is_still_that_integer() -> None:
    digits = "9" * 400

    assert read_literal("JSON", digits) == read_literal("BigInt", digits) == int(digits)
    with pytest.raises(BadUserInput, match="years"):
        instant_of(read_literal("DateTime", digits), "expiresAt")


def test_names_are_no_json() -> None:
    with pytest.raises(GraphQLError, match="quotes"):
        read_literal("JSON", "{plan: [PRO]}")


def test_variables_inside_of_a_json_literal_are_filled_in() -> None:
    literal = "{a: $given, b: [$given, $missing], c: $missing, d: {e: $given}}"

    value = read_literal("JSON", literal, given=[1])

    assert value == {"a": [1], "b": [[1], None], "d": {"e": [1]}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Date", "2026-01-31"),
        ("Date", datetime(2026, 1, 31, tzinfo=UTC)),
        ("DateTime", datetime(2026, 1, 31)),
        ("DateTime", "2026-01-31T00:00:00Z"),
        ("UUID", "0192f0c1-7a3e-7cc3-8f5d-3c1f5a0d9b11"),
        ("BigInt", True),
        ("BigInt", 1.0),
    ],
)
def test_a_value_that_cannot_be_shown_is_our_mistake_and_not_the_clients(
    name: str, value: object
) -> None:
    with pytest.raises(TypeError):
        scalar(name).coerce_output_value(value)


@pytest.mark.parametrize("name", ["Date", "DateTime", "JSON", "UUID"])
def test_scalars_say_where_they_are_specified(name: str) -> None:
    assert (scalar(name).specified_by_url or "").startswith("https://www.rfc-editor.org/rfc/")
