"""When clocks are changed, found without the product's calendar: by looking, hour by hour."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
# Older moments stand in some files for "always".
OLDEST = datetime(1800, 1, 1, tzinfo=UTC)

# Zones that break rules of thumb, each with years in which they do.
NASTY: dict[str, tuple[int, ...]] = {
    "UTC": (2000, 2024),
    "Asia/Kathmandu": (1985, 1986, 2024),  # 5:45 off; until 1986 5:30
    "Australia/Lord_Howe": (1985, 2023, 2024),  # summer time is half an hour
    "America/Havana": (2012, 2023, 2024),  # clocks go forward at midnight, back to midnight
    "America/St_Johns": (1988, 1999, 2007, 2010),  # at 00:01: back into the day before
    "America/Toronto": (1919,),  # from 23:30 to 00:30
    "America/Sao_Paulo": (2017, 2018),  # back at midnight: 23 o'clock comes twice
    "Pacific/Apia": (2011, 2012),  # 30 December 2011 did not happen
    "Pacific/Kwajalein": (1969, 1993),  # nor did 21 August 1993; 30 September 1969 came twice
    "Africa/Casablanca": (2023, 2030),  # Ramadan moves the clock
    "Asia/Tehran": (1977, 2021, 2022),  # 24 o'clock, then no summer time at all
    "Europe/Dublin": (1971, 2023, 2024),  # winter time is the exception, by law
    "Europe/Amsterdam": (1937, 1940),  # offsets with seconds
    "Europe/Berlin": (1945, 2023, 2024),
    "Antarctica/Troll": (2023, 2024),  # two hours
    "America/Caracas": (2007, 2016),  # half an hour, for good
    "America/Los_Angeles": (2023, 2024),
    "Pacific/Kiritimati": (1994, 2024),  # 14 hours ahead
}

# Those of them whose clocks do not jump from one full hour to another on one and the same day.
ODD = (
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Havana",
    "Pacific/Kwajalein",
)


@lru_cache
def zone_names() -> list[str]:
    """Every zone of the database; `localtime` is this machine's own, not one of them."""
    return sorted(available_timezones() - {"localtime"})


def offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    """How far local time is ahead of UTC."""
    found = instant.astimezone(zone).utcoffset()
    assert found is not None
    return found


@lru_cache(maxsize=1024)
def changes_in_year(zone: ZoneInfo, year: int) -> tuple[datetime, ...]:
    """The UTC instants of a UTC year at which the offset is another than a second before."""
    before = datetime(year, 1, 1, tzinfo=UTC) - SECOND
    last = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    pieces = [(before, last)]
    # Looked for ever closer. From day to day first: a test makes sure that no two changes of
    # one zone lie closer to each other.
    for step in (24 * HOUR, HOUR, MINUTE, SECOND):
        pieces = [found for piece in pieces for found in _with_a_change(*piece, step, zone)]
    return tuple(high for _, high in pieces)


def _with_a_change(
    start: datetime, end: datetime, step: timedelta, zone: ZoneInfo
) -> list[tuple[datetime, datetime]]:
    """Of the steps from `start` to `end` those over which the offset changes."""
    instants = [start + n * step for n in range((end - start) // step + 1)]
    known = [(at, offset(at, zone)) for at in instants]
    return [(low, high) for (low, first), (high, then) in pairwise(known) if first != then]


def zone_file(name: str) -> bytes:
    """The compiled file of a zone, from where `zoneinfo` takes it."""
    for folder in TZPATH:
        path = Path(folder, name)
        if path.is_file():
            return path.read_bytes()
    return resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


def listed_changes(name: str) -> list[tuple[datetime, timedelta]]:
    """Changes of the offset that a zone's file lists, each with the offset from then on.

    The format is RFC 8536: a block with 32-bit times, then one with 64-bit times, which counts.
    """
    data = zone_file(name)
    header = struct.Struct(">4s1s15x6L")
    _, _, isut, isstd, leaps, times, types, chars = header.unpack_from(data)
    at = header.size + times * 5 + types * 6 + chars + leaps * 8 + isstd + isut
    _, _, _, _, _, times, types, _ = header.unpack_from(data, at)
    at += header.size
    moments = struct.unpack_from(f">{times}q", data, at)
    kinds = data[at + times * 8 : at + times * 9]
    offsets = [
        struct.unpack_from(">l", data, at + times * 9 + kind * 6)[0] for kind in range(types)
    ]
    changes = []
    known = offsets[0]
    for moment, kind in zip(moments, kinds, strict=True):
        if offsets[kind] != known and moment > OLDEST.timestamp():
            changes.append((EPOCH + moment * SECOND, timedelta(seconds=offsets[kind])))
        known = offsets[kind]
    return changes
