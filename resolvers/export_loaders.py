"""Dataloaders for exports: what a request asks of several destinations or runs, asked once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Protocol, TypeVar
from uuid import UUID

from aiodataloader import DataLoader

from data.exports.destination import TargetKind
from data.exports.manifest import Manifest
from data.exports.records import Lag, StoredDestination, StoredRun
from data.postgres.export_destinations import destinations_by_ids
from data.postgres.export_runs import last_runs, manifests_of
from data.postgres.reads import Question

Read = TypeVar("Read")
Count = Callable[[Sequence[StoredDestination]], Awaitable[Mapping[UUID, Lag]]]


class Reading(Protocol):
    """Asks the ledger; `name` is what a trace calls it."""

    async def __call__(self, name: str, asked: Sequence[object], question: Question[Read]) -> Read:
        """The answer; raises `Unavailable`."""


class ExportLoaders:
    """One dataloader for each kind of question about exports."""

    def __init__(self, read: Reading) -> None:
        self._read = read
        self._lags: DataLoader[UUID, Lag | None] | None = None

    @cached_property
    def destinations(self) -> DataLoader[UUID, StoredDestination | None]:
        """Destinations by id, also those that were deleted."""

        async def load(ids: list[UUID]) -> list[StoredDestination | None]:
            found = await self._read("destinations", ids, lambda at: destinations_by_ids(at, ids))
            return [found.get(one) for one in ids]

        return DataLoader(load)

    def lags(self, count: Count) -> DataLoader[UUID, Lag | None]:
        """How far destinations are behind; None for one that was deleted."""
        if self._lags is None:

            async def load(ids: list[UUID]) -> list[Lag | None]:
                known = await self.destinations.load_many(ids)
                found = await count([one for one in known if one is not None])
                return [found.get(one) for one in ids]

            self._lags = DataLoader(load)
        return self._lags

    @cached_property
    def last_runs(self) -> DataLoader[UUID, StoredRun | None]:
        """The newest run of each destination."""

        async def load(ids: list[UUID]) -> list[StoredRun | None]:
            found = await self._read("last_runs", ids, lambda at: last_runs(at, ids))
            return [found.get(one) for one in ids]

        return DataLoader(load)

    @cached_property
    def manifests(self) -> DataLoader[UUID, Manifest | None]:
        """The manifest of each run in the client's own bucket."""

        async def load(ids: list[UUID]) -> list[Manifest | None]:
            found = await self._read("manifests", ids, lambda at: manifests_of(at, ids))
            return [found.get((one, TargetKind.CLIENT)) for one in ids]

        return DataLoader(load)
