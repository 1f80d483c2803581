"""Which events pass a filter, on events that are easy to mistake."""

import json

import pytest

from data.duckdb.store import DuckDBStore
from data.event_store import InvalidPattern
from data.queries import EventFilter, Field, NumberFilter, PropertyFilter, StringFilter
from tests.data.duckdb.examples import Feed, make_event, numbers

PATHS = {
    1: "/",
    2: "/Straße",
    3: "/STRAße",
    4: "",
    5: None,
    6: "\\N",
    7: "a%b_c",
    8: "aXb-c",
    9: "two\nlines",
    10: "\U0001f600",
}
ALL_PATHS = set(PATHS)
PROPERTIES = {
    1: {"n": 1},
    2: {"n": 1.0},
    3: {"n": "1"},
    4: {"n": True},
    5: {"n": False},
    6: {"n": None},
    7: {},
    8: None,
    9: {"n": [1, {"a": "b"}]},
    10: {"n": -2.5e3},
    11: {"n": "true"},
    12: {"n": 2**70},
    13: {"n": ""},
}
ALL_PROPERTIES = set(PROPERTIES)
ODD_NAMES = ["", "a.b", "a/b", "a~b", "~1", "$", "$.a", "*", "/", "0", '"', "'", "ü", "[0]", "a b"]


def on_path(**conditions: object) -> EventFilter:
    return EventFilter(fields=((Field.PATH, StringFilter(**conditions)),))  # type: ignore[arg-type]


