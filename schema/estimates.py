"""How many entries a list will have, told from the arguments of its field.

Arguments are read as the document has them, literals and variables, without coercing literals
again. All numbers are upper bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Any, TypeAlias

from graphql import (
    FieldNode,
    GraphQLField,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
)
from graphql.utilities.coerce_input_value import coerce_default_value
from strawberry.utils.str_converters import to_snake_case

Variables: TypeAlias = Mapping[str, Any]
# Reads a value out of the coerced variables of a request.
Reader: TypeAlias = Callable[[Variables], Any]

_HOURS_A_DAY = 25
_DAYS_OF_A_MONTH = 30  # of periods that are counted from the first of the days
_MAX_DIGITS = 20  # Python refuses to read thousands of them


def reader_of(field: GraphQLField, node: FieldNode, path: str) -> Reader:
    """Reads an argument, or what a dotted path leads to inside of it; None where it is not given.

    Lists of literals are read as their nodes, as only their length is asked for.
    """
    name, *names = path.split(".")
    default = _part(_default_of(field, name), names)
    given = next((each.value for each in node.arguments or () if each.name.value == name), None)
    while given is not None and names and isinstance(given, ObjectValueNode):
        name, *names = names
        given = next((each.value for each in given.fields if each.name.value == name), None)
        default = None
    if given is None:
        return lambda _: default
    if isinstance(given, VariableNode):
        variable, rest = given.name.value, tuple(names)
        return lambda variables: (
            _part(variables[variable], rest) if variable in variables else default
        )
    literal = given
    return lambda variables: _literal(literal, variables)


def entries(path: str, value: Any, interval: Any) -> int | None:
    """The number of entries that an argument stands for; None where it tells none."""
    if value is None:
        return None
    name = path.rpartition(".")[2]
    if name == "range":
        return periods_in(_part(value, ["from"]), _part(value, ["to"]), interval)
    if isinstance(value, int):
        # A cohort is followed for its own period, which has the number 0, and these.
        return value + 1 if name == "periods" else value
    return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else 1


def periods_in(first: Any, last: Any, interval: Any) -> int | None:
    """The most periods that days from one to another can touch; days where there is no interval.

    However weeks and months are cut: on the site's first day of the week, or from the first of
    the days. None where the days are none.
    """
    start, end = _day(first), _day(last)
    if start is None or end is None:
        return None
    days = max(0, (end - start).days + 1)
    match str(interval):
        case "HOUR":
            return days * _HOURS_A_DAY
        case "WEEK":
            return (days + 12) // 7
        case "MONTH":
            of_calendar = (end.year - start.year) * 12 + end.month - start.month + 1
            return max(of_calendar, -(-days // _DAYS_OF_A_MONTH))
    return days


def _day(value: Any) -> date | None:
    if isinstance(value, str):
        with suppress(ValueError):
            return date.fromisoformat(value)
    return value if isinstance(value, date) else None


def _default_of(field: GraphQLField, name: str) -> Any:
    value = coerce_default_value(field.args[name])
    return None if value is Undefined else value


def _part(value: Any, names: Sequence[str]) -> Any:
    """What a path of GraphQL's names leads to, through dicts and input objects."""
    for name in names:
        if isinstance(value, Mapping):
            value = value.get(name)
        else:
            python_name = to_snake_case(name)
            value = getattr(value, python_name, getattr(value, f"{python_name}_", None))
    return value


def _literal(node: ValueNode, variables: Variables) -> Any:
    match node:
        case VariableNode():
            return variables.get(node.name.value)
        case NullValueNode():
            return None
        case IntValueNode() if len(node.value) <= _MAX_DIGITS:
            return int(node.value)
        case ListValueNode():
            return node.values
        case ObjectValueNode():
            return {each.name.value: _literal(each.value, variables) for each in node.fields}
    return getattr(node, "value", None)
