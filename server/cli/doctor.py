"""`footfall doctor`: how everything is that the service rests on, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from server.cli.checks import Check, Status
from server.cli.checks_database import database_checks
from server.cli.checks_log import LogFinding, log_checks
from server.cli.checks_machine import machine_checks
from server.cli.checks_redis import redis_checks
from server.cli.checks_vault import vault_checks
from server.cli.failures import FAILED
from server.cli.options import Json
from server.cli.session import run, settings_of_command
from server.cli.terminal import show, show_json, show_table
from server.settings import InvalidSettings

_MARKS = {Status.OK: "ok", Status.WARNING: "WARNING", Status.PROBLEM: "PROBLEM"}


def doctor(
    verify_log: Annotated[
        bool,
        typer.Option(
            "--verify-log", help="Also walk the admin log and prove that nobody has changed it."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Check everything the service depends on, and say what to do.

    Leaves with 1 if anything is wrong. The embedded database is started for it, and made where
    there is none yet.
    """
    finding: LogFinding | None = None
    try:
        settings = settings_of_command()
    except InvalidSettings as error:
        checks = [Check("settings", Status.PROBLEM, str(error))]
    else:
        checks = [Check("settings", Status.OK, f"for {settings.environment}")]
        checks += machine_checks(settings)
        checks += run(vault_checks(settings))
        # What Vault does not say about the database cannot be asked there either.
        if all(check.status is not Status.PROBLEM for check in checks if check.name == "vault"):
            checks += run(database_checks(settings))
        checks += run(redis_checks(settings))
        if verify_log:
            check, finding = run(log_checks(settings))
            checks.append(check)
    is_well = all(check.status is not Status.PROBLEM for check in checks)
    if json:
        more = {"admin_log": finding} if verify_log else {}
        show_json({"is_well": is_well, "checks": checks, **more})
    else:
        _show(checks)
    if not is_well:
        raise typer.Exit(FAILED)


def _show(checks: Sequence[Check]) -> None:
    rows = [(check.name, _MARKS[check.status], check.detail) for check in checks]
    show_table(("check", "state", "detail"), rows)
    advised = [check for check in checks if check.advice]
    for check in advised:
        show(f"{check.name}: {check.advice}")
    if not any(check.status is Status.PROBLEM for check in checks):
        show("all is well" if not advised else "nothing keeps the service from its work")