def on_n(**conditions: object) -> EventFilter:
    return EventFilter(properties=(PropertyFilter("n", **conditions),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (EventFilter(), ALL_PATHS),
        (on_path(eq="/"), {1}),
        (on_path(eq=""), {4}),
        (on_path(eq="\\N"), {6}),
        (on_path(eq="nowhere"), set()),
        (on_path(ne="/"), ALL_PATHS - {1}),
        (on_path(in_=("/", "", "?")), {1, 4}),
        (on_path(in_=()), set()),
        (on_path(not_in=("/", "")), ALL_PATHS - {1, 4}),
        (on_path(not_in=()), ALL_PATHS),
        (on_path(contains="%"), {7}),
        (on_path(contains="_"), {7}),
        (on_path(contains=""), ALL_PATHS - {5}),
        (on_path(starts_with="/S"), {2, 3}),
        (on_path(ends_with="ße"), {2, 3}),
        (on_path(eq="/straße", ignore_case=True), {2, 3}),
        (on_path(ne="/straße", ignore_case=True), ALL_PATHS - {2, 3}),
        (on_path(in_=("/STRASSE", "/straßE"), ignore_case=True), {2, 3}),
        (on_path(not_in=("/STRAßE",), ignore_case=True), ALL_PATHS - {2, 3}),
        (on_path(contains="RAß", ignore_case=True), {2, 3}),
        (on_path(starts_with="/ST", ignore_case=True), {2, 3}),
        (on_path(ends_with="ßE", ignore_case=True), {2, 3}),
        (on_path(matches="^a.b.c$"), {7, 8}),
        (on_path(matches="o.l"), set()),
        (on_path(matches="o\nl"), {9}),
        (on_path(matches="^.$"), {1, 10}),
        (on_path(matches="STRA"), {3}),
        (on_path(matches="STRA", ignore_case=True), {2, 3}),
        (on_path(matches=""), ALL_PATHS - {5}),
        (on_path(is_set=True), ALL_PATHS - {5}),
        (on_path(is_set=False), {5}),
        (on_path(is_set=True, ne="/"), ALL_PATHS - {1, 5}),
        (on_path(is_set=False, eq="/"), set()),
        (on_path(starts_with="a", ends_with="c", contains="X"), {8}),
        (EventFilter(negated=on_path(eq="/")), ALL_PATHS - {1}),
        (EventFilter(negated=on_path(ne="/")), {1}),
        (EventFilter(negated=on_path(contains="a")), ALL_PATHS - {2, 7, 8}),
        (EventFilter(negated=on_path(is_set=True)), {5}),
        (EventFilter(negated=EventFilter()), set()),
        (EventFilter(any_of=()), set()),
        (EventFilter(any_of=(EventFilter(),)), ALL_PATHS),
        (EventFilter(any_of=(on_path(eq="/"), on_path(eq=""))), {1, 4}),
        (EventFilter(all_of=()), ALL_PATHS),
        (EventFilter(all_of=(on_path(is_set=True), on_path(ne="/"))), ALL_PATHS - {1, 5}),
        (
            EventFilter(any_of=(on_path(eq="/"), EventFilter(negated=on_path(eq="\\N")))),
            ALL_PATHS - {6},
        ),
    ],
)
async def test_conditions_on_a_field(
    store: DuckDBStore, feed: Feed, condition: EventFilter, expected: set[int]
) -> None:
    await feed(*(make_event(number, path=path) for number, path in PATHS.items()))

    assert await numbers(store, condition) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (on_n(), ALL_PROPERTIES),
        (on_n(number=NumberFilter(eq=1)), {1, 2}),
        (on_n(number=NumberFilter(ne=1)), ALL_PROPERTIES - {1, 2}),
        (on_n(number=NumberFilter(gt=1)), {12}),
        (on_n(number=NumberFilter(gte=1, lte=1)), {1, 2}),
        (on_n(number=NumberFilter(lt=0)), {10}),
        (on_n(number=NumberFilter(lte=-2500)), {10}),
        (on_n(number=NumberFilter(eq=float(2**70))), {12}),
        (on_n(number=NumberFilter(is_set=True)), {1, 2, 10, 12}),
        (on_n(number=NumberFilter(is_set=False)), ALL_PROPERTIES - {1, 2, 10, 12}),
        (on_n(number=NumberFilter()), ALL_PROPERTIES),
        (on_n(boolean=True), {4}),
        (on_n(boolean=False), {5}),
        (on_n(string=StringFilter(eq="1")), {1, 3}),
        (on_n(string=StringFilter(eq="1.0")), {2}),
        (on_n(string=StringFilter(eq="true")), {4, 11}),
        (on_n(string=StringFilter(eq='[1,{"a":"b"}]')), {9}),
        (on_n(string=StringFilter(eq="")), {13}),
        (on_n(string=StringFilter(eq="null")), set()),
        (on_n(string=StringFilter(is_set=False)), {6, 7, 8}),
        (on_n(string=StringFilter(ne="1")), ALL_PROPERTIES - {1, 3}),
        (on_n(string=StringFilter(contains="tru")), {4, 11}),
        (on_n(string=StringFilter(eq="1"), number=NumberFilter(eq=1)), {1}),
        (EventFilter(negated=on_n(boolean=True)), ALL_PROPERTIES - {4}),
        (EventFilter(negated=on_n(number=NumberFilter(gt=0))), ALL_PROPERTIES - {1, 2, 12}),
    ],
)
async def test_conditions_on_a_property(
    store: DuckDBStore, feed: Feed, condition: EventFilter, expected: set[int]
) -> None:
    await feed(
        *(
            make_event(number, properties=None if value is None else json.dumps(value))
            for number, value in PROPERTIES.items()
        )
    )

    assert await numbers(store, condition) == expected


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_property_may_have_any_name(store: DuckDBStore, feed: Feed, name: str) -> None:
    every_other = {other: "x" for other in [*ODD_NAMES, "a", "b", "1"] if other != name}
    await feed(
        make_event(1, properties=json.dumps({name: "x"})),
        make_event(2, properties=json.dumps(every_other | {"a": {"b": "x", "": "x"}})),
    )
    condition = EventFilter(properties=(PropertyFilter(name, StringFilter(eq="x")),))

    assert await numbers(store, condition) == {1}


async def test_every_field_has_its_column(store: DuckDBStore, feed: Feed) -> None:
    values = {field.value: f"the {field.value}" for field in Field}
    await feed(make_event(1, **values), make_event(2))

    for field in Field:
        condition = EventFilter(fields=((field, StringFilter(eq=f"the {field.value}")),))
        assert await numbers(store, condition) == {1}


async def test_a_long_list_is_as_good_as_a_short_one(store: DuckDBStore, feed: Feed) -> None:
    await feed(*(make_event(number, path=f"/{number}") for number in range(1, 51)))
    others = tuple(f"/{number}" for number in range(40, 3_000))

    assert await numbers(store, on_path(in_=others)) == set(range(40, 51))
    assert await numbers(store, on_path(not_in=others)) == set(range(1, 40))


@pytest.mark.parametrize("pattern", ["", "a.b", "(?i)x", r"\pL+", "[[:alpha:]]", "a{1000}", "\0"])
async def test_a_pattern_of_re2_is_taken(store: DuckDBStore, pattern: str) -> None:
    await store.check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(", "[a", "a**", r"(a)\1", "(?=a)", "a{1001}", r"\q"])
async def test_another_pattern_is_refused_with_the_reason(store: DuckDBStore, pattern: str) -> None:
    with pytest.raises(InvalidPattern, match=r"^[a-z][^\n]+: [^\n]+$"):
        await store.check_pattern(pattern)
