"""What `docs/operations.md` says is tested is tested, and every page about a part is named there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operations.md"
FAULTS = ROOT / "tests" / "faults"


def rows() -> list[list[str]]:
    """The cells of each fault in the table."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| what fails |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def functions(path: Path) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def test_the_table_of_faults_is_there_and_each_row_is_whole() -> None:
    assert len(rows()) >= 30
    for row in rows():
        assert len(row) == 5, row
        assert all(row), row


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_fault_in_the_table_has_a_test(row: list[str]) -> None:
    file, separator, name = row[4].strip("`").partition("::")

    assert separator
    assert name in functions(FAULTS / file)


@pytest.mark.parametrize("page", sorted((PAGE.parent / "operations").glob("*.md")), ids=str)
def test_each_page_about_a_part_is_linked(page: Path) -> None:
    assert f"(operations/{page.name})" in PAGE.read_text(encoding="utf-8")


def test_each_metric_in_the_table_is_one_of_ours() -> None:
    known = "".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "telemetry").glob("*.py"))
    )
    named = {name for row in rows() for name in re.findall(r"footfall_\w+", row[2])}

    assert named
    # Those of the queue are put together from a beginning and the rest.
    rest = {name: name.removeprefix("footfall_queue_") for name in named}
    missing = {
        name
        for name in named
        if not any(f'"{form}"' in known for form in (name, name.removesuffix("_total"), rest[name]))
    }
    assert not missing


def test_each_log_line_in_the_table_is_written_somewhere() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("data", "jobs", "resolvers", "server")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    named = {
        name
        for row in rows()
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", row[2])
        if not name.startswith("details.")
    }

    assert named
    assert {name for name in named if f'"{name}"' not in code} == set()
