"""Each report over HTTP, beside the same question put to the ClickHouse engine on the same data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from rich.table import Table

from benchmarks.clickhouse import THREADS, Found, Task, ask_clickhouse
from benchmarks.dataset import ALL_DAYS, MAIN, SITES, TIMEZONE, Dataset, Size
from benchmarks.load import graphql_request
from benchmarks.loading import append_dataset, export_ledger, import_dataset
from benchmarks.questions import Question, Rows, all_questions, difference
from benchmarks.service import Service, new_home, run_benchmark, serving
from benchmarks.tables import (
    Results,
    WrongAnswer,
    print_table,
    print_title,
    read_options,
    readable,
)
from telemetry.logs import configure_logs


@dataclass(frozen=True, slots=True)
class Plan:
    """How many events there are, and how often each question is asked."""

    sizes: tuple[int, ...]
    runs: int


FULL = Plan(sizes=(1_000_000, 10_000_000), runs=3)
QUICK = Plan(sizes=(20_000,), runs=2)
# Up to here events take the way of a user's file, through `footfall import`; more of them are
# appended to the ledger by the same statements without the pipeline, which takes a third of it.
_MOST_TO_IMPORT = 1_000_000
_IN_TABLE = (".footfall", ".clickhouse", ".ratio")


@dataclass(frozen=True, slots=True)
class Answered:
    """What one question got from the service: rows, and seconds of each run."""

    rows: Rows
    seconds: list[float]


async def measure(results: Results, plan: Plan) -> None:
    """All questions at all sizes, each with a table as soon as it is done."""
    for events in plan.sizes:
        size = Size(events)
        with new_home() as folder:
            home = folder / "home"
            home.mkdir()
            taken = await _load(results, size, home, folder)
            started = perf_counter()
            async with serving(home) as service:
                service.acknowledged = taken
                await service.require_everything(ALL_DAYS)
                if events > _MOST_TO_IMPORT:
                    rate = events / (perf_counter() - started)
                    results.add(f"{size.name}.follow.rate", "events/s", [rate])
                answers = {
                    one.name: await _answer(service, one, plan.runs) for one in all_questions()
                }
                memory = service.resident_bytes() / 2**20
                results.add(f"{size.name}.service.memory", "MiB", [memory])
            found = await _clickhouse(results, size, folder, plan.runs)
            _compare(results, size, answers, found)


async def _load(results: Results, size: Size, home: Path, folder: Path) -> dict[str, int]:
    """Fill the ledger and say how many events each site has."""
    with Dataset(folder, size) as dataset:
        async with serving(home) as service:
            for site in SITES:
                await service.make_site(site, TIMEZONE)
            if size.events <= _MOST_TO_IMPORT:
                finished = await import_dataset(service, dataset, folder)
                await service.require_everything(ALL_DAYS)
                rate = dataset.count(MAIN) / finished.seconds
                results.add(f"{size.name}.import.rate", "rows/s", [rate])
                results.add(f"{size.name}.import.memory", "MiB", [finished.peak_bytes / 2**20])
                return service.acknowledged
        seconds = await append_dataset(home, dataset)
        results.add(f"{size.name}.append.rate", "events/s", [size.events / seconds])
        return {site: dataset.count(site) for site in SITES}


async def _answer(service: Service, question: Question, runs: int) -> Answered:
    """One run that does not count, then those that do, each with the same answer."""
    request = graphql_request(service.admin_key, question.graphql)
    rows: Rows | None = None
    seconds = []
    for _ in range(runs + 1):
        started = perf_counter()
        body = await service.client.send(request)
        seconds.append(perf_counter() - started)
        parsed = json.loads(body)
        if "errors" in parsed:
            raise WrongAnswer(f"{question.name}: {parsed['errors']}")
        answer = parsed["data"]["answer"]
        if answer.get("meta", {}).get("cache") in ("HIT", "STALE"):
            raise WrongAnswer(f"{question.name} was answered from the cache")
        found = question.rows(answer)
        if rows is not None and found != rows:
            raise WrongAnswer(f"{question.name} was answered differently the second time")
        rows = found
    assert rows is not None
    return Answered(rows, seconds[1:])


async def _clickhouse(results: Results, size: Size, folder: Path, runs: int) -> Found:
    """What the other engine finds; the service is stopped, so that it has the machine as well."""
    file = folder / "events.csv"
    await export_ledger(folder / "home", file)
    questions = {question.name: question.sql for question in all_questions()}
    found = await ask_clickhouse(Task(str(folder), str(file), questions, runs))
    if found.rows != size.events:
        raise WrongAnswer(f"ClickHouse has {found.rows:,} events, not {size.events:,}")
    results.settings["clickhouse"] = found.version
    rate = found.rows / found.load_seconds
    results.add(f"{size.name}.clickhouse.load.rate", "events/s", [rate])
    return found


def _compare(results: Results, size: Size, ours: dict[str, Answered], theirs: Found) -> None:
    """Print and keep times; raises `WrongAnswer` where the two sides answer differently."""
    wrong = []
    table = Table(
        *("question", "Footfall ms", "ClickHouse ms", "times as long"),
        title=f"{size.events:,} events, uncached, medians",
        title_justify="left",
    )
    for question in all_questions():
        mine, other = ours[question.name], theirs.seconds[question.name]
        if problem := difference(question, mine.rows, theirs.answers[question.name]):
            wrong.append(problem)
        name = f"{size.name}.{question.name}"
        one = results.add(f"{name}.footfall", "ms", [1_000 * run for run in mine.seconds])
        two = results.add(f"{name}.clickhouse", "ms", [1_000 * run for run in other])
        ratio = results.add(f"{name}.ratio", "times", [one.median / two.median])
        table.add_row(question.name, *(readable(figure.median) for figure in (one, two, ratio)))
    print_table(table)
    others = [one for one in results.figures if one.name.startswith(f"{size.name}.")]
    results.show("Beside", [one for one in others if not one.name.endswith(_IN_TABLE)])
    if wrong:
        raise WrongAnswer("; ".join(wrong))


def main() -> None:
    options = read_options(__doc__ or "")
    configure_logs(level="WARNING", json=False)
    plan = QUICK if options.quick else FULL
    settings: dict[str, object] = {**asdict(plan), "threads": THREADS}
    results = Results("reports", options, settings)
    print_title(results)
    run_benchmark(measure(results, plan))
    results.write()


if __name__ == "__main__":
    main()
