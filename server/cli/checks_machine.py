"""What `footfall doctor` looks at on this machine: Python, the folder, the secrets, the port."""

from __future__ import annotations

import http.client
import platform
import shutil
import stat
import sys
from pathlib import Path

from data.secret_errors import SecretsUnreadable
from data.secrets import load_secrets
from data.sources.declared import DeclarationInvalid, read_declared
from server.cli.checks import Check, Status, problem_of
from server.cli.failures import CommandFailed
from server.cli.serve import listening
from server.production import UnfitForProduction, require_fit
from server.resources import HomeUnusable, prepare_home
from server.settings import Settings

_GB = 1024**3
_TIGHT, _SCARCE = 5 * _GB, _GB // 2


def machine_checks(settings: Settings) -> list[Check]:
    """Python, FOOTFALL_HOME, files of secrets and sources, the port, what production won't bear."""
    return [
        _python(),
        *_home(settings),
        _port(settings),
        *_sources(settings),
        *_production(settings),
    ]


def _sources(settings: Settings) -> list[Check]:
    if not settings.sources_file:
        return []
    path = Path(settings.sources_file).expanduser()
    try:
        declared = read_declared(path)
    except DeclarationInvalid as error:
        return [problem_of("sources", error)]
    return [Check("sources", Status.OK, f"{len(declared)} declared in {path}")]


def _production(settings: Settings) -> list[Check]:
    try:
        require_fit(settings)
    except UnfitForProduction as unfit:
        return [Check("production", Status.PROBLEM, problem) for problem in unfit.problems]
    return []


def _python() -> Check:
    is_new_enough = sys.version_info >= (3, 11)
    return Check(
        "python",
        Status.OK if is_new_enough else Status.PROBLEM,
        platform.python_version(),
        None if is_new_enough else "install Python 3.11 or newer, then run `make setup`",
    )


def _home(settings: Settings) -> list[Check]:
    try:
        prepare_home(settings)
    except HomeUnusable as error:
        return [problem_of("home", error)]
    free = shutil.disk_usage(settings.home).free
    status = Status.PROBLEM if free < _SCARCE else Status.WARNING if free < _TIGHT else Status.OK
    advice = None if status is Status.OK else "free some space, or move FOOTFALL_HOME"
    detail = f"{settings.home}, {free / _GB:,.1f} GB free"
    home = Check("home", status, detail, advice)
    # With Vault there is no such file.
    return [home] if settings.vault_addr else [home, _secrets(settings)]


def _secrets(settings: Settings) -> Check:
    path = settings.home / "secrets.json"
    was_open = path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    try:
        # Makes the file where there is none, and closes it to others where somebody opened it.
        load_secrets(path)
    except SecretsUnreadable as error:
        return problem_of("secrets", error)
    if was_open:
        return Check(
            "secrets",
            Status.WARNING,
            f"{path} could be read by other users; it cannot any more",
            "if somebody may have read it, change the last digits of its admin_key and restart",
        )
    return Check("secrets", Status.OK, f"{path}, for its owner only")


def _port(settings: Settings) -> Check:
    address = f"{settings.host} port {settings.port}"
    try:
        with listening(settings.host, settings.port):
            return Check("port", Status.OK, f"{address} is free")
    except CommandFailed as error:
        if _is_footfall(settings):
            return Check("port", Status.OK, f"a running Footfall answers on {address}")
        return problem_of("port", error)


def _is_footfall(settings: Settings) -> bool:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.port, timeout=3)
    try:
        connection.request("GET", "/health/live")
        return b'"alive"' in connection.getresponse().read(1_000)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
