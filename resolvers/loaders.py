"""Dataloaders of one request: what it asks of several sites or ranges becomes one statement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiodataloader import DataLoader

from data.columnar import ColumnarCopy
from data.event_store import EventStore, StoreUnavailable
from data.queries import (
    ActiveUsersQuery,
    ActiveUsersRows,
    Answer,
    EventCountsQuery,
    EventCountsRows,
    EventRows,
    EventsQuery,
    RetentionQuery,
    RetentionRows,
    TopEventsQuery,
    TopEventsRows,
    Watermark,
)
from resolvers.errors import Unavailable

Query = TypeVar("Query")
Rows = TypeVar("Rows")

Loaded = tuple[Rows, Watermark | None]
Ask = Callable[[EventStore, Sequence[Query]], Awaitable[Answer[Rows]]]


def _loader(copy: ColumnarCopy, ask: Ask[Query, Rows]) -> DataLoader[Query, Loaded[Rows]]:
    """A dataloader that asks the store once for all questions of a moment."""

    async def load(queries: list[Query]) -> list[Loaded[Rows]]:
        try:
            answer = await ask(copy.store, queries)
        except StoreUnavailable as error:
            raise Unavailable("columnar", "reports cannot be answered now") from error
        return [(rows, answer.watermark) for rows in answer.rows]

    return DataLoader(load)


class Loaders:
    """One dataloader for each kind of question, made when it is first asked."""

    def __init__(self, copy: ColumnarCopy) -> None:
        # The store is looked up per question: a rebuild may put another one in its place.
        self.active_users: DataLoader[ActiveUsersQuery, Loaded[ActiveUsersRows]] = _loader(
            copy, lambda store, queries: store.active_users(queries)
        )
        self.top_events: DataLoader[TopEventsQuery, Loaded[TopEventsRows]] = _loader(
            copy, lambda store, queries: store.top_events(queries)
        )
        self.event_counts: DataLoader[EventCountsQuery, Loaded[EventCountsRows]] = _loader(
            copy, lambda store, queries: store.event_counts(queries)
        )
        self.retention: DataLoader[RetentionQuery, Loaded[RetentionRows]] = _loader(
            copy, lambda store, queries: store.retention(queries)
        )
        self.events: DataLoader[EventsQuery, Loaded[EventRows]] = _loader(
            copy, lambda store, queries: store.events(queries)
        )
