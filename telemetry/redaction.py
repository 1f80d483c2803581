"""What may stand in a log line: plain values of bounded size, with secrets masked."""

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from uuid import UUID

from structlog.typing import EventDict, WrappedLogger

MASK = "***"

_MAX_TEXT = 8_000
_MAX_ITEMS = 100
_MAX_DEPTH = 5
_MAX_INT = 2**63
_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-.\s]+")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:api_?key|key|password|passwd|secret|token|authorization|cookie|credential|salt)s?$"
)
# One quick look that spares most texts the patterns below: each needs one of these.
_MAY_HOLD_SECRETS = re.compile(r"(?i)://|=|bearer|ff_|hv[sbr]\.")
_SECRET_TEXTS = (
    # The password in an address: scheme://user:PASSWORD@host. Neither part may hold a slash, so
    # that a search never runs past the next one and stays linear on hostile text.
    (re.compile(r"(://[^\s:/@]*:)[^\s/]+(?=@)"), rf"\1{MASK}"),
    (
        re.compile(r"(?i)\b((?:password|passwd|secret|token|api[_-]?key)=)[^\s&;,'\"]+"),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer\s+)[^\s'\",]+"), rf"\1{MASK}"),
    # Keys of our own, whose id may be seen, and tokens of Vault.
    (re.compile(r"\b(ff_[A-Za-z0-9]+_)[0-9a-f]{16,}"), rf"\1{MASK}"),
    (re.compile(r"\b(hv[sbr]\.)[A-Za-z0-9_-]{16,}"), rf"\1{MASK}"),
)


def make_printable(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """The line with JSON values only and secrets masked; never raises, whatever the values are."""
    return {_text(str(key)): _named(str(key), value) for key, value in event_dict.items()}


def mask_secrets(text: str) -> str:
    """`text` without the passwords, tokens and keys that stand in it in a recognisable form."""
    if _MAY_HOLD_SECRETS.search(text) is None:
        return text
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=1_024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(_WORD_BORDER.sub("_", name).lower()) is not None


def _named(name: str, value: object, depth: int = 0) -> object:
    # That a secret is absent is worth knowing, and tells nothing.
    if value is not None and _is_secret(name):
        return MASK
    try:
        return _plain(value, depth)
    except Exception:  # noqa: BLE001 - a value's own methods may do anything
        return f"<{type(value).__name__} that cannot be shown>"


def _plain(value: object, depth: int) -> object:
    if isinstance(value, Enum):
        value = value.value
    plain: object
    match value:
        case None | bool():
            plain = value
        case str():
            plain = _text(value)
        case int():
            # Python refuses to print integers of thousands of digits in decimal.
            plain = value if -_MAX_INT <= value < _MAX_INT else _text(f"{value:#x}")
        case float():
            plain = value if math.isfinite(value) else str(value)
        case bytes() | bytearray() | memoryview():
            plain = _text(bytes(value[:_MAX_TEXT]).decode("utf-8", "backslashreplace"))
        case datetime() | date():
            plain = value.isoformat()
        case UUID() | PurePath() | Decimal():
            plain = _text(str(value))
        case BaseException():
            plain = _text(f"{type(value).__name__}: {value}")
        case _:
            plain = _nested(value, depth)
    return plain


def _nested(value: object, depth: int) -> object:
    if depth >= _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        pairs = list(value.items())[:_MAX_ITEMS]
        return {_text(str(key)): _named(str(key), item, depth + 1) for key, item in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [_named("", item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return _text(repr(value))


def _text(value: str) -> str:
    """Valid UTF-8, masked, and without the middle when it is long: both ends tell something."""
    clean = mask_secrets(value.encode("utf-8", "backslashreplace").decode("utf-8"))
    if len(clean) <= _MAX_TEXT:
        return clean
    half = _MAX_TEXT // 2
    return f"{clean[:half]} ... [{len(clean) - 2 * half} characters] ... {clean[-half:]}"
