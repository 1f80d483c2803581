"""The demo site: made once, with a key and a year of traffic, and brought up to now every time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from data.calendar import DAY, Weekday, local_day, zone_of
from data.demo_traffic import DEMO_TIMEZONE, demo_events
from data.imports.rows import Reading, Row
from data.postgres.append import make_partitions_ahead
from data.postgres.engine import transaction
from data.postgres.keys import Scope, all_keys, secret_matches, split_key
from data.postgres.ledger import Ledger
from data.postgres.sites import Site, all_sites
from resolvers.imports import Import, RefusedRow, Tally, take_rows
from resolvers.keys import KeyDraft, store_key
from resolvers.sites import SiteDraft, checked, store_site
from server.cli.session import import_door
from server.cli.terminal import progress, say
from server.clock import utc_now

SITE_ID = "demo"
_A_YEAR = timedelta(days=365)
_MINUTE = timedelta(minutes=1)
# What a start adds at the least; a quick restart adds nothing.
_RECENT = timedelta(minutes=5)
_SCOPES = frozenset({Scope.INGEST, Scope.READ})


class _Loaded(msgspec.Struct, frozen=True):
    """How far the traffic is in: all of it that happened before `until`."""

    ledger_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class DemoSite:
    """The site, its key, and how many events were added this time."""

    site: Site
    key: str
    added: int


async def prepare_demo(ledger: Ledger, home: Path, now: datetime, history: timedelta) -> DemoSite:
    """The demo site with its traffic up to `now`; what is there already is left as it is.

    `history` is how far back the traffic goes where there is none yet.
    """
    site = await _ensure_site(ledger, now)
    note = home / "demo.json"
    traffic = _Traffic(_since(note, ledger, now - history), now, site)
    added = 0
    if now - traffic.since >= _RECENT:
        added = await _load(ledger, traffic)
        # Only now: after an interruption everything is sent again, and counts once.
        _write(note, _Loaded(str(ledger.ledger_id), now))
    return DemoSite(site, await _ensure_key(ledger, home / "demo-key", now), added)


async def _ensure_site(ledger: Ledger, now: datetime) -> Site:
    async with transaction(ledger.writer) as connection:
        for site in await all_sites(connection):
            if site.site_id == SITE_ID:
                return site
    draft = SiteDraft(SITE_ID, "Demo shop", DEMO_TIMEZONE, Weekday.MONDAY, ())
    site, _ = await store_site(ledger.writer, checked(draft), now)
    return site


@dataclass(slots=True)
class _Traffic:
    """The demo's events of a stretch of time, as rows; `reached` is the time of the last one."""

    since: datetime
    until: datetime
    site: Site
    reached: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.reached = self.since

    def rows(self) -> Iterator[Reading]:
        # The same launch at every start, so that the same people go on coming.
        launch = local_day(self.site.created_at - _A_YEAR, zone_of(self.site.timezone))
        days = math.ceil((self.until - self.since) / DAY)
        events = demo_events(until=self.until, days=days, launch=launch)
        for number, event in enumerate(events, 1):
            occurred_at = event["occurred_at"]
            assert isinstance(occurred_at, datetime)  # demo_events says so
            if occurred_at >= self.since:
                self.reached = occurred_at
                yield Row(number, event)


async def _load(ledger: Ledger, traffic: _Traffic) -> int:
    """Send traffic through the pipeline; how many events were new."""
    await make_partitions_ahead(ledger.writer, traffic.until)
    tally = Tally()
    with progress("Loading the demo site's traffic") as advance:

        def tell() -> None:
            done = (traffic.reached - traffic.since) // _MINUTE
            advance(done, (traffic.until - traffic.since) // _MINUTE, f"{tally.rows:,} events")

        async with import_door(ledger) as door:
            work = Import(door, SITE_ID, utc_now, tally, _never, tell, on_waiting=say)
            await take_rows(work, traffic.rows())
    return tally.accepted


def _never(row: RefusedRow) -> None:
    raise AssertionError(f"the demo made an event that is refused: {row}")


def _since(note: Path, ledger: Ledger, beginning: datetime) -> datetime:
    """From when on the traffic is missing."""
    try:
        loaded = msgspec.json.decode(note.read_bytes(), type=_Loaded)
    except (FileNotFoundError, msgspec.DecodeError):
        return beginning
    return loaded.until if loaded.ledger_id == str(ledger.ledger_id) else beginning


def _write(note: Path, loaded: _Loaded) -> None:
    note.write_bytes(msgspec.json.encode(loaded))


async def _ensure_key(ledger: Ledger, file: Path, now: datetime) -> str:
    """The key of the last start if it still opens the demo site, else a new one."""
    kept = _kept_key(file)
    if await _is_good(ledger, kept, now):
        return kept
    made = await store_key(ledger.writer, KeyDraft("demo", _SCOPES, SITE_ID), SITE_ID, now)
    _keep_key(file, made.text)
    return made.text


def _kept_key(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _keep_key(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as target:
        target.write(f"{text}\n")


async def _is_good(ledger: Ledger, text: str, now: datetime) -> bool:
    parts = split_key(text)
    if parts is None:
        return False
    key_id, secret = parts
    async with transaction(ledger.writer) as connection:
        known = {key.key_id: key for key in await all_keys(connection)}
    key = known.get(key_id)
    return (
        key is not None
        and key.site_id == SITE_ID
        and key.scopes >= _SCOPES
        and key.is_valid(now)
        and secret_matches(secret, key.secret_hash)
    )
