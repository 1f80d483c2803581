"""Figures: each the median of its runs, as a table for people and as JSON for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_facts

RESULTS = Path(__file__).parent / "results"


class WrongAnswer(Exception):
    """The service answered wrongly, so whatever was measured is worth nothing."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a figure should reach on two cores that nobody else uses."""

    bound: Literal["at least", "at most"]
    value: float

    def is_met(self, value: float) -> bool:
        """Whether a figure reaches the mark."""
        return value >= self.value if self.bound == "at least" else value <= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity: a dotted name, its unit and a value for each run."""

    name: str
    unit: str
    runs: tuple[float, ...]
    mark: Mark | None = None

    @property
    def median(self) -> float:
        """The figure to quote."""
        return median(self.runs)

    def as_json(self) -> dict[str, object]:
        """The figure for programs."""
        found: dict[str, object] = {
            "name": self.name,
            "unit": self.unit,
            "median": rounded(self.median),
            "min": rounded(min(self.runs)),
            "max": rounded(max(self.runs)),
            "runs": [rounded(run) for run in self.runs],
        }
        if self.mark is not None:
            found["mark"] = {
                "bound": self.mark.bound,
                "value": self.mark.value,
                "met": self.mark.is_met(self.median),
            }
        return found


@dataclass(frozen=True, slots=True)
class Options:
    """What every benchmark can be told on its command line."""

    quick: bool
    out: Path | None


def read_options(description: str) -> Options:
    """The options of the process; leaves with code 2 on others."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: small, and nothing to quote"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the JSON file (benchmarks/results; with --quick: none is written)",
    )
    given = parser.parse_args()
    out: Path | None = given.out or (None if given.quick else RESULTS)
    return Options(given.quick, out)


@dataclass(slots=True)
class Results:
    """Everything that one benchmark found out."""

    benchmark: str
    options: Options
    settings: dict[str, object]
    figures: list[Figure] = field(default_factory=list)
    machine: dict[str, object] = field(default_factory=machine_facts)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def add(self, name: str, unit: str, runs: Iterable[float], mark: Mark | None = None) -> Figure:
        """Keep a figure; `runs` must not be empty."""
        figure = Figure(name, unit, tuple(runs), mark)
        self.figures.append(figure)
        return figure

    def show(self, title: str, figures: Sequence[Figure]) -> None:
        """Print a table of some figures."""
        table = Table("figure", title=title, title_justify="left")
        for column in ("median", "min", "max", "unit", "mark"):
            table.add_column(column, justify="left" if column in ("unit", "mark") else "right")
        for one in figures:
            table.add_row(
                one.name,
                *(readable(value) for value in (one.median, min(one.runs), max(one.runs))),
                one.unit,
                _judged(one),
            )
        print_table(table)

    def write(self) -> None:
        """Write the JSON file, unless none is wanted."""
        if self.options.out is None:
            return
        self.options.out.mkdir(parents=True, exist_ok=True)
        path = self.options.out / f"{self.benchmark}.json"
        document = {
            "benchmark": self.benchmark,
            "quick": self.options.quick,
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": self.machine,
            "settings": self.settings,
            "figures": [figure.as_json() for figure in self.figures],
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(f"written: {path}")


def print_table(table: Table) -> None:
    """Print a table as wide as it needs to be where the output is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def print_title(results: Results) -> None:
    """Print what is about to be measured, and where."""
    facts = results.machine
    note = "a smoke run, not for quoting" if results.options.quick else "medians of the runs"
    print(
        f"{results.benchmark}: {note}; {facts['cores']} cores ({facts['cpu']}),"
        f" load {facts['load_1m']} before, Python {facts['python']},"
        f" PostgreSQL {facts['postgresql']}"
    )


def rounded(value: float) -> float:
    """Four significant digits, and never fewer than a whole number has."""
    return round(value) if abs(value) >= 1_000 else float(f"{value:.4g}")


def readable(value: float) -> str:
    """A figure as people read it."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 10_000) * len(ordered) // 10_000) - 1)]


def _judged(figure: Figure) -> str:
    if figure.mark is None:
        return ""
    verdict = "met" if figure.mark.is_met(figure.median) else "MISSED"
    return f"{figure.mark.bound} {readable(figure.mark.value)}: {verdict}"
