"""Sites: the containers of events, each with its calendar."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import ID

from data.calendar import Weekday
from resolvers.sites import SiteDraft
from schema.enums import describe_enum

describe_enum(
    Weekday,
    "A day of the week.",
    MONDAY="Monday, on which weeks start unless a site says otherwise.",
    TUESDAY="Tuesday.",
    WEDNESDAY="Wednesday.",
    THURSDAY="Thursday.",
    FRIDAY="Friday.",
    SATURDAY="Saturday.",
    SUNDAY="Sunday.",
)


@strawberry.type
class Site:
    """A container of events: a web site, an app, or whatever is to be counted by itself."""

    site_id: ID = strawberry.field(name="id", description="The site's id, as `siteId` takes it.")
    name: str = strawberry.field(description="The site's name for people.")
    timezone: str = strawberry.field(
        description="IANA name of the time zone whose days, weeks and months its reports use."
    )
    week_start: Weekday = strawberry.field(description="The day on which its weeks start.")
    origins: list[str] = strawberry.field(
        description=(
            "Origins of pages that may send events, such as `https://example.com`. Pages of any "
            "origin may where the list is empty or holds `*`."
        )
    )
    created_at: datetime = strawberry.field(description="When the site was made.")


@strawberry.input
class SiteInput:
    """A site as it is to be; what is left out or null stays as it is.

    Where there is no site with this id, one is made.
    """

    id: ID = strawberry.field(
        description="1 to 63 of a-z, 0-9, `.`, `_` and `-`; begins with a letter or a digit."
    )
    name: str | None = strawberry.field(
        description="1 to 200 characters; the id is the name of a new site that gets none."
    )
    timezone: str | None = strawberry.field(
        description="IANA name such as `Europe/Berlin`; UTC for a new site that gets none."
    )
    week_start: Weekday | None = strawberry.field(
        description="The day on which weeks start; MONDAY for a new site that gets none."
    )
    origins: list[str] | None = strawberry.field(
        description=(
            "Origins of pages that may send events, in place of those before; an empty list or "
            "`*` lets pages of any origin send."
        )
    )

    def to_draft(self) -> SiteDraft:
        """The site for the resolver."""
        return SiteDraft(
            site_id=self.id,
            name=self.name,
            timezone=self.timezone,
            week_start=self.week_start,
            origins=self.origins,
        )
