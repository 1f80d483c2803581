"""`footfall import` as a process of its own, beside a running service: rows a second and memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset import ALL_DAYS, MAIN, TIMEZONE, Dataset, Size
from benchmarks.service import Finished, Service, footfall, new_home, run_benchmark, serving
from benchmarks.tables import Mark, Results, WrongAnswer, print_title, read_options
from telemetry.logs import configure_logs

_FULL = 5_000_000
_QUICK = 20_000
_SITES = (MAIN, "packed")
_MEMORY = Mark("at most", 600)


@dataclass(frozen=True, slots=True)
class Step:
    """One import: what figures call it, the file, the site, and whether its rows are known."""

    name: str
    file: Path
    site: str
    is_known: bool = False


async def measure(results: Results, rows: int) -> None:
    """A CSV file, the same once more, and the same rows compressed into another site."""
    with new_home() as folder:
        home, plain, packed = folder / "home", folder / "rows.csv", folder / "rows.csv.gz"
        home.mkdir()
        with Dataset(folder, Size(rows)) as dataset:
            dataset.write_csv(None, plain)
            dataset.write_csv(None, packed, gzip=True)
        async with serving(home) as service:
            for site in _SITES:
                await service.make_site(site, TIMEZONE)
            for step in (
                Step("csv", plain, MAIN),
                Step("csv_again", plain, MAIN, is_known=True),
                Step("csv_gz", packed, "packed"),
            ):
                finished = await _import(service, step, rows)
                seconds = await service.require_everything(ALL_DAYS)
                _add(results, step.name, rows, finished)
                results.add(f"{step.name}.followed_after", "ms", [seconds * 1_000])
            results.add("service.memory", "MiB", [service.resident_bytes() / 2**20])
    results.show(f"footfall import, {rows:,} rows", results.figures)


async def _import(service: Service, step: Step, rows: int) -> Finished:
    finished = await footfall(service.home, "import", str(step.file), "--site", step.site, "--json")
    summary = json.loads(finished.out)
    taken, name = (0, "duplicates") if step.is_known else (rows, "accepted")
    if (summary["rows"], summary[name]) != (rows, rows):
        raise WrongAnswer(f"{rows:,} rows were imported as {summary}")
    service.acknowledged[step.site] += taken
    return finished


def _add(results: Results, name: str, rows: int, finished: Finished) -> None:
    results.add(f"{name}.rate", "rows/s", [rows / finished.seconds])
    results.add(f"{name}.memory", "MiB", [finished.peak_bytes / 2**20], _MEMORY)
    results.add(f"{name}.cpu", "us/row", [1e6 * finished.cpu_seconds / rows])


def main() -> None:
    options = read_options(__doc__ or "")
    configure_logs(level="WARNING", json=False)
    rows = _QUICK if options.quick else _FULL
    results = Results("imports", options, {"rows": rows})
    print_title(results)
    run_benchmark(measure(results, rows))
    results.write()


if __name__ == "__main__":
    main()
