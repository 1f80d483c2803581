"""Sources that a deployment declares: a TOML file with a table `[[sources]]` for each.

The names in it are those of `Source`; `headers` is a list of tables, `paging` a table.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from data.sources.checking import SourceInvalid, check_source
from data.sources.source import Source

_LARGEST_BYTES = 4 * 1024 * 1024
_WHERE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`")
_CAPITAL = re.compile(r"[A-Z]")


class DeclarationInvalid(Exception):
    """The file of sources cannot be used; the message says where and why, in one line."""


def read_declared(path: Path) -> list[Source]:
    """The sources of a file, in its order, checked one by one; raises `DeclarationInvalid`."""
    tables = _tables(path)
    found: dict[str, Source] = {}
    for number, table in enumerate(tables, 1):
        source = _source(path, number, table)
        if source.key in found:
            raise wrong(path, source.key, "key", "another source of the file has it, too")
        found[source.key] = source
    return list(found.values())


def wrong(path: Path, key: str, field: str, problem: str) -> DeclarationInvalid:
    """What is said of a field of a source in the file."""
    return DeclarationInvalid(f"SOURCES_FILE {path}: source {key!r}: {field}: {problem}")


def field_in_file(field: str) -> str:
    """How the file names a field of the API: `records_at` for `recordsAt`."""
    return _CAPITAL.sub(lambda found: f"_{found[0].lower()}", field)


def _tables(path: Path) -> list[object]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DeclarationInvalid(
            f"SOURCES_FILE {path} cannot be read ({error.strerror}): see that it is there and that "
            "this user may read it"
        ) from error
    if len(text) > _LARGEST_BYTES:
        raise DeclarationInvalid(f"SOURCES_FILE {path} has more than {_LARGEST_BYTES:,} bytes")
    try:
        content = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeclarationInvalid(f"SOURCES_FILE {path} is not TOML: {error}") from None
    others = sorted(content.keys() - {"sources"})
    if others:
        raise DeclarationInvalid(
            f"SOURCES_FILE {path}: unknown: {', '.join(others)}; a source is a table [[sources]]"
        )
    tables = content.get("sources", [])
    if not isinstance(tables, list):
        raise DeclarationInvalid(f"SOURCES_FILE {path}: a source is a table [[sources]]")
    return tables


def _source(path: Path, number: int, table: object) -> Source:
    key = table.get("key") if isinstance(table, Mapping) else None
    name = key if isinstance(key, str) else f"number {number}"
    try:
        source = msgspec.convert(table, Source)
    except msgspec.ValidationError as error:
        field, problem = _place_of(str(error))
        raise wrong(path, name, field, problem) from None
    try:
        check_source(source)
    except SourceInvalid as error:
        raise wrong(path, name, field_in_file(error.field), str(error)) from None
    return source


def _place_of(message: str) -> tuple[str, str]:
    """The field that a message of msgspec is about, and the rest of it."""
    where = _WHERE.search(message)
    path = where["path"] if where else ""
    problem = message[: where.start()] if where else message
    if unknown := _UNKNOWN.search(problem):
        return ".".join(filter(None, (path, unknown["name"]))), "there is no such field"
    if missing := re.fullmatch(r"Object missing required field `([^`]*)`", problem):
        return ".".join(filter(None, (path, missing[1]))), "it is missing"
    return path or "source", f"{problem[:1].lower()}{problem[1:]}"
