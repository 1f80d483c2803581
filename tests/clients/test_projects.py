"""The npm projects: pinned like everything else, and bound to no place to download from."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.rules import ROOT

PROJECTS = sorted(
    file.parent
    for pattern in ("tests/clients/*/package.json", "web/*/package.json")
    for file in ROOT.glob(pattern)
)
EXACT = re.compile(r"\d+\.\d+\.\d+(-[\w.]+)?")


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def loose(project: Path) -> list[str]:
    """What a project asks for without saying which version exactly."""
    asked = read(project / "package.json")
    wanted = {**asked.get("dependencies", {}), **asked.get("devDependencies", {})}
    return [f"{name} {version}" for name, version in wanted.items() if not EXACT.fullmatch(version)]


def unpinned(project: Path) -> list[str]:
    """Packages of the lock file without a hash, or with an address to download them from."""
    packages = read(project / "package-lock.json")["packages"]
    return [
        name
        for name, package in packages.items()
        if name and ("resolved" in package or not package.get("integrity"))
    ]


def test_there_are_projects() -> None:
    assert ROOT / "tests" / "clients" / "typescript" in PROJECTS


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_a_project_is_pinned_and_names_no_registry(project: Path) -> None:
    assert loose(project) == []
    assert unpinned(project) == []
    assert "omit-lockfile-registry-resolved=true" in (project / ".npmrc").read_text().splitlines()


def test_what_is_not_pinned_is_noticed(tmp_path: Path) -> None:
    versions = {"a": "^1.0.0", "b": "1.0.0", "c": "latest"}
    (tmp_path / "package.json").write_text(json.dumps({"dependencies": versions}))
    packages = {
        "": {},
        "node_modules/a": {"integrity": "sha512-x", "resolved": "https://example.com/a.tgz"},
        "node_modules/b": {"integrity": "sha512-x"},
        "node_modules/c": {},
    }
    (tmp_path / "package-lock.json").write_text(json.dumps({"packages": packages}))

    assert loose(tmp_path) == ["a ^1.0.0", "c latest"]
    assert unpinned(tmp_path) == ["node_modules/a", "node_modules/c"]
