"""`footfall sites`: make and list the containers of events."""

from __future__ import annotations

from typing import Annotated

import typer

from data.calendar import Weekday
from data.postgres.engine import transaction
from data.postgres.sites import Site, all_sites, create_site
from resolvers.sites import SiteDraft, checked
from server.cli.failures import CommandFailed
from server.cli.options import Json
from server.cli.session import opened_ledger, run, settings_of_command
from server.cli.terminal import say, show, show_json, show_table
from server.clock import utc_now
from server.settings import Settings


def create(
    site_id: Annotated[
        str, typer.Argument(metavar="ID", help="What events name the site by, such as `shop`.")
    ],
    timezone: Annotated[
        str, typer.Option(metavar="ZONE", help="IANA name of the zone whose days are counted.")
    ] = "UTC",
    week_start: Annotated[
        Weekday, typer.Option(case_sensitive=False, help="The first day of a week.")
    ] = Weekday.MONDAY,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="An origin whose pages may send events, such as https://example.com; can be "
            "given several times. Without it, pages of any origin may.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for people; the id if left out.")] = None,
    json: Json = False,
) -> None:
    """Make a site."""
    draft = checked(
        SiteDraft(
            site_id, name=name, timezone=timezone, week_start=week_start, origins=origin or ()
        )
    )
    site = run(_create(settings_of_command(), draft))
    if json:
        show_json(site)
        return
    show(site.site_id)
    say(f"made site {site.site_id} ({site.timezone}, weeks from {site.week_start.capitalize()})")


async def _create(settings: Settings, draft: SiteDraft) -> Site:
    site = Site(
        site_id=draft.site_id,
        name=draft.name or draft.site_id,
        timezone=draft.timezone or "UTC",
        week_start=draft.week_start or Weekday.MONDAY,
        origins=tuple(draft.origins or ()),
        created_at=utc_now(),
    )
    async with opened_ledger(settings) as ledger, transaction(ledger.writer) as connection:
        if not await create_site(connection, site):
            raise CommandFailed(
                f"there is a site {site.site_id} already: see `footfall sites list`, and change "
                "it by the mutation saveSite"
            )
    return site


def list_sites(json: Json = False) -> None:
    """List all sites."""
    sites = run(_list(settings_of_command()))
    if json:
        show_json(sites)
        return
    show_table(
        ("id", "name", "time zone", "week start", "origins", "created"),
        [
            (
                site.site_id,
                site.name,
                site.timezone,
                site.week_start.capitalize(),
                " ".join(site.origins) or "any",
                f"{site.created_at:%Y-%m-%d %H:%M}",
            )
            for site in sites
        ],
    )
    if not sites:
        say("no sites yet: make one with `footfall sites create ID`")


async def _list(settings: Settings) -> list[Site]:
    async with opened_ledger(settings) as ledger, transaction(ledger.writer) as connection:
        return await all_sites(connection)
