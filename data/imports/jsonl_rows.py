"""Rows of a JSON lines file: one event a line."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from data.imports.blocks import ImportFile, LongLine
from data.imports.rows import MAX_ROW_BYTES, BadRow, Reading, RowProblem
from data.imports.shape import RowShaper

TOO_LONG = f"longer than {MAX_ROW_BYTES // 1024:,} KiB"

_decode = msgspec.json.Decoder(dict[str, object]).decode


def read_jsonl(file: ImportFile, shaper: RowShaper) -> Iterator[Reading]:
    """Every line as a row or a bad row; blank lines are passed over."""
    for block in file.blocks():
        if isinstance(block, LongLine):
            yield BadRow.of(block.number, TOO_LONG, block.beginning)
            continue
        for number, line in enumerate(block.lines(), block.number):
            try:
                yield shaper.shape(number, _event_of(line))
            except RowProblem as problem:
                if not line.isspace():
                    yield BadRow.of(number, str(problem), line)


def _event_of(line: bytes) -> dict[str, object]:
    if len(line) > MAX_ROW_BYTES:
        raise RowProblem(TOO_LONG)
    try:
        return _decode(line)
    except msgspec.ValidationError as error:
        if str(error).startswith("Expected"):
            raise RowProblem(f"not a JSON object: {str(error).lower()}") from None
        raise RowProblem(f"not JSON: {error}") from None
    except msgspec.DecodeError as error:
        raise RowProblem(f"not JSON: {error}") from None
    except UnicodeDecodeError:
        raise RowProblem("not UTF-8") from None
    except RecursionError:
        raise RowProblem("nested too deeply") from None
