"""What a client does with an export, by its manifests alone; and what the ledger says to compare."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from data.exports.layout import FIELDS, Compression, FileFormat, Layout
from tests.data.exports.readers import READERS, Values, read_by

Bucket = dict[str, Path]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it lies in a bucket."""

    name: str
    content: dict[str, Any]

    @property
    def stretch(self) -> tuple[int, int]:
        """The positions behind which it begins, and with which it ends."""
        return self.content["after"], self.content["through"]

    @property
    def is_backfill(self) -> bool:
        """Whether it stands beside the chain."""
        is_backfill: bool = self.content["is_backfill"]
        return is_backfill

    @property
    def files(self) -> list[str]:
        """The names of its files."""
        return [file["name"] for file in self.content["files"]]

    @property
    def metering(self) -> tuple[str, int, int, int]:
        """Run, events, bytes and number of files, as the backup's own record has them."""
        content = self.content
        taken: int = content["taken"]["events"]
        return content["export_id"], taken, content["bytes"], len(self.files)

    def rows(self, bucket: Bucket) -> list[Values]:
        """The events of the run, by a program that knows nothing of us; every file is checked."""
        layout = Layout(
            FileFormat(self.content["format"]),
            Compression(self.content["compression"]),
            tuple(self.content["fields"]),
        )
        rows: list[Values] = []
        for file in self.content["files"]:
            path = bucket[file["name"]]
            data = path.read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
            found = read_by(READERS[layout.format][-1], path, layout)
            assert len(found) == file["rows"]
            rows += found
        assert len(rows) == self.content["taken"]["events"]
        return rows


def manifests_in(bucket: Bucket, prefix: str) -> list[Manifest]:
    """The manifests under a prefix, in the order of their names."""
    return [
        Manifest(name, json.loads(path.read_bytes()))
        for name, path in sorted(bucket.items())
        if name.startswith(f"{prefix}/manifests/")
    ]


def objects_in(root: Path) -> Bucket:
    """The objects of a bucket by name, as they lie on the disk of the server."""
    return {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}


def metered(bucket: Bucket) -> list[tuple[str, int, int, int]]:
    """What the records beside a backup say of each run, in order of name."""
    found = [
        json.loads(path.read_bytes())
        for name, path in sorted(bucket.items())
        if "/metering/" in name
    ]
    return [(one["run_id"], one["events"], one["bytes"], one["files"]) for one in found]


def by_id(rows: Iterable[Values]) -> dict[str, Values]:
    """Rows by the id of their event, of which each must be there once; properties as values."""
    found: dict[str, Values] = {}
    for row in rows:
        event_id = str(row["event_id"])
        assert event_id not in found, f"event {event_id} is there twice"
        found[event_id] = row | {"properties": _value(row["properties"])}
    return found


async def ledger_rows(connection: asyncpg.Connection, site_id: str) -> dict[str, Values]:
    """What the ledger holds of a site, as files of exports have it."""
    names = ", ".join(
        f"{name}::text as {name}" if name in ("event_id", "properties") else name for name in FIELDS
    )
    rows = await connection.fetch(f"select {names} from events where site_id = $1", site_id)
    return by_id(dict(row) for row in rows)


def occurred_in(rows: Mapping[str, Values], since: datetime, until: datetime) -> dict[str, Values]:
    """Those rows that a backfill takes."""
    return {key: row for key, row in rows.items() if since <= row["occurred_at"] < until}


def _value(properties: object) -> object:
    return json.loads(properties) if isinstance(properties, str) else properties
