"""Traffic of a small web shop that does not exist, for the demo site: believable and repeatable.

Everything hangs on the calendar, nothing on the moment of the call. Each day has its newcomers,
and each newcomer gets the days of all later visits at once, from a random source named after that
first day. What visitors do on a day comes from a source named after that day. So a demo that is
started again on a later day meets the same people and the same events, with the same ids, and
only carries on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from math import log
from operator import itemgetter
from random import Random
from typing import TypeVar
from uuid import UUID, uuid5

from data.calendar import DAY, local_day, start_of_day, zone_of

DEMO_TIMEZONE = "Europe/Berlin"
# The day on which the shop starts to grow, unless the caller names one.
DEMO_LAUNCH = date(2025, 12, 1)

_ORIGIN = "https://demo.example"
_NAMESPACE = UUID("6f1d4c1e-7f0b-5c55-9d3e-0c8a4be6d2f1")
_HOUR = 3_600_000  # milliseconds, like all times inside a day
_PAUSE = 38_000  # the mean time between two events of a session

# Newcomers on a working day before the launch, at scale 1.
_NEWCOMERS = 7.2
# Growth eases out and is complete after so many days: more newcomers, and a better shop, to which
# people come back more readily (newcomers alone would show in the traffic months later only).
_GROWTH_DAYS, _MORE_NEWCOMERS, _FIRST_APPEAL = 400, 1.4, 0.65
# Nobody is followed for longer; hardly anyone stays as long.
_LIFETIME = 365
_HAS_ACCOUNT = 0.67
_WEEKEND = 0.65
_OUTAGE = 0.3

# Name, month, first and last day, newcomers for each usual one.
_CAMPAIGNS = (
    ("spring-sale", 3, 18, 20, 4.0),
    ("summer-week", 7, 7, 9, 3.5),
    ("black-week", 11, 24, 28, 4.0),
)
_CURRENCIES = {"CH": "CHF", "GB": "GBP", "US": "USD", "PL": "PLN"}

_Item = TypeVar("_Item")
_Draw = Callable[[], float]  # the bound `random` of a source, looked up once a day
_Timed = tuple[int, dict[str, object]]


def _pairs(table: str) -> list[tuple[str, int]]:
    pairs = (entry.rsplit(" ", 1) for entry in table.split(", "))
    return [(name, int(number)) for name, number in pairs]


def _pool(table: str) -> tuple[str, ...]:
    """The names in `name weight, name weight`, each as often as its weight says.

    Picking one by its index is several times faster than `Random.choices`.
    """
    return tuple(name for name, weight in _pairs(table) for _ in range(weight))


# Sessions by the local hour in which they begin.
_HOURS = _pool(
    "0 5, 1 3, 2 2, 3 2, 4 2, 5 4, 6 10, 7 22, 8 42, 9 58, 10 64, 11 62, 12 58, 13 60, 14 63, "
    "15 62, 16 58, 17 54, 18 52, 19 55, 20 56, 21 46, 22 28, 23 13"
)
_DEVICES = _pool(
    "desktop/Chrome 26, desktop/Firefox 12, desktop/Safari 8, desktop/Edge 8, "
    "mobile/Chrome 19, mobile/Safari 20, mobile/Samsung Internet 4, tablet/Safari 3"
)
_COUNTRIES = _pool("DE 46, AT 9, CH 7, FR 7, NL 6, GB 8, US 9, PL 4, ES 3, IT 1")
_PLANS = _pool("free 70, plus 22, team 8")
_DIRECT = "direct"
_REFERRERS = _pool(
    f"{_DIRECT} 44, https://www.google.com/ 30, https://duckduckgo.com/ 5, https://www.bing.com/ 4, "
    "https://www.instagram.com/ 6, https://www.youtube.com/ 4, https://www.reddit.com/ 3, "
    "https://www.linkedin.com/ 2, https://blog.partner.example/best-desks 2"
)
_LANDINGS = _pool(
    "/ 45, /pricing 8, /features 6, /blog/quiet-office 7, /categories/desks 10, "
    "/products/oak-desk 8, /products/task-lamp 6, /blog/cable-order 4, /new 6"
)
# In cents; the first ones sell best.
_PRICES = dict(
    _pairs(
        "oak-desk 38900, task-lamp 5990, mesh-chair 24900, felt-pad 2490, monitor-arm 8950, "
        "cable-box 1995, footrest 3450, wall-shelf 4900, standing-desk 52900, pen-tray 1290, "
        "acoustic-panel 7900, reading-light 4450"
    )
)
_PRODUCTS = tuple(name for rank, name in enumerate(_PRICES, 1) for _ in range(60 // rank))
_CATEGORIES = _pool("desks 8, lamps 6, chairs 5, storage 4, acoustics 2, sale 7")
_QUERIES = _pool("desk 9, lamp 7, chair 6, oak 3, cable 3, shelf 2, gift 1")
_ARTICLES = _pool(
    "/blog/quiet-office 6, /help/delivery 5, /pricing 5, /blog/cable-order 4, /help/returns 4, "
    "/features 4, /blog/small-rooms 2, /about 1, /jobs 1"
)
_VIDEOS = _pool("assembly-desk 5, assembly-chair 3, studio-tour 3, light-guide 2")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the traffic depends on, apart from the calendar."""

    seed: int
    scale: float
    launch: date

    def name(self, purpose: str, ordinal: int) -> str:
        """What a day's random source is named after, and its ids: nothing else decides them."""
        return f"{purpose} {ordinal} {self.seed} {float(self.scale)!r} {self.launch}"


