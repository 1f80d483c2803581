"""What `make setup` leaves behind: the command, the version, and no stranger under our names."""

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.machinery import PathFinder
from pathlib import Path

from tests.architecture.rules import ROOT, TOP_LEVEL_NAMES

COMMAND = Path(sys.executable).with_name("footfall")


def test_the_command_works_from_any_folder(tmp_path: Path) -> None:
    result = subprocess.run(
        [COMMAND, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert "serve" in result.stdout


def test_make_lists_the_commands_that_newcomers_are_promised() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)

    listed = set(re.findall(r"^  make (\w+)", result.stdout, re.MULTILINE))
    assert {"setup", "demo", "test", "check", "bench", "lock"} <= listed


def test_the_installed_version_is_the_one_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.metadata.version("footfall") == project["version"]


def test_no_dependency_claims_one_of_our_names() -> None:
    claimed = importlib.metadata.packages_distributions()
    strangers = {name: set(claimed.get(name, ())) - {"footfall"} for name in TOP_LEVEL_NAMES}
    assert {name: owners for name, owners in strangers.items() if owners} == {}


def test_no_installed_folder_or_file_has_one_of_our_names() -> None:
    site = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    found = {name: PathFinder.find_spec(name, site) for name in TOP_LEVEL_NAMES}
    assert {name: spec.origin for name, spec in found.items() if spec} == {}
