"""The choices that exports have, described once for inputs and answers."""

from __future__ import annotations

from data.exports.destination import TargetKind
from data.exports.layout import Compression, FileFormat
from data.exports.records import RunStatus, Trigger
from resolvers.export_views import LoginKind
from schema.enums import describe_enum

__all__ = ["Compression", "FileFormat", "LoginKind", "RunStatus", "TargetKind", "Trigger"]

describe_enum(
    FileFormat,
    "How a file of an export is written.",
    name="ExportFormat",
    JSON="One document: `export_metadata`, and all `events` of the file.",
    JSONL="An event on each line, as a JSON object.",
    CSV="RFC 4180 with a header; a missing value is an empty cell, an empty text is in quotes.",
    PARQUET="Parquet with proper types and statistics.",
)
describe_enum(
    Compression,
    "How a file of an export is compressed; Parquet has it inside.",
    name="ExportCompression",
    NONE="Not at all.",
    GZIP="By gzip.",
    ZSTD="By Zstandard.",
)
describe_enum(
    RunStatus,
    "How far a run of an export is.",
    name="ExportStatus",
    PENDING="It waits for its turn.",
    RUNNING="It is being written.",
    SUCCEEDED="Its manifest is in the bucket.",
    FAILED=(
        "An attempt failed. It is tried again at `nextAttemptAt` or, where that is null, once what "
        "`error` says was mended and the destination goes on."
    ),
    DEAD="It was given up, and later runs go on; `retryExport` takes it up again.",
)
describe_enum(
    Trigger,
    "Why a run of an export was begun.",
    name="ExportTrigger",
    SCHEDULE="It was due.",
    THRESHOLD="As many events waited as the destination has for its threshold.",
    REQUEST="Somebody called `runExport`.",
    HOOK="Somebody called `POST /hooks/export/TOKEN`.",
    COMMAND="Somebody called `footfall export`.",
)
describe_enum(
    TargetKind,
    "Which bucket of a destination is meant.",
    name="ExportTargetKind",
    CLIENT="The client's own.",
    BACKUP="The second one.",
)
describe_enum(
    LoginKind,
    "How the service gets into a bucket.",
    name="ExportLoginKind",
    KEY="By an access key of the bucket's owner.",
    ROLE="By a role of the bucket's owner, which it assumes.",
)
