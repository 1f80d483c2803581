"""Pages of long lists, by cursors that stay right while events arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol, TypeAlias

import strawberry

from resolvers.raw_events import MAX_PAGE, PageAsked
from schema.arguments import given

First: TypeAlias = Annotated[
    int,
    strawberry.argument(f"How many entries the page has at most: 1 to {MAX_PAGE:,}."),
]
After: TypeAlias = Annotated[
    str | None,
    strawberry.argument(
        description=(
            "Go on behind this place: `endCursor` of the page before, or the cursor of any edge. "
            "The first page where it is left out."
        )
    ),
]


@strawberry.type
class PageInfo:
    """Where a page begins and ends, and what lies around it."""

    has_next_page: bool = strawberry.field(description="There is more behind this page.")
    has_previous_page: bool = strawberry.field(
        description="This page was asked for with `after`, so something lies before it."
    )
    start_cursor: str | None = strawberry.field(
        description="The place of the first entry; null on an empty page."
    )
    end_cursor: str | None = strawberry.field(
        description=(
            "The place of the last entry, for `after` of the next page; null on an empty page."
        )
    )


class Page(Protocol):
    """A page of whatever a connection shows."""

    @property
    def cursors(self) -> Sequence[str]:
        """The places of its entries."""

    @property
    def has_next(self) -> bool:
        """Whether there is more behind it."""

    @property
    def has_previous(self) -> bool:
        """Whether something lies before it."""


def page_info(page: Page) -> PageInfo:
    """What a page says of its ends."""
    return PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=page.cursors[0] if page.cursors else None,
        end_cursor=page.cursors[-1] if page.cursors else None,
    )


def page_asked(first: int, after: str | None) -> PageAsked:
    """Which page a connection is asked for."""
    return PageAsked(first, given(after))
