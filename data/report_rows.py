"""Rows of reports as bytes, for other processes: compact, and read back with their types checked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from data.cache import Codec
from data.queries import (
    ActiveUsersRows,
    EventCountsRows,
    RetentionRows,
    TopEventsRow,
    TopEventsRows,
)

# What a row takes in memory: a key of its own, a number and their place in a table.
_ROW_BYTES = 150
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Written = TypeVar("Written")

_Counted = tuple[list[tuple[int, int]], int]
# By the hour the keys are microseconds since 1970, else ordinals of days.
_CountedBy = tuple[bool, list[tuple[int, int]], int]
_Top = tuple[list[tuple[str, int, int]], int]
_Cohorts = tuple[list[tuple[int, int]], list[tuple[int, int, int]]]


def _write_active_users(rows: ActiveUsersRows) -> _Counted:
    return [(day.toordinal(), users) for day, users in rows.users.items()], rows.total


def _read_active_users(written: _Counted) -> ActiveUsersRows:
    users, total = written
    return ActiveUsersRows({date.fromordinal(day): number for day, number in users}, total)


def _write_event_counts(rows: EventCountsRows) -> _CountedBy:
    hours = [(key, count) for key, count in rows.counts.items() if isinstance(key, datetime)]
    if hours:
        return True, [((key - _EPOCH) // _MICROSECOND, count) for key, count in hours], rows.total
    return False, [(key.toordinal(), count) for key, count in rows.counts.items()], rows.total


def _read_event_counts(written: _CountedBy) -> EventCountsRows:
    is_by_hour, counts, total = written
    if is_by_hour:
        return EventCountsRows({_EPOCH + key * _MICROSECOND: count for key, count in counts}, total)
    return EventCountsRows({date.fromordinal(key): count for key, count in counts}, total)


def _write_top_events(rows: TopEventsRows) -> _Top:
    return [(row.event_type, row.count, row.users) for row in rows.rows], rows.total


def _read_top_events(written: _Top) -> TopEventsRows:
    rows, total = written
    return TopEventsRows(tuple(TopEventsRow(*row) for row in rows), total)


def _write_retention(rows: RetentionRows) -> _Cohorts:
    returned = [(i, k, users) for (i, k), users in rows.returned.items()]
    return list(rows.sizes.items()), returned


def _read_retention(written: _Cohorts) -> RetentionRows:
    sizes, returned = written
    return RetentionRows(dict(sizes), {(i, k): users for i, k, users in returned})


def _codec(
    written: Any,
    write: Callable[[Any], Written],
    read: Callable[[Written], Any],
    count: Callable[[Any], int],
) -> Codec:
    decoder, encoder = msgspec.msgpack.Decoder(written), msgspec.msgpack.Encoder()
    return Codec(
        encode=lambda rows: encoder.encode(write(rows)),
        decode=lambda data: read(decoder.decode(data)),
        size=lambda rows: _ROW_BYTES * count(rows),
    )


ACTIVE_USERS = _codec(
    _Counted, _write_active_users, _read_active_users, lambda rows: len(rows.users)
)
EVENT_COUNTS = _codec(
    _CountedBy, _write_event_counts, _read_event_counts, lambda rows: len(rows.counts)
)
# An event type has up to 200 characters or so, and there are a thousand at the most.
TOP_EVENTS = _codec(_Top, _write_top_events, _read_top_events, lambda rows: 3 * len(rows.rows))
RETENTION = _codec(
    _Cohorts,
    _write_retention,
    _read_retention,
    lambda rows: len(rows.sizes) + len(rows.returned),
)
