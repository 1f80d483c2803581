"""One export of a copy's main site, or DuckDB's plain COPY of the same rows, in this process alone.

`python -m benchmarks.exporting COPY.duckdb HOW`; prints JSON. A process each, so that the most
memory it ever had is that of this export.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from uuid import UUID

import duckdb

from benchmarks.dataset import MAIN
from data.duckdb.store import open_copy
from data.exports.files import open_parts
from data.exports.layout import Compression, FileFormat, Layout, Selection
from data.exports.orders import RunOrder

LEDGER = "a copy for measurements"
# As `open_copy` has them by itself, but for memory: nothing else asks this copy.
MEMORY = "256MB"
THREADS = 2
LAYOUTS = {
    "parquet": Layout(FileFormat.PARQUET, Compression.ZSTD),
    "jsonl_gz": Layout(FileFormat.JSONL, Compression.GZIP),
    "jsonl": Layout(FileFormat.JSONL, Compression.NONE),
    "csv_gz": Layout(FileFormat.CSV, Compression.GZIP),
}
_PLAIN_OPTIONS = {
    "parquet": "format parquet, compression zstd",
    "jsonl_gz": "format json, compression gzip",
    "jsonl": "format json",
    "csv_gz": "format csv, compression gzip",
}


async def export(copy: Path, name: str) -> dict[str, float]:
    """Write all parts, as a run does, each deleted when the next is there."""
    async with open_copy(copy, ledger_id=LEDGER, memory_limit=MEMORY, threads=THREADS) as store:
        watermark = await store.watermark()
        assert watermark is not None
        selection = Selection(MAIN, 0, watermark.position)
        order = RunOrder(UUID(int=1), datetime.now(UTC), selection, LAYOUTS[name])
        started = perf_counter()
        async with open_parts(lambda: store, order, copy.parent / "exports") as parts:
            sizes = [part.digest.bytes async for part in parts]
        seconds = perf_counter() - started
        rows = parts.tally.taken.events
        return {"seconds": seconds, "rows": rows, "bytes": sum(sizes), "files": len(sizes)}


def plain(copy: Path, name: str) -> dict[str, float]:
    """The same rows by the shortest statement there is, on the same threads and memory."""
    target = copy.parent / "plain"
    config: dict[str, str | bool | int | float | list[str]]
    config = {"threads": THREADS, "memory_limit": MEMORY, "temp_directory": f"{target}-spill"}
    with duckdb.connect(str(copy), read_only=True, config=config) as connection:
        started = perf_counter()
        [(rows,)] = connection.execute(
            f"copy (select * exclude (actor, arrival) from events where site_id = $site) to '{target}'"
            f" ({_PLAIN_OPTIONS[name]})",
            {"site": MAIN},
        ).fetchall()
        seconds = perf_counter() - started
    size = target.stat().st_size
    target.unlink()
    return {"seconds": seconds, "rows": rows, "bytes": size, "files": 1}


def peak_bytes() -> int:
    """The most resident memory that this process has had since it began to run this program."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    copy, how, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    found = asyncio.run(export(copy, name)) if how == "export" else plain(copy, name)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found |= {"peak": peak_bytes(), "cpu": usage.ru_utime + usage.ru_stime}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
