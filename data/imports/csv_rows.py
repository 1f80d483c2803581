"""Rows of a CSV file with a header."""

from __future__ import annotations

from collections.abc import Iterator

from data.imports.blocks import ImportFile
from data.imports.csv_records import CsvRecords, Record, delimiter_of
from data.imports.rows import BadRow, ImportFileError, Reading, RowProblem
from data.imports.shape import RowShaper, columns_of, shape_texts


def read_csv(file: ImportFile, shaper: RowShaper) -> Iterator[Reading]:
    """Every record as a row or a bad row; an empty cell is a field without a value.

    Raises ImportFileError where the header does not name the columns of events.
    """
    records = iter(CsvRecords(file, delimiter_of(file.head)))
    columns = _columns(next(records, None))
    for record in records:
        if isinstance(record, BadRow):
            yield record
            continue
        cells = record.cells
        event: dict[str, object] = dict(zip(columns, cells, strict=True))
        if "" in cells:
            event = {name: cell for name, cell in event.items() if cell}
        try:
            yield shaper.shape(record.number, shape_texts(event))
        except RowProblem as problem:
            yield BadRow.of(record.number, str(problem), record.text)


def _columns(header: Record | BadRow | None) -> list[str]:
    if header is None:
        raise ImportFileError("the file is empty; the first line of a CSV file names its columns")
    if isinstance(header, BadRow):
        raise ImportFileError(f"the header cannot be read: {header.reason}")
    return columns_of(header.cells)
