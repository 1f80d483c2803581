"""Which events count: conditions as clients write them, and the filter that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, TypeAlias

import strawberry
from strawberry.utils.str_converters import to_camel_case

from data import queries
from schema.arguments import given


@strawberry.input
class StringFilter:
    """Conditions on a text; all that are given must hold, and null is the same as not given.

    Negative conditions (`ne`, `notIn`) hold for an event that lacks the text, the others don't.
    A property that is not text is compared by its JSON text, such as `12.5`, `true` or `[1,2]`.
    """

    eq: str | None = strawberry.field(description="The text is this one.")
    ne: str | None = strawberry.field(description="The text is not this one, or is missing.")
    in_: list[str] | None = strawberry.field(
        name="in", description="The text is one of these; an empty list holds for no event."
    )
    not_in: list[str] | None = strawberry.field(
        description="The text is none of these, or is missing."
    )
    contains: str | None = strawberry.field(description="This is a part of the text.")
    starts_with: str | None = strawberry.field(description="The text begins with this.")
    ends_with: str | None = strawberry.field(description="The text ends with this.")
    matches: str | None = strawberry.field(
        description=(
            "This regular expression (RE2) matches some part of the text; "
            "write `^` and `$` for the whole of it."
        )
    )
    ignore_case: bool | None = strawberry.field(
        default=False,
        description="Let all conditions of this filter take capital and small letters as the same.",
    )
    is_set: bool | None = strawberry.field(
        description="True: there is a text, if only an empty one. False: it is missing."
    )

    def to_query(self) -> queries.StringFilter:
        """The same conditions for the store."""
        return queries.StringFilter(
            eq=self.eq,
            ne=self.ne,
            in_=_tuple(self.in_),
            not_in=_tuple(self.not_in),
            contains=self.contains,
            starts_with=self.starts_with,
            ends_with=self.ends_with,
            matches=self.matches,
            ignore_case=bool(self.ignore_case),
            is_set=self.is_set,
        )


@strawberry.input
class NumberFilter:
    """Conditions on a number; all that are given must hold, and null is the same as not given.

    A value that is not a JSON number counts as missing: `"12"` is a text. `ne` holds for an
    event that lacks the number, the others don't.
    """

    eq: float | None = strawberry.field(description="The number is this one.")
    ne: float | None = strawberry.field(description="The number is not this one, or is missing.")
    gt: float | None = strawberry.field(description="The number is greater than this.")
    gte: float | None = strawberry.field(description="The number is this or greater.")
    lt: float | None = strawberry.field(description="The number is less than this.")
    lte: float | None = strawberry.field(description="The number is this or less.")
    is_set: bool | None = strawberry.field(
        description="True: there is a number. False: there is none."
    )

    def to_query(self) -> queries.NumberFilter:
        """The same conditions for the store."""
        return queries.NumberFilter(
            eq=self.eq,
            ne=self.ne,
            gt=self.gt,
            gte=self.gte,
            lt=self.lt,
            lte=self.lte,
            is_set=self.is_set,
        )


@strawberry.input
class PropertyFilter:
    """Conditions on one property of the event; all that are given must hold.

    A property whose value is null counts as missing.
    """

    name: str = strawberry.field(
        description="The property's name at the top level of `properties`, taken literally."
    )
    string: StringFilter | None = strawberry.field(
        description="Conditions on its text or, where it is not text, on its JSON text."
    )
    number: NumberFilter | None = strawberry.field(
        description="Conditions on its number; anything but a JSON number counts as missing."
    )
    boolean: bool | None = strawberry.field(description="It is JSON `true`, or JSON `false`.")

    def to_query(self) -> queries.PropertyFilter:
        """The same conditions for the store."""
        return queries.PropertyFilter(
            name=self.name,
            string=self.string.to_query() if self.string else None,
            number=self.number.to_query() if self.number else None,
            boolean=self.boolean,
        )


@strawberry.input
class EventFilter:
    """Which events count; all conditions that are given must hold, and null is not given.

    An empty filter holds for every event. A filter may be nested 12 deep and have 200 conditions.
    """

    event_type: StringFilter | None = strawberry.field(description="Conditions on the event type.")
    user_id: StringFilter | None = strawberry.field(
        description="Conditions on the user id that was sent; a visitor id doesn't stand in for it."
    )
    visitor_id: StringFilter | None = strawberry.field(description="Conditions on the visitor id.")
    session_id: StringFilter | None = strawberry.field(description="Conditions on the session id.")
    url: StringFilter | None = strawberry.field(description="Conditions on the page's address.")
    path: StringFilter | None = strawberry.field(description="Conditions on the page's path.")
    referrer: StringFilter | None = strawberry.field(description="Conditions on the referrer.")
    properties: list[PropertyFilter] | None = strawberry.field(
        description="Conditions on properties; all entries must hold."
    )
    and_: list[EventFilter] | None = strawberry.field(
        name="and", description="All of these filters hold; an empty list is no condition."
    )
    or_: list[EventFilter] | None = strawberry.field(
        name="or", description="At least one of these filters holds; none does of an empty list."
    )
    not_: EventFilter | None = strawberry.field(
        name="not",
        description="This filter does not hold; an event that lacks what it asks for passes.",
    )

    def to_query(self) -> queries.EventFilter:
        """The same filter for the store."""
        conditions = ((field, self._condition(field)) for field in queries.Field)
        return queries.EventFilter(
            fields=tuple(
                (field, condition.to_query()) for field, condition in conditions if condition
            ),
            properties=tuple(one.to_query() for one in self.properties or ()),
            all_of=tuple(one.to_query() for one in self.and_ or ()),
            # Left out and empty differ here: no event passes one of no filters.
            any_of=None if self.or_ is None else tuple(one.to_query() for one in self.or_),
            negated=self.not_.to_query() if self.not_ else None,
        )

    def _condition(self, field: queries.Field) -> StringFilter | None:
        # A field of the store that the input lacks is an error here, not a missing condition.
        condition: StringFilter | None = getattr(self, field.value)
        return condition


Filter: TypeAlias = Annotated[
    EventFilter | None,
    strawberry.argument("Count these events only; every event where it is left out."),
]


def filter_asked(filter: EventFilter | None) -> queries.EventFilter:
    """The filter that was asked for, or the one that lets every event pass."""
    wanted = given(filter)
    return wanted.to_query() if wanted else queries.EVERYTHING


def filter_shown(kept: queries.EventFilter) -> dict[str, object]:
    """A filter that was kept, as the input of its name would be sent."""
    shown: dict[str, object] = {
        to_camel_case(field.value): _given(condition) for field, condition in kept.fields
    }
    if kept.properties:
        shown["properties"] = [_property(one) for one in kept.properties]
    if kept.all_of:
        shown["and"] = [filter_shown(one) for one in kept.all_of]
    if kept.any_of is not None:
        shown["or"] = [filter_shown(one) for one in kept.any_of]
    if kept.negated is not None:
        shown["not"] = filter_shown(kept.negated)
    return shown


def _property(kept: queries.PropertyFilter) -> dict[str, object]:
    shown: dict[str, object] = {"name": kept.name}
    if kept.string is not None:
        shown["string"] = _given(kept.string)
    if kept.number is not None:
        shown["number"] = _given(kept.number)
    if kept.boolean is not None:
        shown["boolean"] = kept.boolean
    return shown


def _given(condition: queries.StringFilter | queries.NumberFilter) -> dict[str, object]:
    """What is said of a text or a number, without what is not."""
    said = {one.name: getattr(condition, one.name) for one in fields(condition)}
    return {
        to_camel_case(name.removesuffix("_")): list(value) if isinstance(value, tuple) else value
        for name, value in said.items()
        if value is not None and (name != "ignore_case" or value)
    }


def _tuple(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts)
