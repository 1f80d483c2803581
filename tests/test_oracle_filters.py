"""The oracle's filters, against a few values that are sorted by hand."""

from __future__ import annotations

import pytest

from data.events import StoredEvent
from data.queries import EventFilter, Field, NumberFilter, PropertyFilter, StringFilter
from tests import oracle
from tests.slices import some_event as event


@pytest.mark.parametrize(
    ("given", "holding"),
    [
        (StringFilter(), ["", "/a", "/A", "/É", "x\n", None]),
        (StringFilter(eq="/a"), ["/a"]),
        (StringFilter(eq="/a", ignore_case=True), ["/a", "/A"]),
        (StringFilter(eq=""), [""]),
        (StringFilter(ne="/a"), ["", "/A", "/É", "x\n", None]),
        (StringFilter(in_=("/a", "")), ["", "/a"]),
        (StringFilter(in_=()), []),
        (StringFilter(not_in=("/a", "")), ["/A", "/É", "x\n", None]),
        (StringFilter(not_in=()), ["", "/a", "/A", "/É", "x\n", None]),
        (StringFilter(contains="é", ignore_case=True), ["/É"]),
        (StringFilter(contains=""), ["", "/a", "/A", "/É", "x\n"]),
        (StringFilter(starts_with="/"), ["/a", "/A", "/É"]),
        (StringFilter(ends_with="a"), ["/a"]),
        (StringFilter(matches="^/[a-z]$"), ["/a"]),
        (StringFilter(matches="^/[a-z]$", ignore_case=True), ["/a", "/A"]),
        (StringFilter(matches="x$"), []),
        (StringFilter(matches="x.$"), []),
        (StringFilter(is_set=True), ["", "/a", "/A", "/É", "x\n"]),
        (StringFilter(is_set=False), [None]),
        (StringFilter(is_set=False, ne="/a"), [None]),
        (StringFilter(starts_with="/", ne="/a"), ["/A", "/É"]),
    ],
)
def test_conditions_on_texts(given: StringFilter, holding: list[str | None]) -> None:
    values = ["", "/a", "/A", "/É", "x\n", None]

    assert [value for value in values if oracle.text_holds(value, given)] == holding


@pytest.mark.parametrize(
    ("given", "holding"),
    [
        (NumberFilter(), [1, 2.5, None]),
        (NumberFilter(eq=1.0), [1]),
        (NumberFilter(ne=1.0), [2.5, None]),
        (NumberFilter(gt=1.0), [2.5]),
        (NumberFilter(gte=1.0, lt=2.5), [1]),
        (NumberFilter(lte=2.5), [1, 2.5]),
        (NumberFilter(is_set=True), [1, 2.5]),
        (NumberFilter(is_set=False), [None]),
    ],
)
def test_conditions_on_numbers(given: NumberFilter, holding: list[float | None]) -> None:
    assert [value for value in (1, 2.5, None) if oracle.number_holds(value, given)] == holding


@pytest.mark.parametrize(
    ("given", "holding"),
    [
        (PropertyFilter("p", string=StringFilter(eq="1")), ["1", 1]),
        (PropertyFilter("p", string=StringFilter(eq="true")), [True]),
        (PropertyFilter("p", string=StringFilter(eq="[1,2]")), [[1, 2]]),
        (PropertyFilter("p", string=StringFilter(is_set=False)), [None]),
        (PropertyFilter("p", number=NumberFilter(eq=1.0)), [1]),
        (PropertyFilter("p", number=NumberFilter(is_set=False)), ["1", True, [1, 2], None]),
        (PropertyFilter("p", boolean=True), [True]),
        (PropertyFilter("p", boolean=False), []),
        (PropertyFilter("p"), ["1", 1, True, [1, 2], None]),
        (PropertyFilter("q", string=StringFilter(eq="1")), []),
        (PropertyFilter("q", string=StringFilter(ne="1")), ["1", 1, True, [1, 2], None]),
    ],
)
def test_conditions_on_properties(given: PropertyFilter, holding: list[object]) -> None:
    values = ["1", 1, True, [1, 2], None]
    condition = EventFilter(properties=(given,))

    found = [
        value
        for value in values
        if oracle.holds(event("2024-05-01", properties={"p": value}), condition)
    ]

    assert list(map(repr, found)) == list(map(repr, holding))


def test_a_condition_on_a_property_of_an_event_without_any() -> None:
    missing = EventFilter(properties=(PropertyFilter("p", string=StringFilter(is_set=False)),))

    assert oracle.holds(event("2024-05-01"), missing)


def test_filters_combine() -> None:
    is_view = EventFilter(fields=((Field.EVENT_TYPE, StringFilter(eq="view")),))
    is_ann = EventFilter(fields=((Field.USER_ID, StringFilter(eq="ann")),))
    views, buys = event("2024-05-01"), event("2024-05-01", what="buy")
    of_bob = event("2024-05-01", "bob")
    everyone = [views, buys, of_bob]

    def passing(condition: EventFilter) -> list[StoredEvent]:
        return [one for one in everyone if oracle.holds(one, condition)]

    assert passing(EventFilter(all_of=(is_view, is_ann))) == [views]
    assert passing(EventFilter(any_of=(is_view, is_ann))) == everyone
    assert passing(EventFilter(any_of=())) == []
    assert passing(EventFilter(all_of=())) == everyone
    assert passing(EventFilter(negated=is_ann)) == [of_bob]
    assert passing(EventFilter(negated=EventFilter())) == []
    assert passing(EventFilter(fields=is_view.fields, negated=is_ann)) == [of_bob]