@dataclass(frozen=True, slots=True)
class _Day:
    """What makes a day special; `presence` is the share of intended visits that happen."""

    ordinal: int
    newcomers: float
    presence: float
    campaign: str | None
    is_outage: bool


@dataclass(frozen=True, slots=True)
class _Person:
    """Somebody who comes to the site, on `first_day` for the first time."""

    number: str
    first_day: int
    has_account: bool
    identity: dict[str, object]
    traits: dict[str, object]


@dataclass(slots=True)
class _Session:
    """The events of one visit while they are being made; `at` moves on with each."""

    random: _Draw
    at: int
    common: dict[str, object]
    person: _Person
    events: list[_Timed]
    cart: list[int] = field(default_factory=list)

    def pick(self, pool: tuple[_Item, ...]) -> _Item:
        return pool[int(self.random() * len(pool))]

    def record(self, event_type: str, path: str, **properties: object) -> dict[str, object]:
        """Add an event on a page of the site and let some time pass."""
        event: dict[str, object] = {
            "event_type": event_type,
            **self.common,
            "url": _ORIGIN + path,
            "properties": {**self.person.traits, **properties},
        }
        self.events.append((self.at, event))
        self.at += 1_500 - int(log(1.0 - self.random()) * _PAUSE)
        return event


def _view_product(session: _Session) -> None:
    name = session.pick(_PRODUCTS)
    session.record("pageview", f"/products/{name}")
    if session.random() < (0.2 if session.person.has_account else 0.1):
        cents = _PRICES[name]
        session.record("add_to_cart", f"/products/{name}", product=name, price=cents / 100)
        session.cart.append(cents)


def _view_category(session: _Session) -> None:
    session.record("pageview", f"/categories/{session.pick(_CATEGORIES)}")


def _search(session: _Session) -> None:
    query = session.pick(_QUERIES)
    session.record("search", f"/search?q={query}", query=query, results=int(session.random() * 30))


def _read(session: _Session) -> None:
    session.record("pageview", session.pick(_ARTICLES))


def _watch(session: _Session) -> None:
    video = session.pick(_VIDEOS)
    seconds = 15 + int(session.random() * 240)
    session.record("video_play", f"/videos/{video}", video=video, seconds=seconds)


def _see_account(session: _Session) -> None:
    session.record("pageview", "/account/orders" if session.person.has_account else "/pricing")


def _fail(session: _Session) -> None:
    session.record("error", "/help/track", status=404 if session.random() < 0.8 else 500)


_STEPS: tuple[Callable[[_Session], None], ...] = (
    *(_view_product,) * 40,
    *(_view_category,) * 22,
    *(_search,) * 13,
    *(_read,) * 12,
    *(_see_account,) * 7,
    *(_watch,) * 5,
    _fail,
)


