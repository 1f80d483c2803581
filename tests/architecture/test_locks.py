"""The lock files: everything pinned and hashed, for any machine and any package index."""

import re
from pathlib import Path

import pytest

from tests.architecture.rules import ROOT

FOLDER = ROOT / "requirements"
NAMES = ("runtime", "dev", "bench")
# A package for some kinds of machines only has them behind a semicolon.
PIN = re.compile(
    r"^([a-z0-9][a-z0-9._-]*)==(\S+)(?: ; [^\\\n]+)? \\\n"
    r"((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)",
    re.MULTILINE,
)


def lock(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def pins(name: str) -> dict[str, str]:
    return {package: version for package, version, _ in PIN.findall(lock(name))}


def wanted(path: Path) -> set[str]:
    """The packages that an .in file asks for itself."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return {
        re.split(r"[\[<>=!~;\s]", line)[0].lower().replace("_", "-")
        for line in lines
        if line and not line.startswith("-")
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    lines = lock(name).splitlines()
    requirements = [line for line in lines if line and not line.startswith(("#", " "))]
    assert requirements
    assert len(pins(name)) == len(requirements)


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_names_no_index_and_no_path_of_a_machine(name: str) -> None:
    assert (
        re.findall(
            r".*(?:://|--index|--extra-index|--find-links|--trusted-host| /\w).*", lock(name)
        )
        == []
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_holds_what_its_source_asks_for(name: str) -> None:
    missing = wanted(FOLDER / f"{name}.in") - set(pins(name))
    assert missing == set(), "run `make lock`"


@pytest.mark.parametrize(("smaller", "larger"), [("runtime", "dev"), ("runtime", "bench")])
def test_the_larger_lock_contains_the_smaller_one(smaller: str, larger: str) -> None:
    assert pins(smaller).items() <= pins(larger).items()


def test_tests_and_benchmarks_agree_on_what_they_share() -> None:
    tests, benchmarks = pins("dev"), pins("bench")
    shared = tests.keys() & benchmarks.keys()
    assert {name: tests[name] for name in shared} == {name: benchmarks[name] for name in shared}
