"""Rows of reports are read back by another process as they were."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from data.cache import Codec
from data.queries import ActiveUsersQuery, EventCountsQuery, RetentionQuery, TopEventsQuery
from data.report_rows import ACTIVE_USERS, EVENT_COUNTS, RETENTION, TOP_EVENTS
from tests import oracle
from tests.strategies import Scene, mixed_cases


@given(case=mixed_cases())
def test_rows_are_read_back_as_they_were(
    case: tuple[Scene, ActiveUsersQuery, TopEventsQuery, EventCountsQuery, RetentionQuery],
) -> None:
    scene, users, top, counts, retained = case
    for codec, rows in (
        (ACTIVE_USERS, oracle.active_users(scene.events, users)),
        (TOP_EVENTS, oracle.top_events(scene.events, top)),
        (EVENT_COUNTS, oracle.event_counts(scene.events, counts)),
        (RETENTION, oracle.retention(scene.events, retained)),
    ):
        again = codec.decode(codec.encode(rows))

        assert again == rows
        # Days stay days, and hours hours with their zone.
        assert repr(again) == repr(rows)


@pytest.mark.parametrize("codec", [ACTIVE_USERS, TOP_EVENTS, EVENT_COUNTS, RETENTION])
@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01\x02", b"\x93\xa1a\xa1b\xa1c"])
def test_what_is_not_rows_is_not_read(codec: Codec, data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        codec.decode(data)