def _check_out(session: _Session) -> None:
    """From the cart to the purchase; many stop on the way."""
    session.record("pageview", "/cart")
    if session.random() < 0.5:
        return
    session.record("pageview", "/checkout")
    if session.random() < (0.75 if session.person.has_account else 0.4):
        session.record(
            "purchase",
            "/checkout/done",
            amount=sum(session.cart) / 100,
            currency=_CURRENCIES.get(str(session.person.traits["country"]), "EUR"),
            items=len(session.cart),
        )


def _arrive(session: _Session, today: _Day, *, signs_up: bool) -> None:
    """The first page, and how the visitor came to be known."""
    person, random = session.person, session.random
    # Most accounts come by an invitation and are known at once: otherwise each would leave a
    # visitor behind who never returns, and no cohort could look healthy.
    if signs_up and random() < 0.75:
        session.record("signup", "/invite", method="invite")
        return
    path, referrer = session.pick(_LANDINGS), session.pick(_REFERRERS)
    if today.campaign and random() < (0.6 if person.first_day == today.ordinal else 0.25):
        path, referrer = f"/?utm_source=newsletter&utm_campaign={today.campaign}", _DIRECT
    landing = session.record("pageview", path)
    if referrer != _DIRECT:
        landing["referrer"] = referrer
    if signs_up:
        visitor = f"v{person.number}"
        del landing["user_id"]
        landing["visitor_id"] = visitor
        session.record("signup", "/signup", method="email")["visitor_id"] = visitor
    elif person.has_account and random() < 0.3:
        session.record("login", "/login", method="password")


def _visit(session: _Session, today: _Day, *, signs_up: bool) -> None:
    """A whole session, from the first page to the last event."""
    random, person = session.random, session.person
    _arrive(session, today, signs_up=signs_up)
    if today.is_outage and random() < 0.6:
        session.record("error", "/", status=503)
        return
    for _ in range(int(-log(1.0 - random()) * (2.9 if person.has_account else 1.8))):
        session.pick(_STEPS)(session)
    if session.cart and random() < 0.6:
        _check_out(session)
    if person.has_account and random() < 0.08:
        session.record("logout", "/logout")


def _day_of(ordinal: int, plan: _Plan) -> _Day:
    """The day with this proleptic ordinal; campaigns and the outage come every year."""
    day = date.fromordinal(ordinal)
    # A Wednesday in September, so that the dip never hides in a weekend.
    is_outage = day.month == 9 and day.weekday() == 2 and 15 <= day.day <= 21
    left = 1 - min(max((day - plan.launch).days / _GROWTH_DAYS, 0.0), 1.0)
    grown = 1 - left * left
    usual = (_WEEKEND if day.weekday() >= 5 else 1.0) * (_OUTAGE if is_outage else 1.0)
    newcomers = _NEWCOMERS * plan.scale * (1 + _MORE_NEWCOMERS * grown) * usual
    presence = (_FIRST_APPEAL + (1 - _FIRST_APPEAL) * grown) * usual
    campaign = None
    for name, month, first, last, factor in _CAMPAIGNS:
        if day.month == month and first <= day.day <= last:
            campaign, newcomers = name, newcomers * factor
    return _Day(ordinal, newcomers, presence, campaign, is_outage)


def _newcomer(rng: Random, first_day: int, place: int) -> _Person:
    """The `place`-th newcomer of a day; the number holds both, so no other has it."""
    number = f"{first_day}{place:04d}"
    has_account = rng.random() < _HAS_ACCOUNT
    device, browser = rng.choice(_DEVICES).split("/")
    country = rng.choice(_COUNTRIES)
    traits: dict[str, object] = {"device": device, "browser": browser, "country": country}
    if has_account:
        traits["plan"] = rng.choice(_PLANS)
        return _Person(number, first_day, True, {"user_id": f"u{number}"}, traits)
    # Some refuse to be recognised: their events carry no identity at all.
    identity: dict[str, object] = {"visitor_id": f"v{number}"} if rng.random() < 0.95 else {}
    return _Person(number, first_day, False, identity, traits)


