"""The SQL files of this folder as statements with filled slots and bound values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection as Cursor

_FOLDER = Path(__file__).parent / "sql"
_PARAMETER = re.compile(r"\$(\w+)")

Values = Mapping[str, object]
Row = tuple[Any, ...]


@lru_cache(maxsize=64)
def _text(name: str) -> str:
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def statement(name: str, /, **slots: str) -> str:
    """The text of `sql/<name>.sql`. Slots take SQL made of constants and parameters only."""
    # A statement without slots may have braces of its own.
    return _text(name).format(**slots) if slots else _text(name)


def fetch(cursor: Cursor, sql: str, values: Values) -> list[Row]:
    """All rows of a statement. Values that the statement does not name are left out."""
    # DuckDB refuses values without a parameter; statements share parts that bind more than
    # each of them uses.
    used = {name: values[name] for name in _PARAMETER.findall(sql)}
    return cursor.execute(sql, used).fetchall()
