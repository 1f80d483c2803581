"""Scalars: values as clients write and read them.

A scalar judges the form of a value. Where a bad value must not sink the whole request, as the
time of one event in a batch, its text passes as it is and is judged further down.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, NewType
from uuid import UUID

import strawberry
from graphql import (
    BooleanValueNode,
    FloatValueNode,
    GraphQLError,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    Undefined,
    ValueNode,
    VariableNode,
)
from graphql.pyutils import inspect
from strawberry.types.scalar import ScalarDefinition

from resolvers.errors import BadUserInput
from resolvers.pipeline import parse_instant

# Integers up to here are the same number in JavaScript and in every JSON reader.
MAX_SAFE_INTEGER = 2**53 - 1

BigInt = NewType("BigInt", int)
JSON = NewType("JSON", object)
# A DateTime and a UUID as they were sent: texts, or a number of milliseconds.
SentInstant = NewType("SentInstant", object)
SentUUID = NewType("SentUUID", str)

Variables = dict[str, Any]

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INTEGER = re.compile(r"-?[0-9]{1,1000}")


def instant_of(sent: SentInstant, argument: str) -> datetime:
    """The instant, in UTC, that was sent as a DateTime; raises `BadUserInput`."""
    try:
        return parse_instant(sent)
    except ValueError as error:
        raise BadUserInput(argument, f"{argument} {error}") from None


def uuid_of(sent: SentUUID, argument: str) -> UUID:
    """The UUID that was sent; raises `BadUserInput`."""
    try:
        return UUID(sent)
    except ValueError:
        shown = sent if len(sent) <= 50 else f"{sent[:50]}..."
        raise BadUserInput(argument, f"{argument}: {shown!r} is not a UUID") from None


def _refusal(name: str, rule: str, value: object) -> GraphQLError:
    return GraphQLError(f"{name} takes {rule}, found {inspect(value)}.")


def _mistake(name: str, value: object) -> TypeError:
    # Not a GraphQLError: a value of ours that cannot be shown is not the client's mistake.
    return TypeError(f"no {name}: {value!r}")


def _plain_value(node: ValueNode, variables: Variables | None) -> Any:
    """The JSON value that a literal stands for; raises `GraphQLError` where there is none."""
    match node:
        case StringValueNode() | BooleanValueNode():
            return node.value
        case IntValueNode() | FloatValueNode():
            return _number(node)
        case NullValueNode():
            return None
        case ListValueNode():
            items = [_plain_value(item, variables) for item in node.values]
            return [None if item is Undefined else item for item in items]
        case ObjectValueNode():
            fields = {
                field.name.value: _plain_value(field.value, variables) for field in node.fields
            }
            return {name: value for name, value in fields.items() if value is not Undefined}
        case VariableNode():
            return (variables or {}).get(node.name.value, Undefined)
    raise GraphQLError("A name is not a JSON value; put texts in quotes.", node)


def _number(node: IntValueNode | FloatValueNode) -> int | float:
    # Python refuses to read integers of thousands of digits, and reads 1e999 as infinity.
    if isinstance(node, IntValueNode):
        with suppress(ValueError):
            return int(node.value)
    elif math.isfinite(number := float(node.value)):
        return number
    raise GraphQLError("The number is too large.", node)


def _literals(parse_value: Callable[[Any], Any]) -> Callable[[ValueNode, Variables | None], Any]:
    """Reads literals by the rule for values, except that names are never texts."""

    def parse_literal(node: ValueNode, variables: Variables | None = None) -> Any:
        return parse_value(_plain_value(node, variables))

    return parse_literal


def _parse_date(value: object) -> date:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise _refusal("Date", "a day of the calendar such as 2026-01-31", value)


def _show_date(value: object) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    raise _mistake("Date", value)


def _parse_date_time(value: object) -> SentInstant:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return SentInstant(value)
    raise _refusal("DateTime", "RFC 3339 text or a number of milliseconds since 1970", value)


def _show_date_time(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        # Every event of a page comes by here; cutting "+00:00" off is the quickest way to a Z.
        return value.astimezone(UTC).isoformat()[:-6] + "Z"
    raise _mistake("DateTime", value)


def _parse_uuid(value: object) -> SentUUID:
    if isinstance(value, str):
        return SentUUID(value)
    raise _refusal("UUID", "a text", value)


def _show_uuid(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise _mistake("UUID", value)


def _parse_big_int(value: object) -> BigInt:
    if isinstance(value, int) and not isinstance(value, bool):
        return BigInt(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_SAFE_INTEGER:
        return BigInt(int(value))
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return BigInt(int(value))
    raise _refusal("BigInt", "an integer, as a number or as its digits in a text", value)


def _show_big_int(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) <= MAX_SAFE_INTEGER else str(value)
    raise _mistake("BigInt", value)


def _as_it_is(value: Any) -> Any:
    return value


_RFC_3339 = "https://www.rfc-editor.org/rfc/rfc3339#section-5.6"

_DATE_TIME = strawberry.scalar(
    name="DateTime",
    description=(
        "A moment. Answers give it in RFC 3339 in UTC, down to the microsecond, such as "
        "`2026-01-31T12:00:00.250Z`. Questions may give any offset, or the number of "
        "milliseconds since 1970-01-01T00:00:00Z."
    ),
    specified_by_url=_RFC_3339,
    serialize=_show_date_time,
    parse_value=_parse_date_time,
    parse_literal=_literals(_parse_date_time),
)
_UUID = strawberry.scalar(
    name="UUID",
    description="A UUID of any version, such as `0192f0c1-7a3e-7cc3-8f5d-3c1f5a0d9b11`.",
    specified_by_url="https://www.rfc-editor.org/rfc/rfc9562",
    serialize=_show_uuid,
    parse_value=_parse_uuid,
    parse_literal=_literals(_parse_uuid),
)

SCALARS: dict[object, ScalarDefinition] = {
    date: strawberry.scalar(
        name="Date",
        description="A day of the calendar in ISO 8601, such as `2026-01-31`; it has no time zone.",
        specified_by_url=_RFC_3339,
        serialize=_show_date,
        parse_value=_parse_date,
        parse_literal=_literals(_parse_date),
    ),
    datetime: _DATE_TIME,
    SentInstant: _DATE_TIME,
    UUID: _UUID,
    SentUUID: _UUID,
    BigInt: strawberry.scalar(
        name="BigInt",
        description=(
            "An integer that may have more than 32 bits. It is a JSON number as long as every "
            "JSON reader keeps it exact, which is up to 9007199254740991 on either side of zero; "
            "beyond that it is a text of digits. Questions may use either form."
        ),
        serialize=_show_big_int,
        parse_value=_parse_big_int,
        parse_literal=_literals(_parse_big_int),
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value: an object, a list, a text, a number, true, false or null.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=_as_it_is,
        parse_value=_as_it_is,
        parse_literal=_literals(_as_it_is),
    ),
}
