"""From a row of any format to the fields of `EventInput`: names, site, id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

import msgspec

from data.imports.ids import RowIds, event_id_of
from data.imports.rows import ImportFileError, OtherSite, Row, RowProblem, quoted

FIELDS = (
    "event_id",
    "occurred_at",
    "user_id",
    "event_type",
    "visitor_id",
    "session_id",
    "url",
    "path",
    "referrer",
    "properties",
)
# Columns that are understood and yet no field: the site that a row belongs to, properties as
# JSON text, and the time of arrival, which an export has and the service sets anew.
COLUMNS = (*FIELDS, "properties_json", "site_id", "received_at")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


# `event_id` by either spelling; only the names that are known are converted.
_BY_SPELLING = {_camel(name): name for name in COLUMNS} | {name: name for name in COLUMNS}
_CAMEL = {spelling: name for spelling, name in _BY_SPELLING.items() if spelling != name}

_MILLISECONDS = re.compile(r"-?[0-9]{1,17}").fullmatch


def columns_of(header: Sequence[str]) -> list[str]:
    """The names in `COLUMNS` that a header's cells stand for, in its order.

    Raises ImportFileError on a name that is unknown (its values would be lost in silence), on one
    that comes twice, and where the one column that every event needs is missing.
    """
    names = [_BY_SPELLING.get(cell.strip(), "") for cell in header]
    allowed = ", ".join(COLUMNS)
    for cell, name in zip(header, names, strict=True):
        if not name:
            raise ImportFileError(
                f"the header has a column {quoted(cell)}, which is no field of an event; remove it"
                f" or move its values into properties_json. Known columns: {allowed}"
            )
        if names.count(name) > 1:
            raise ImportFileError(f"the header has more than one column {name}; keep one of them")
    if "properties" in names and "properties_json" in names:
        raise ImportFileError(
            "the header has both properties and properties_json; keep one of them"
        )
    if "event_type" not in names:
        raise ImportFileError(f"the header lacks the column event_type. Known columns: {allowed}")
    return names


class RowShaper:
    """Makes rows for one site out of what the readers find; one object per reading, in order."""

    def __init__(self, site_id: str) -> None:
        self._site_id = site_id
        self._ids = RowIds(site_id)

    def shape(self, number: int, event: dict[str, object]) -> Row | OtherSite:
        """The row of this number; `event` may come in camel case and is taken over and changed.

        Raises RowProblem when the row contradicts itself or its id or site is no text.
        """
        if not _CAMEL.keys().isdisjoint(event):
            _rename(event)
        event.pop("received_at", None)
        site_id = event.pop("site_id", None)
        if site_id != self._site_id and site_id is not None and site_id != "":
            if not isinstance(site_id, str):
                raise RowProblem("site_id is not a text")
            return OtherSite(number, site_id)
        event["event_id"] = self._event_id(number, event)
        return Row(number, event)

    def _event_id(self, number: int, event: dict[str, object]) -> UUID:
        raw_id = event.get("event_id")
        if isinstance(raw_id, str) and raw_id:
            return event_id_of(self._site_id, raw_id)
        if raw_id is None or raw_id == "":
            event.pop("event_id", None)
            try:
                return self._ids.next_id(number, event)
            except RecursionError:
                raise RowProblem("nested too deeply") from None
        if isinstance(raw_id, UUID):
            return raw_id
        if isinstance(raw_id, int) and not isinstance(raw_id, bool):
            return event_id_of(self._site_id, str(raw_id))
        raise RowProblem("event_id is neither a text nor a whole number")


def _rename(event: dict[str, object]) -> None:
    for spelling in _CAMEL.keys() & event.keys():
        name = _CAMEL[spelling]
        if name in event:
            raise RowProblem(f"both {spelling} and {name} are given")
        event[name] = event.pop(spelling)


def shape_texts(event: dict[str, object]) -> dict[str, object]:
    """The event of a format whose cells are texts, with properties and epoch milliseconds read.

    `event` is changed. Raises RowProblem when the properties are not JSON.
    """
    for column in ("properties_json", "properties"):
        value = event.pop(column, None)
        if isinstance(value, str):
            value = json_value(value, column)
        if value is not None:
            event["properties"] = value
            break
    occurred_at = event.get("occurred_at")
    if isinstance(occurred_at, str) and _MILLISECONDS(occurred_at):
        event["occurred_at"] = int(occurred_at)
    return event


def json_value(text: str, column: str) -> object:
    """What the JSON text of a cell holds, whole numbers exact; raises RowProblem."""
    try:
        value: object = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise RowProblem(f"{column} is not JSON: {error}") from None
    except UnicodeError:
        raise RowProblem(f"{column} is not UTF-8") from None
    except RecursionError:
        raise RowProblem(f"{column} is nested too deeply") from None
    return value
