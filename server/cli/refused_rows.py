"""Where the refused rows of an import are kept for inspection."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from resolvers.imports import RefusedRow

_SHOWN = 5
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class RefusedRows:
    """A file of JSON lines with every refused row, made with the first one; `first` are a few.

    It lies in `folder` and only its owner can read it, since it holds what was to be imported.
    """

    folder: Path
    source: str
    began: datetime
    first: list[RefusedRow] = field(default_factory=list)
    _file: BinaryIO | None = None

    @property
    def path(self) -> Path | None:
        """The file; None while nothing was refused."""
        return self._target if self._file is not None else None

    @property
    def _target(self) -> Path:
        name = _ODD.sub("-", self.source)[:100]
        return self.folder / f"{name}-{self.began:%Y%m%dT%H%M%S%f}Z.rejected.jsonl"

    def add(self, row: RefusedRow) -> None:
        """Keep a row."""
        if self._file is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(descriptor, "wb")
        self._file.write(msgspec.json.encode(row) + b"\n")
        if len(self.first) < _SHOWN:
            self.first.append(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