def _visit_days(rng: Random, person: _Person) -> Iterator[int]:
    """The days on which a newcomer means to come, the first included, in order."""
    yield person.first_day
    if not person.has_account and rng.random() < 0.75:
        return
    # Power laws, both: many try once, a few come nearly every day for months.
    stay = min(5.0 * rng.paretovariate(0.52) - 5.0, _LIFETIME)
    rate = min(0.15 * rng.paretovariate(0.9), 2.0)
    age = 1 + int(rng.expovariate(rate))
    while age < stay:
        yield person.first_day + age
        age += 1 + int(rng.expovariate(rate))


def _days(first: int, plan: _Plan) -> Iterator[tuple[_Day, list[_Person]]]:
    """Each day from `first` on, without end, with the people who mean to come on it."""
    agenda: defaultdict[int, list[_Person]] = defaultdict(list)
    # Starting one lifetime early brings in everybody who may still be around.
    ordinal = first - _LIFETIME
    while True:
        today = _day_of(ordinal, plan)
        rng = Random(plan.name("people", ordinal))
        for place in range(int(today.newcomers * rng.uniform(0.85, 1.15) + rng.random())):
            person = _newcomer(rng, ordinal, place)
            for visit_day in _visit_days(rng, person):
                agenda[visit_day].append(person)
        people = agenda.pop(ordinal, [])
        if ordinal >= first:
            yield today, people
        ordinal += 1


def _events_of(today: _Day, people: list[_Person], random: _Draw) -> list[_Timed]:
    """All events of a day in order of time, each with its milliseconds since midnight."""
    events: list[_Timed] = []
    sessions = 0
    for person in people:
        is_new = person.first_day == today.ordinal
        if not is_new and random() >= today.presence:
            continue
        starts = sorted(
            int((int(_HOURS[int(random() * len(_HOURS))]) + random()) * _HOUR)
            for _ in range(2 if random() < 0.15 else 1)
        )
        for nth, start in enumerate(starts):
            sessions += 1
            common = {**person.identity, "session_id": f"s{today.ordinal}{sessions:05d}"}
            session = _Session(random, start, common, person, events)
            _visit(session, today, signs_up=is_new and person.has_account and nth == 0)
    events.sort(key=itemgetter(0))
    return events


def demo_events(
    *,
    until: datetime,
    days: int = 365,
    seed: int = 7,
    scale: float = 1.0,
    launch: date = DEMO_LAUNCH,
) -> Iterator[dict[str, object]]:
    """Events of the demo site in order of time, from `days` before `until` up to just before it.

    Each is a dict with the fields of `EventInput` in snake case: `event_id` (the text of a UUID),
    `event_type`, `occurred_at` (aware, UTC), `session_id`, `url`, `properties`, and those of
    `user_id`, `visitor_id` and `referrer` that the event has. About 300,000 a year at `scale` 1.

    The events of a day depend on `seed`, `scale` and `launch` alone, never on `until`. Traffic
    grows to about two and a half times in the year after `launch` and stays there: for a year of
    growth whenever the demo is first started, pass the day that lay a year before that start, and
    the same day at every later start. Raises ValueError where an argument makes no sense.
    """
    if until.tzinfo is None:
        raise ValueError("until has no time zone: pass an aware datetime")
    if days < 1 or scale <= 0:
        raise ValueError("days and scale must be positive")
    return _between(until - timedelta(days=days), until, _Plan(seed, scale, launch))


def _between(start: datetime, until: datetime, plan: _Plan) -> Iterator[dict[str, object]]:
    zone = zone_of(DEMO_TIMEZONE)
    for today, people in _days(local_day(start, zone).toordinal(), plan):
        name = plan.name("day", today.ordinal)
        # A day's ids share the first half and count in the second: cheap to make, kind to indexes.
        id_prefix = str(uuid5(_NAMESPACE, name))[:24]
        day = date.fromordinal(today.ordinal)
        midnight, end = start_of_day(day, zone), start_of_day(day + DAY, zone)
        for ordinal, (at, event) in enumerate(_events_of(today, people, Random(name).random)):
            occurred_at = midnight + timedelta(milliseconds=at)
            if occurred_at >= until:
                return
            # What would reach into the next day is left out: days stay independent.
            if start <= occurred_at < end:
                event_id = f"{id_prefix}{ordinal:012x}"
                yield {"event_id": event_id, "occurred_at": occurred_at, **event}
        if end >= until:
            return
