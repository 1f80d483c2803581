"""`EventFilter` as a condition in SQL.

Every condition is two-valued: it is true or false for every event, also where a value is missing.
That is what makes `not` exact. Values are bound; only names of columns, from the closed `Field`,
stand in the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from data.queries import EventFilter, NumberFilter, PropertyFilter, StringFilter


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL over the columns of `events`, and the values of its parameters by name."""

    sql: str
    values: dict[str, object]


def condition_of(event_filter: EventFilter, prefix: str = "filter") -> Condition:
    """The condition that holds for the events that pass. `prefix` begins its parameters' names."""
    compiler = _Compiler(prefix)
    sql = compiler.event_filter(event_filter)
    return Condition(sql, compiler.values)


def _all(conditions: Iterator[str]) -> str:
    return " and ".join(conditions) or "true"


@dataclass(slots=True)
class _Compiler:
    prefix: str
    values: dict[str, object] = field(default_factory=dict)

    def bound(self, value: object, type_name: str) -> str:
        """A parameter with this value."""
        name = f"{self.prefix}_{len(self.values)}"
        self.values[name] = value
        return f"${name}::{type_name}"

    def event_filter(self, wanted: EventFilter) -> str:
        return _all(self._parts(wanted))

    def _parts(self, wanted: EventFilter) -> Iterator[str]:
        for column, string in wanted.fields:
            yield from self._string(f"events.{column.value}", string)
        for one in wanted.properties:
            yield from self._property(one)
        for inner in wanted.all_of:
            yield f"({self.event_filter(inner)})"
        if wanted.any_of is not None:
            any_of = " or ".join(f"({self.event_filter(inner)})" for inner in wanted.any_of)
            yield f"({any_of or 'false'})"
        if wanted.negated is not None:
            yield f"not ({self.event_filter(wanted.negated)})"

    def _string(self, text: str, wanted: StringFilter) -> Iterator[str]:
        """Conditions on an expression that gives a text or null."""
        if wanted.is_set is not None:
            yield f"{text} is {'not ' if wanted.is_set else ''}null"
        folded = f"lower({text})" if wanted.ignore_case else text
        if wanted.eq is not None:
            yield f"coalesce({folded} = {self._text(wanted.eq, wanted)}, false)"
        if wanted.ne is not None:
            yield f"{folded} is distinct from {self._text(wanted.ne, wanted)}"
        if wanted.in_ is not None:
            yield self._is_in(folded, wanted.in_, wanted)
        if wanted.not_in is not None:
            yield f"not {self._is_in(folded, wanted.not_in, wanted)}"
        for function, value in (
            ("contains", wanted.contains),
            ("starts_with", wanted.starts_with),
            ("ends_with", wanted.ends_with),
        ):
            if value is not None:
                yield f"coalesce({function}({folded}, {self._text(value, wanted)}), false)"
        if wanted.matches is not None:
            options = ", 'i'" if wanted.ignore_case else ""
            pattern = self.bound(wanted.matches, "varchar")
            yield f"coalesce(regexp_matches({text}, {pattern}{options}), false)"

    def _text(self, value: str, wanted: StringFilter) -> str:
        parameter = self.bound(value, "varchar")
        return f"lower({parameter})" if wanted.ignore_case else parameter

    def _is_in(self, folded: str, values: tuple[str, ...], wanted: StringFilter) -> str:
        # A sub-select and not list_contains: DuckDB hashes it, however long the list is.
        wanted_text = "lower(one)" if wanted.ignore_case else "one"
        parameter = self.bound(list(values), "varchar[]")
        texts = f"select {wanted_text} from (select unnest({parameter}) as one)"
        return f"coalesce({folded} in ({texts}), false)"

    def _property(self, wanted: PropertyFilter) -> Iterator[str]:
        # A JSON pointer: a name may hold anything, dots and quotes and stars too.
        pointer = "/" + wanted.name.replace("~", "~0").replace("/", "~1")
        path = self.bound(pointer, "varchar")
        text = f"json_extract_string(events.properties, {path})"
        json_type = f"json_type(events.properties, {path})"
        if wanted.string is not None:
            yield from self._string(text, wanted.string)
        if wanted.number is not None:
            number = (
                f"case when {json_type} in ('BIGINT', 'UBIGINT', 'DOUBLE')"
                f" then try_cast({text} as double) end"
            )
            yield from self._number(number, wanted.number)
        if wanted.boolean is not None:
            literal = "true" if wanted.boolean else "false"
            yield f"coalesce({json_type} = 'BOOLEAN' and {text} = '{literal}', false)"

    def _number(self, number: str, wanted: NumberFilter) -> Iterator[str]:
        """Conditions on an expression that gives a number or null."""
        if wanted.is_set is not None:
            yield f"({number}) is {'not ' if wanted.is_set else ''}null"
        if wanted.ne is not None:
            yield f"({number}) is distinct from {self.bound(wanted.ne, 'double')}"
        for operator, value in (
            ("=", wanted.eq),
            (">", wanted.gt),
            (">=", wanted.gte),
            ("<", wanted.lt),
            ("<=", wanted.lte),
        ):
            if value is not None:
                parameter = self.bound(value, "double")
                yield f"coalesce(({number}) {operator} {parameter}, false)"
