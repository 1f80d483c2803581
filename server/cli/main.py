"""The `footfall` command: its subcommands, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import structlog
import typer
from typer.main import get_command

from server.cli import documents, keys, secrets, sites
from server.cli.demo import demo
from server.cli.doctor import doctor
from server.cli.exports import export
from server.cli.failures import FAILED, failure_of
from server.cli.imports import import_file
from server.cli.maintenance import migrate, schema
from server.cli.rebuild import rebuild
from server.cli.serve import serve
from server.cli.terminal import say
from server.cli.worker import worker
from telemetry.logs import configure_logs

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line (that of the process, if None) and leave with its exit code.

    0: done; 1: failed, with one line on standard error; 2: wrong usage; 128 + n: signal n.
    """
    # Before anything can go wrong: unexpected errors are logged, and never to standard output.
    configure_logs(level="WARNING", json=False)
    try:
        get_command(_command_line()).main(arguments, prog_name="footfall")
    except Exception as error:
        failure = failure_of(error)
        if failure is not None:
            say(failure.line)
            sys.exit(failure.exit_code)
        log.exception("command.failed")
        say(f"footfall: something unexpected went wrong ({type(error).__name__}); see above")
        sys.exit(FAILED)


def _command_line() -> typer.Typer:
    app = _group("Usage analytics that a team owns: events in, exact answers out.")
    app.command()(serve)
    app.command()(worker)
    app.command()(demo)
    app.command("import")(import_file)
    app.command()(export)
    app.command()(doctor)
    app.command()(migrate)
    app.command()(rebuild)
    app.command()(schema)
    for_sites = _group("Make and list sites, the containers of events.")
    for_sites.command()(sites.create)
    for_sites.command("list")(sites.list_sites)
    app.add_typer(for_sites, name="sites")
    for_keys = _group("Make, list and revoke API keys.")
    for_keys.command()(keys.create)
    for_keys.command("list")(keys.list_keys)
    for_keys.command()(keys.revoke)
    for_keys.command()(keys.admin)
    app.add_typer(for_keys, name="keys")
    for_documents = _group("Add, list and take away trusted documents, which keys can be bound to.")
    for_documents.command()(documents.add)
    for_documents.command("list")(documents.list_documents)
    for_documents.command()(documents.remove)
    app.add_typer(for_documents, name="documents")
    for_secrets = _group("Set and list secrets by name; make and rotate what they are kept by.")
    for_secrets.command()(secrets.init)
    for_secrets.command("set")(secrets.set_secret)
    for_secrets.command("list")(secrets.list_secrets)
    for_secrets.command()(secrets.remove)
    for_secrets.command()(secrets.rotate)
    app.add_typer(for_secrets, name="secrets")
    return app


def _group(help: str) -> typer.Typer:
    return typer.Typer(
        help=help, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
