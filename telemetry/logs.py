"""Structured logs: one line for each thing that happens, with the correlation id it belongs to.

Modules take a logger with `log = structlog.get_logger()` and write
`log.info("ingest.commit.done", rows=rows)`; nothing is set up on import. The server's edge calls
`configure_logs` once. Lines of the standard library's loggers (uvicorn, sqlalchemy, alembic,
apscheduler, warnings) take the same way.
"""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from json import dumps
from random import getrandbits
from typing import TextIO

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.stdlib import LoggerFactory, ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from telemetry.redaction import make_printable

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# These may bring handlers of their own, which would print lines a second time and without an id.
_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "sqlalchemy")
# These tell at INFO what we already tell (or nobody asks); they are heard in full at DEBUG only.
_TALKATIVE = {
    "alembic": logging.WARNING,
    "apscheduler": logging.WARNING,
    "botocore": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "urllib3": logging.WARNING,
    # While a collector is away its exporter warns before each retry; the final error is enough.
    "opentelemetry": logging.ERROR,
}
_BLOCKS = ("exception", "stack")
_LINE_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_BLOCK_CONTROLS = {code: to for code, to in _LINE_CONTROLS.items() if chr(code) not in "\n\t"}
# A variable of our own, and not one among structlog's: those are found by a walk through the whole
# context, which is too much for something that every request binds.
_bound_id: ContextVar[str | None] = ContextVar("footfall_correlation_id", default=None)


def new_correlation_id() -> str:
    """A fresh id of 16 hexadecimal digits, for one request, one job run or one process."""
    # It tells requests apart and guards nothing, so it need not be a secret's kind of random.
    return f"{getrandbits(64):016x}"


def current_correlation_id() -> str | None:
    """The id bound around the caller, or None outside of every request and job."""
    return _bound_id.get()


class bind_correlation_id:  # noqa: N801 - it reads as the verb that it stands for
    """Every line written inside carries `value`; the id that was bound before comes back after."""

    # A class, as every request binds one: a generator takes four times as long.
    __slots__ = ("_before", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._before: str | None = None

    def __enter__(self) -> str:
        self._before = _bound_id.get()
        _bound_id.set(self._value)
        return self._value

    def __exit__(self, *_: object) -> None:
        # No token: a generator may be closed in another context than it was begun in.
        _bound_id.set(self._before)


def configure_logs(*, level: str, json: bool, stream: TextIO | None = None) -> None:
    """All logs of the process go to `stream` (standard error when None) from now on.

    `json` gives one JSON object per line; otherwise lines are for people, coloured on a terminal.
    A second call replaces the first. Raises ValueError when `level` is not a level.
    """
    threshold = _threshold(level)
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(json=json, colors=target.isatty()))
    root = logging.getLogger()
    for other in list(root.handlers):
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(threshold)
    _tame_libraries(threshold)
    structlog.configure(
        processors=[ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=LoggerFactory(),
        # Caching would tie every module's logger to the first configuration it meets. No hot path
        # writes a line per event, so looking the configuration up each time costs nothing we feel.
        cache_logger_on_first_use=False,
    )


def _threshold(level: str) -> int:
    name = level.strip().upper()
    if name not in _LEVELS:
        raise ValueError(f"log level {level!r} is unknown: use one of {', '.join(_LEVELS)}")
    return logging.getLevelNamesMapping()[name]


def _tame_libraries(threshold: int) -> None:
    for name in _OWN_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name, floor in _TALKATIVE.items():
        quiet = logging.NOTSET if threshold <= logging.DEBUG else max(floor, threshold)
        logging.getLogger(name).setLevel(quiet)
    logging.captureWarnings(True)


class _Formatter(ProcessorFormatter):
    """Renders records of both worlds, and writes a substitute for one that cannot be rendered."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001 - a log line must never hurt
            # Typically "%d" of a text in a library: the line must not vanish, nor end up on
            # standard error as a bare traceback between JSON lines.
            msg = record.msg if isinstance(record.msg, str) else "a line"
            substitute = logging.makeLogRecord(
                {
                    "name": record.name,
                    "levelname": record.levelname,
                    "created": record.created,
                    "msg": f"log.unprintable {msg}: {type(error).__name__}",
                }
            )
            return super().format(substitute)


def _formatter(*, json: bool, colors: bool) -> logging.Formatter:
    """Formatting happens in the handler, so nothing that a line holds can hurt who wrote it."""
    renderers: list[Processor] = [structlog.processors.JSONRenderer(_to_json)]
    if not json:
        console = ConsoleRenderer(
            colors=colors, sort_keys=False, exception_formatter=plain_traceback
        )
        renderers = [_escape_controls, console]
    return _Formatter(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _Envelope(process_id=new_correlation_id()),
            make_printable,
            *renderers,
        ]
    )


class _Envelope:
    """Puts time, level, event, logger and correlation id before what the caller said."""

    def __init__(self, *, process_id: str) -> None:
        self._process_id = process_id

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        record: logging.LogRecord = event_dict.pop("_record")
        event_dict.pop("_from_structlog", None)
        at = datetime.fromtimestamp(record.created, UTC)
        head = {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": event_dict.pop("event", ""),
            "logger": record.name,
            "correlation_id": _bound_id.get() or self._process_id,
        }
        return {**head, **{key: value for key, value in event_dict.items() if key not in head}}


def _to_json(event_dict: EventDict, **_: object) -> str:
    return dumps(event_dict, separators=(",", ":"), allow_nan=False)


def _escape_controls(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Keeps a value with line breaks or terminal commands from imitating other lines."""
    for key, value in event_dict.items():
        if isinstance(value, str):
            controls = _BLOCK_CONTROLS if key in _BLOCKS else _LINE_CONTROLS
            event_dict[key] = value.translate(controls)
    return event_dict
