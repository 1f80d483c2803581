"""`footfall secrets`: secrets by name, and what they are kept by; in files or in Vault."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from getpass import getpass
from typing import Annotated, TypeVar

import typer

from data.admin_log import AdminAction, Entry
from data.local_secrets import NamedSecrets
from data.postgres.admin_log import record_alone
from data.secret_names import check_name
from data.secrets import load_secrets
from data.vault.checkup import logged_in
from data.vault.client import VaultClient
from data.vault.stored import (
    named_names,
    remove_named,
    rotate_transit,
    set_named,
    write_fresh,
)
from server.cli.failures import CommandFailed
from server.cli.options import Json
from server.cli.recording import command_actor, ledger_to_change
from server.cli.session import run, settings_of_command
from server.cli.terminal import say, show, show_json
from server.clock import utc_now
from server.resources import prepare_home
from server.settings import Settings

T = TypeVar("T")

Name = Annotated[str, typer.Argument(metavar="NAME", help="What sources and others name it by.")]
_LONGEST = 65_536


def init() -> None:
    """Make the service's own keys where there are none: in Vault, or in the secrets file.

    With Vault this needs a token that may write at VAULT_SECRET_PATH; the service's may not.
    """
    settings = settings_of_command()
    if settings.vault_addr:
        is_new = _in_vault(settings, write_fresh)
        place = settings.vault_address.place
    else:
        prepare_home(settings)
        path = settings.home / "secrets.json"
        is_new, place = not path.exists(), str(path)
        load_secrets(path)
    say(f"made new keys in {place}" if is_new else f"there are keys in {place}; they stay")


def set_secret(name: Name) -> None:
    """Keep a secret under a name; it is read from standard input, and asked for on a terminal."""
    check_name(name)
    settings = settings_of_command()
    value = _value()

    async def work() -> None:
        if settings.vault_addr:
            await _asked_vault(settings, lambda client: set_named(client, name, value))
        else:
            _local(settings).set(name, value)

    run(_logged(settings, AdminAction.SECRET_SET, name, work))
    say(f"secret {name} is set")


def _value() -> str:
    text = getpass("value: ") if sys.stdin.isatty() else sys.stdin.read(_LONGEST + 1)
    # What `echo` adds is not meant.
    value = text.removesuffix("\n").removesuffix("\r")
    if not value or len(text) > _LONGEST:
        raise CommandFailed(f"a secret has 1 to {_LONGEST:,} characters: pipe it to this command")
    return value


def list_secrets(json: Json = False) -> None:
    """List the names of all secrets; what they are is not shown."""
    settings = settings_of_command()
    names = _in_vault(settings, named_names) if settings.vault_addr else _local(settings).names()
    if json:
        show_json(names)
        return
    for name in names:
        show(name)
    if not names:
        say("no secrets yet: set one with `footfall secrets set NAME`")


def remove(name: Name) -> None:
    """Forget a secret."""
    check_name(name)
    settings = settings_of_command()

    async def work() -> None:
        if settings.vault_addr:
            await _asked_vault(settings, lambda client: remove_named(client, name))
        else:
            _local(settings).remove(name)

    run(_logged(settings, AdminAction.SECRET_REMOVED, name, work))
    say(f"secret {name} is gone")


def rotate() -> None:
    """Make a new version of the key that everything kept for others is encrypted by.

    Older versions stay, so that what they have encrypted can be read. Named secrets in files are
    moved on to the new version at once.
    """
    settings = settings_of_command()

    async def work() -> str:
        if settings.vault_addr:
            version = await _asked_vault(settings, rotate_transit)
            return f"the transit key {settings.vault_transit_key} is at version {version}"
        version, moved = _local(settings).rotate()
        return f"the master key is at version {version}; {moved} named secrets were moved on to it"

    key = settings.vault_transit_key if settings.vault_addr else "master key"
    say(run(_logged(settings, AdminAction.SECRET_ROTATED, key, work)))


def _local(settings: Settings) -> NamedSecrets:
    prepare_home(settings)
    return NamedSecrets(settings.home)


async def _logged(
    settings: Settings, action: AdminAction, target: str, work: Callable[[], Awaitable[T]]
) -> T:
    """What the work gives; it does not begin where the admin log cannot be written."""
    async with ledger_to_change(settings) as ledger:
        done = await work()
        entry = Entry(utc_now(), command_actor(), action, target)
        await record_alone(ledger.writer, entry)
    return done


def _in_vault(settings: Settings, work: Callable[[VaultClient], Awaitable[T]]) -> T:
    return run(_asked_vault(settings, work))


async def _asked_vault(settings: Settings, work: Callable[[VaultClient], Awaitable[T]]) -> T:
    async with logged_in(settings.vault_address, settings.vault_login) as client:
        return await work(client)
