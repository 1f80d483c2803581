"""What the compose files say, read as compose reads them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.fixtures.service import ROOT

PLAIN = ("docker-compose.yml",)
PRODUCTION = (*PLAIN, "deploy/compose.production.yml")
VARIANTS = (PLAIN, PRODUCTION)
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")


def composition(files: tuple[str, ...]) -> dict[str, Any]:
    """Services, volumes, secrets and networks of files on top of one another, with defaults."""
    merged: dict[str, Any] = {}
    for file in files:
        text = (ROOT / file).read_text(encoding="utf-8")
        merged = _merged(merged, _filled_in(yaml.safe_load(text)))
    return merged


def _filled_in(value: Any) -> Any:
    """The value with the defaults of its variables."""
    if isinstance(value, dict):
        return {key: _filled_in(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled_in(one) for one in value]
    if not isinstance(value, str):
        return value
    filled = _VARIABLE.sub(lambda found: found[2] or "", value)
    # As compose does where a number belongs.
    return int(filled) if filled != value and filled.isdecimal() else filled


def _merged(below: Any, above: Any) -> Any:
    """Compose's rules, as far as these files need them: mappings merge, lists grow."""
    if isinstance(below, dict) and isinstance(above, dict):
        keys = [*below, *(key for key in above if key not in below)]
        return {
            key: _merged(below[key], above[key])
            if key in below and key in above
            else (above[key] if key in above else below[key])
            for key in keys
        }
    if isinstance(below, list) and isinstance(above, list):
        # Of volumes at one place inside, the later one counts.
        places = {_place(one): one for one in (*below, *above)}
        return list(places.values())
    return above


def _place(entry: Any) -> str:
    parts = str(entry).split(":")
    return parts[1] if "/" in parts[0] and len(parts) > 1 else str(entry)


def environment(service: dict[str, Any]) -> dict[str, str]:
    """The environment of a service, as text."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def compose_command() -> list[str] | None:
    """What runs compose here; None where nothing does."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run([*command, "version"], capture_output=True, check=False)
        if done.returncode == 0:
            return command
    return None


def make_secrets(folder: Path, *arguments: str) -> Path:
    """What `deploy/init` makes, in a folder; returns the folder."""
    subprocess.run(
        ["sh", "deploy/init", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "FOOTFALL_SECRETS": str(folder)},
        check=True,
        capture_output=True,
    )
    return folder
