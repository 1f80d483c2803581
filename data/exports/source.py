"""Where the rows of an export come from: what the columnar copy does for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from data.exports.layout import Arrivals, Layout, Selection
from data.exports.tally import Tally


@dataclass(frozen=True, slots=True)
class FileOrder:
    """A file to be written: which events of a selection, how, and where.

    In a document of JSON `head` and `tail` stand around the events. `has_header` is about CSV,
    `metadata` about Parquet.
    """

    selection: Selection
    arrivals: Arrivals
    layout: Layout
    path: Path
    head: str = ""
    tail: str = ""
    has_header: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stack:
    """Places in the order of arrival and how many events of a selection's site lie there."""

    arrivals: Arrivals
    events: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Events of a site in a stretch of the feed, and the position of the first of them."""

    events: int
    first: int


class ExportSource(Protocol):
    """A copy of the ledger in order of arrival.

    All of it raises `StoreUnavailable`, also where the copy is not as far as the selection goes.
    """

    async def export_stacks(
        self, selection: Selection, arrivals: Arrivals, most: int
    ) -> Sequence[Stack]:
        """The events of the site by place, in order, in at most so many equally wide stretches.

        Stretches without events are left out; the filter is not asked.
        """

    async def export_tally(self, selection: Selection, arrivals: Arrivals) -> Tally:
        """What the places hold of the selection."""

    async def export_rows(self, order: FileOrder) -> int:
        """Write the file, in order of arrival; how many events are in it.

        The path must be in the folder of the copy, where alone it may write.
        """
