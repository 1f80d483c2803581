"""The ClickHouse engine on the same data, in a process that does nothing else.

`python -m benchmarks.clickhouse_engine` reads a task as JSON from its standard input and writes what
it found to its standard output. Questions are timed inside the process: no HTTP, no GraphQL.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import chdb.session

from benchmarks.clickhouse import THREADS, Found, Task

_MEMORY = 6 * 2**30
# Without types of its own.
_Session: Any = chdb.session.Session

_TABLE = """
create table events (
    site_id LowCardinality(String),
    event_id UUID,
    event_type LowCardinality(String),
    occurred_at DateTime64(6, 'UTC'),
    actor String,
    path String,
    properties String,
    arrival UInt64
) engine = MergeTree order by (site_id, occurred_at)
"""
# A missing text is an empty one: ClickHouse advises against columns that may be null.
_LOAD = """
insert into events
select site_id, event_id, event_type, fromUnixTimestamp64Micro(occurred_at, 'UTC'), actor, path,
    properties, arrival
from file('{file}', CSV, 'site_id String, event_id UUID, event_type String, occurred_at Int64,
    actor String, path String, properties String, arrival UInt64')
"""


def _carry_out(task: Task) -> Found:
    session = _Session(str(Path(task.folder) / "clickhouse"))
    for setting in (
        f"max_threads = {THREADS}",
        f"max_insert_threads = {THREADS}",
        f"max_memory_usage = {_MEMORY}",
        # What it remembers of an earlier run of the same question is a cache, too.
        "use_query_condition_cache = 0",
        "output_format_json_quote_64bit_integers = 0",
    ):
        session.query(f"set {setting}")
    started = perf_counter()
    session.query(_TABLE)
    session.query(_LOAD.format(file=task.file))
    session.query("optimize table events final")
    load_seconds = perf_counter() - started
    answers: dict[str, list[list[Any]]] = {}
    seconds: dict[str, list[float]] = {}
    for name, sql in task.questions.items():
        session.query(sql, "JSONCompactEachRow")
        seconds[name] = []
        for _ in range(task.runs):
            started = perf_counter()
            text = session.query(sql, "JSONCompactEachRow").bytes()
            seconds[name].append(perf_counter() - started)
            answers[name] = [json.loads(line) for line in text.splitlines()]
    size = "select sum(bytes_on_disk), sum(rows) from system.parts where active and table='events'"
    [parts] = [json.loads(line) for line in _lines(session, size)]
    [[version]] = [json.loads(line) for line in _lines(session, "select version()")]
    return Found(version, load_seconds, int(parts[1]), int(parts[0]), answers, seconds)


def _lines(session: Any, sql: str) -> list[bytes]:
    text: bytes = session.query(sql, "JSONCompactEachRow").bytes()
    return text.splitlines()


if __name__ == "__main__":
    print(json.dumps(asdict(_carry_out(Task(**json.load(sys.stdin))))))
