"""`footfall demo`: a site full of data, the service, and what to try first."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from datetime import datetime, timedelta
from socket import socket
from typing import Annotated

import typer

from data.calendar import local_day, zone_of
from data.postgres.ledger import ledger_urls
from data.resources import Resources
from server.cli.demo_site import SITE_ID, DemoSite, prepare_demo
from server.cli.failures import CommandFailed
from server.cli.serve import (
    STOP_WORDS,
    Announce,
    Host,
    Port,
    listening,
    serve_on,
    settings_to_serve,
    show_addresses,
)
from server.cli.session import configure_command_logs, opened_ledger, run, service_keys
from server.cli.terminal import say, show, waiting
from server.clock import utc_now
from server.resources import ledger_address, prepare_home
from server.settings import Settings
from telemetry.logs import configure_logs

_LOOK_EVERY_SECONDS = 0.05


def demo(
    host: Host = None,
    port: Port = None,
    days: Annotated[
        int, typer.Option(min=1, max=365, help="How far back the traffic of a new site goes.")
    ] = 365,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Run the service when the data are in.")
    ] = True,
) -> None:
    """Make a demo site with a year of traffic, and run the service on it.

    A second start goes on from the first: it adds the traffic of the meantime and keeps the key.
    """
    settings = settings_to_serve(host, port)
    if settings.is_production:
        raise CommandFailed(
            "the demo prints its keys and is for development: unset ENVIRONMENT, and name a "
            "FOOTFALL_HOME of its own"
        )
    configure_command_logs(settings)
    prepare_home(settings)
    # A port that is taken is better known before the data are loaded than after.
    with listening(settings.host, settings.port) if serve else nullcontext() as listener:
        run(_demo(settings, listener, timedelta(days=days)))


async def _demo(settings: Settings, listener: socket | None, history: timedelta) -> None:
    # Held from here on, so that the embedded server is not stopped between loading and serving.
    async with ledger_urls(ledger_address(settings)):
        async with opened_ledger(settings) as ledger:
            site = await prepare_demo(ledger, settings.home, utc_now(), history)
        say(f"the demo site has its traffic: {site.added:,} events were added")
        if listener is None:
            _show_keys((await service_keys(settings)).admin_key, site)
            return
        configure_logs(level=settings.log_level, json=settings.is_production)
        await serve_on(listener, settings, _announce(settings, site))


def _announce(settings: Settings, site: DemoSite) -> Announce:
    async def announce(resources: Resources, url: str) -> None:
        with waiting("Reading the events into the columnar copy"):
            while not resources.follower.is_caught_up:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
        show_addresses(settings, resources, url)
        show("")
        _show_keys(resources.secrets.admin_key, site)
        show("")
        show(
            f"Open {url}/graphql in a browser and paste the key, or try these in another terminal:"
        )
        for words, command in commands_to_try(url, site, utc_now()):
            show("")
            show(f"# {words}")
            show(command)
        show("")
        show(STOP_WORDS)

    return announce


def _show_keys(admin_key: str, site: DemoSite) -> None:
    show(f"  key        {site.key}  (site {SITE_ID}: ingest, read)")
    show(f"  admin key  {admin_key}  (everything)")


def commands_to_try(url: str, site: DemoSite, now: datetime) -> list[tuple[str, str]]:
    """Three commands for a shell, each with a few words: they work as they are printed."""
    today = local_day(now, zone_of(site.site.timezone))
    week_ago = today - timedelta(days=6)
    event = {"site": SITE_ID, "event": "pageview", "user": "you", "url": "https://demo.example/hi"}
    mutation = (
        'mutation { ingest(input: {events: [{eventType: "signup", userId: "you"}]})'
        " { accepted duplicates rejected } }"
    )
    query = (
        f'{{ dau(range: {{from: "{week_ago}", to: "{today}"}})'
        " { points { date users } meta { dataThrough } } }"
    )
    return [
        ("Send an event, as a page does; it needs no key", _curl(f"{url}/collect", event)),
        ("Send one by GraphQL", _curl(f"{url}/graphql", {"query": mutation}, site.key)),
        (
            "Ask for the daily active users of the last seven days; you are in today's",
            _curl(f"{url}/graphql", {"query": query}, site.key),
        ),
    ]


def _curl(url: str, body: dict[str, str], key: str | None = None) -> str:
    headers = "-H 'Content-Type: application/json'"
    if key is not None:
        headers += f" -H 'X-API-Key: {key}'"
    # Nothing in these bodies has a single quote, so the shell takes them as they are.
    return f"curl -s -w '\\n' {url} {headers} -d '{json.dumps(body)}'"
