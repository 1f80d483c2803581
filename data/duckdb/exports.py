"""What exports ask of the copy: how many events lie where, and files of them.

Values stand in the files as they were sent: texts as they are, properties as their JSON text, no
number through a float. Every time is UTC, with six digits of a second in texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from duckdb import DuckDBPyConnection as Cursor

from data.duckdb.copy_file import read_watermark
from data.duckdb.filters import Condition, condition_of
from data.duckdb.spans import naive
from data.duckdb.statements import fetch, statement
from data.event_store import StoreUnavailable
from data.exports.layout import Arrivals, Compression, FileFormat, Layout, Selection
from data.exports.source import FileOrder, Stack, Waiting
from data.exports.tally import Proof, Tally
from data.queries import EventFilter, last_arrival, position_of

_ALWAYS_THERE = frozenset({"event_id", "site_id", "event_type", "occurred_at", "received_at"})
_INSTANTS = frozenset({"occurred_at", "received_at"})
# Always in quotes, so that no text is ever taken for a missing value, a number or a comment.
_QUOTED_IN_CSV = frozenset(
    {"site_id", "event_type", "user_id", "visitor_id", "session_id", "url", "path", "referrer"}
    | {"properties"}
)
_CODECS = {
    Compression.NONE: "uncompressed",
    Compression.GZIP: "gzip",
    Compression.ZSTD: "zstd",
}


def export_stacks(
    cursor: Cursor, selection: Selection, arrivals: Arrivals, most: int
) -> Sequence[Stack]:
    """The events of the selection's site by place, in at most so many stretches."""
    _require_reached(cursor, selection)
    width = max(1, -(-arrivals.width // most))
    span = _span(selection)
    values = {**_values(selection, arrivals, span), "width": width}
    stacks = []
    for number, events in fetch(cursor, statement("export_stacks", span=span.sql), values):
        after = arrivals.after + number * width
        through = min(after + width, arrivals.through)
        stacks.append(Stack(Arrivals(after, through), events))
    return stacks


def export_tally(cursor: Cursor, selection: Selection, arrivals: Arrivals) -> Tally:
    """What the places hold of the selection."""
    _require_reached(cursor, selection)
    span, wanted = _span(selection), condition_of(selection.filter)
    sql = statement("export_tally", span=span.sql, filter=wanted.sql)
    rows = fetch(cursor, sql, _values(selection, arrivals, span, wanted))
    tally = Tally()
    for day, events, checksum, taken, taken_checksum, first_at, last_at in rows:
        tally += Tally(
            everything=Proof(events, checksum),
            taken=Proof(taken, taken_checksum or 0),
            days={day: taken} if taken else {},
            first_at=_aware(first_at),
            last_at=_aware(last_at),
        )
    return tally


def export_rows(cursor: Cursor, order: FileOrder) -> int:
    """Write a file; how many events are in it."""
    _require_reached(cursor, order.selection)
    span, wanted = _span(order.selection), condition_of(order.selection.filter)
    options = _OPTIONS[order.layout.format](order)
    sql = statement(
        "export_rows",
        columns=_columns(order.layout),
        span=span.sql,
        filter=wanted.sql,
        order="order by events.arrival" if _has_list(order.selection.filter) else "",
        options=", ".join(options),
    )
    values = {
        **_values(order.selection, order.arrivals, span, wanted),
        **order.metadata,
        "head": order.head,
        "tail": order.tail,
        # Resolved, as are the folders in which the copy may write.
        "path": str(order.path.resolve()),
    }
    [(rows,)] = fetch(cursor, sql, values)
    return int(rows)


def export_waiting(
    cursor: Cursor, after: int, through: int, site_id: str | None
) -> dict[str, Waiting]:
    """What sites (None: all) have in positions (after, through]; without those that have nothing."""
    values = {
        "after": last_arrival(after),
        "through": last_arrival(through),
        "site_id": site_id,
    }
    rows = fetch(cursor, statement("export_waiting"), values)
    return {site: Waiting(events, position_of(first)) for site, events, first in rows}


def _has_list(wanted: EventFilter) -> bool:
    """Whether a condition is a list, which `condition_of` makes a join."""
    strings = [string for _, string in wanted.fields]
    strings += [one.string for one in wanted.properties if one.string is not None]
    if any(one.in_ is not None or one.not_in is not None for one in strings):
        return True
    inner = [*wanted.all_of, *(wanted.any_of or ())]
    inner += [wanted.negated] if wanted.negated is not None else []
    return any(_has_list(one) for one in inner)


def _require_reached(cursor: Cursor, selection: Selection) -> None:
    watermark = read_watermark(cursor)
    reached = watermark.position if watermark else 0
    if reached < selection.through:
        raise StoreUnavailable(
            f"the copy is at position {reached}, the run goes up to {selection.through}"
        )


def _span(selection: Selection) -> Condition:
    """The instants of a backfill."""
    conditions, values = ["true"], dict[str, object]()
    if selection.since is not None:
        conditions.append("events.occurred_at >= $since")
        values["since"] = naive(selection.since)
    if selection.until is not None:
        conditions.append("events.occurred_at < $until")
        values["until"] = naive(selection.until)
    return Condition(" and ".join(conditions), values)


def _values(
    selection: Selection, arrivals: Arrivals, *conditions: Condition
) -> Mapping[str, object]:
    values: dict[str, object] = {
        "site_id": selection.site_id,
        "after": arrivals.after,
        "through": arrivals.through,
    }
    for condition in conditions:
        values |= condition.values
    return values


def _aware(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.replace(tzinfo=UTC)


def _columns(layout: Layout) -> str:
    if layout.format is FileFormat.PARQUET:
        return ", ".join(f"{_typed(name)} as {name}" for name in layout.fields)
    if layout.format is FileFormat.CSV:
        return ", ".join(f"{_cell(name)} as {name}" for name in layout.fields)
    members = " || ".join(
        f"'{',' if number else '{'}\"{name}\":' || {_json(name)}"
        for number, name in enumerate(layout.fields)
    )
    return f"{members} || '}}' as line"


def _typed(name: str) -> str:
    """A value with the type that readers of Parquet know best."""
    if name in _INSTANTS:
        return f"timezone('UTC', events.{name})"
    if name == "event_id":
        # Not a UUID of Parquet: Spark refuses whole files with one, and many give bytes.
        return "events.event_id::varchar"
    return "events.properties::json" if name == "properties" else f"events.{name}"


def _cell(name: str) -> str:
    return f"({_instant_text(name)})" if name in _INSTANTS else f"events.{name}"


def _json(name: str) -> str:
    """A value as JSON text, `null` where it is missing."""
    if name in _INSTANTS:
        return f"'\"' || {_instant_text(name)} || '\"'"
    if name == "event_id":
        return "'\"' || events.event_id::varchar || '\"'"
    if name == "properties":
        # A line break outside of its strings is a blank, and a line is an event.
        return "coalesce(translate(events.properties, chr(10) || chr(13), '  '), 'null')"
    text = f"to_json(events.{name})::varchar"
    return text if name in _ALWAYS_THERE else f"coalesce({text}, 'null')"


def _instant_text(name: str) -> str:
    """`2025-01-31T12:00:00.000000Z`: by a cast, which takes half the time of strftime."""
    text = f"replace(events.{name}::varchar, ' ', 'T')"
    return f"rpad({text} || case when length({text}) = 19 then '.' else '' end, 26, '0') || 'Z'"


def _csv_options(order: FileOrder) -> list[str]:
    """RFC 4180; a missing value is an empty cell, an empty text a cell with two quotes."""
    quoted = [name for name in order.layout.fields if name in _QUOTED_IN_CSV]
    force = [f"force_quote ({', '.join(quoted)})"] if quoted else []
    return [
        "format csv",
        f"header {'true' if order.has_header else 'false'}",
        "new_line '\r\n'",
        *force,
        *_packed(order.layout),
    ]


def _lines_options(order: FileOrder) -> list[str]:
    # Each row is one text, and is written as it is.
    return [*_RAW, *_packed(order.layout)]


def _document_options(order: FileOrder) -> list[str]:
    return [
        *_RAW,
        "prefix $head",
        "suffix $tail",
        "new_line ',\n'",
        *_packed(order.layout),
    ]


_RAW = ("format csv", "header false", "quote ''", "escape ''", "delimiter '\n'")


def _packed(layout: Layout) -> list[str]:
    is_plain = layout.compression is Compression.NONE
    return [] if is_plain else [f"compression {_CODECS[layout.compression]}"]


def _parquet_options(order: FileOrder) -> list[str]:
    metadata = ", ".join(f"{name}: ${name}" for name in order.metadata)
    is_zstd = order.layout.compression is Compression.ZSTD
    return [
        "format parquet",
        # The usual level, 3, takes an eighth longer in all and makes files smaller by a fiftieth.
        *(["compression_level 1"] if is_zstd else []),
        # Ids and sessions are all different: trying to make dictionaries of them costs a tenth.
        "dictionary_size_limit 4000",
        f"compression {_CODECS[order.layout.compression]}",
        *([f"kv_metadata {{{metadata}}}"] if metadata else []),
    ]


_OPTIONS: dict[FileFormat, Callable[[FileOrder], list[str]]] = {
    FileFormat.JSON: _document_options,
    FileFormat.JSONL: _lines_options,
    FileFormat.CSV: _csv_options,
    FileFormat.PARQUET: _parquet_options,
}
