"""Exports to Parquet and gzipped JSONL beside DuckDB's plain COPY of the same rows: speed, memory."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.dataset import MAIN, Dataset, Size
from benchmarks.exporting import LEDGER, MEMORY
from benchmarks.service import new_home, run_benchmark
from benchmarks.tables import Mark, Results, WrongAnswer, print_title, read_options
from data.duckdb.store import open_copy

_FULL = 5_000_000
_QUICK = 100_000
_BATCH = 5_000
_ROOT = Path(__file__).resolve().parents[1]
_RATIO = Mark("at least", 0.5)
_PEAK = Mark("at most", 500)
# One event in ten is another site's, as a copy has them: they are passed over.
_OTHERS = 10

_FILL = f"""
insert into copied.events
select
    case when number % {_OTHERS} = 0 then 'other' else '{MAIN}' end as site_id,
    event_id, event_type, occurred_at, occurred_at + interval 1 second as received_at,
    coalesce(user_id, visitor_id) as actor, user_id, visitor_id, session_id, url, path,
    null as referrer, properties_json,
    (1 + number // {_BATCH}) * 65536 + number % {_BATCH} as arrival
from (
    select *, row_number() over (order by occurred_at, event_id) - 1 as number from events
)
order by arrival
"""


async def measure(results: Results, rows: int, runs: int) -> None:
    """A copy with so many events of one site, exported and copied turn by turn."""
    with new_home() as folder:
        copy = folder / "slot" / "copy.duckdb"
        copy.parent.mkdir()
        await make_copy(folder, copy, rows)
        for name, mark in (("parquet", _RATIO), ("jsonl_gz", None)):
            found: dict[str, list[dict[str, Any]]] = {"export": [], "plain": []}
            for _ in range(runs):
                for how, times in found.items():
                    times.append(await _child(copy, how, name))
                    if times[-1]["rows"] != rows:
                        raise WrongAnswer(f"{how} wrote {times[-1]['rows']:,} of {rows:,} rows")
            _add(results, name, found, mark)
    results.show(f"exports of {rows:,} events", results.figures)


async def make_copy(folder: Path, copy: Path, rows: int) -> None:
    """A columnar copy with so many events of the main site, in order of arrival."""
    async with open_copy(copy, ledger_id=LEDGER):
        pass
    everything = rows * _OTHERS // (_OTHERS - 1)
    everything += -everything % 45
    with Dataset(folder, Size(everything)):
        pass
    await asyncio.to_thread(_fill, folder / "dataset.duckdb", copy, rows)
    (folder / "dataset.duckdb").unlink()


def _fill(dataset: Path, copy: Path, rows: int) -> None:
    config: dict[str, str | bool | int | float | list[str]]
    config = {"threads": 2, "memory_limit": "4GB", "temp_directory": str(dataset.parent / "spill")}
    with duckdb.connect(str(dataset), config=config) as connection:
        connection.execute(f"attach '{copy}' as copied")
        connection.execute(_FILL)
        # Exactly so many of the site, whatever the rounding left.
        connection.execute(
            f"delete from copied.events where site_id = '{MAIN}' and arrival > ("
            f" select arrival from copied.events where site_id = '{MAIN}'"
            " order by arrival limit 1 offset $last)",
            {"last": rows - 1},
        )
        connection.execute(
            "update copied.copy_state set batch_id = 1, committed_at = 0,"
            " position = (select max(arrival) // 65536 from copied.events)"
        )
        connection.execute("checkpoint copied")


async def _child(copy: Path, how: str, name: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.exporting", str(copy), how, name),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise WrongAnswer(f"{how} of {name} failed")
    found: dict[str, Any] = json.loads(out)
    return found


def _add(
    results: Results, name: str, found: dict[str, list[dict[str, Any]]], mark: Mark | None
) -> None:
    for how, times in found.items():
        results.add(f"{name}.{how}.rate", "rows/s", [one["rows"] / one["seconds"] for one in times])
        results.add(
            f"{name}.{how}.cpu", "us/row", [1e6 * one["cpu"] / one["rows"] for one in times]
        )
        peaks = [one["peak"] / 2**20 for one in times]
        results.add(f"{name}.{how}.memory", "MiB", peaks, _PEAK if how == "export" else None)
        results.add(f"{name}.{how}.size", "MiB", [one["bytes"] / 2**20 for one in times])
    pairs = zip(found["plain"], found["export"], strict=True)
    ratios = [plain["seconds"] / export["seconds"] for plain, export in pairs]
    results.add(f"{name}.share_of_plain", "x", ratios, mark)


def main() -> None:
    options = read_options(__doc__ or "")
    rows, runs = (_QUICK, 1) if options.quick else (_FULL, 3)
    results = Results("exports", options, {"rows": rows, "copy_memory": MEMORY})
    print_title(results)
    run_benchmark(measure(results, rows, runs))
    results.write()


if __name__ == "__main__":
    main()
