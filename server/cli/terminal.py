"""What commands say: answers go to standard output, all other words to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

# Told how much is done, of how much in all (0: nobody knows), and a few words beside the bar.
Advance = Callable[[int, int, str], None]

_LINE_EVERY_SECONDS = 5.0


def show(text: str) -> None:
    """Print a part of the answer."""
    typer.echo(text)


def show_json(document: object) -> None:
    """Print the answer as a JSON document."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=2)
    typer.echo(text.decode())


def say(text: str) -> None:
    """Print what is no part of the answer."""
    typer.echo(text, err=True)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: ruled on a terminal, else with tabs between the cells and a row a line."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            typer.echo("\t".join(row))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    # What is in the cells comes from users and is not markup.
    Console(markup=False, highlight=False, emoji=False).print(table)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """On a terminal, a sign of life while the block is at work; `what` is like "Opening X"."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True, markup=False).status(f"{what} ..."):
        yield


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """How far the block is: a bar on a terminal, else a line every few seconds."""
    if not sys.stderr.isatty():
        yield _Lines(what, monotonic()).advance
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, words="")

        def advance(done: int, total: int, words: str) -> None:
            bar.update(task, completed=done, total=total or None, words=words)

        yield advance


@dataclass(slots=True)
class _Lines:
    """Progress where there is no terminal."""

    what: str
    last: float

    def advance(self, done: int, total: int, words: str) -> None:
        if monotonic() - self.last < _LINE_EVERY_SECONDS:
            return
        self.last = monotonic()
        share = f"{min(100 * done // total, 100)} %, " if total else ""
        say(f"{self.what}: {share}{words}")
