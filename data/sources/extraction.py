"""From what a source says to records: where they are, what they are called, and what they hold.

A record keeps the text that it came as, so that its numbers keep their digits (decision 8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import msgspec
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult
from jsonpointer import JsonPointer

from data.sources.fetched import FetchedRecord

HASH_BYTES = 16
MAX_ID_CHARS = 500
_MISSING = object()
_FIRST = re.compile(rb"[ \t\r\n]*+(.)").match


class NotAsExpected(Exception):
    """What a source says is not what its definition says; the message tells the difference."""


class _Digits(float):
    """A number with the digits that it came with; a float for whoever computes with it."""

    text: str


# JMESPath goes by the name of a value's type.
_Digits.__name__ = "float"


def _with_digits(text: str) -> _Digits:
    number = _Digits(text)
    number.text = text
    return number


def _as_written(number: Any) -> msgspec.Raw:
    return msgspec.Raw(number.text)


_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=_with_digits)
_ENCODER = msgspec.json.Encoder(enc_hook=_as_written)
_CANONICAL = msgspec.json.Encoder(enc_hook=_as_written, order="sorted")
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_Parsed = bytes | bytearray | msgspec.Raw


def parsed(text: _Parsed) -> Any:
    """The value of a JSON text; raises `NotAsExpected`."""
    return _decoded(_DECODER.decode, text)


def at_pointer(text: _Parsed, pointer: str) -> _Parsed | None:
    """The JSON text at a JSON Pointer; None where there is nothing. Raises `NotAsExpected`."""
    for part in JsonPointer(pointer).parts:
        inside: _Parsed | None = None
        if _begins_with(text, b"{"):
            inside = _decoded(_OBJECT.decode, text).get(part)
        elif _begins_with(text, b"[") and part.isascii() and part.isdecimal():
            items = _decoded(_LIST.decode, text)
            inside = items[int(part)] if int(part) < len(items) else None
        if inside is None:
            return None
        text = inside
    return text


def records_at(text: _Parsed, pointer: str) -> list[msgspec.Raw]:
    """The items of the list at a JSON Pointer ("" is all of it); raises `NotAsExpected`."""
    found = at_pointer(text, pointer)
    if found is None:
        raise NotAsExpected(f"there is nothing at {pointer!r} in the answer")
    if _begins_with(found, b"["):
        items: list[msgspec.Raw] = _decoded(_LIST.decode, found)
        return items
    where = f"what is at {pointer!r}" if pointer else "the answer"
    if not _begins_with(found, b"{"):
        _decoded(_DECODER.decode, found)
        raise NotAsExpected(f"{where} is not a list of records")
    names = ", ".join(list(_decoded(_OBJECT.decode, found))[:10])
    raise NotAsExpected(
        f"{where} is an object, not a list; say by recordsAt where the records are "
        f"(it has: {names[:200]})"
    )


def records_found(text: _Parsed, query: ParsedResult) -> list[bytes]:
    """What a JMESPath finds, each as JSON; raises `NotAsExpected`."""
    try:
        found = query.search(parsed(text))
    except (JMESPathError, ValueError, TypeError, OverflowError) as error:
        raise NotAsExpected(f"the JMESPath fails: {str(error)[:200]}") from None
    if found is None:
        raise NotAsExpected("the JMESPath finds nothing in the answer")
    if not isinstance(found, list):
        raise NotAsExpected("the JMESPath finds something that is not a list")
    return [_ENCODER.encode(item) for item in found]


def text_at(text: _Parsed, pointer: str) -> str | None:
    """The text or number at a JSON Pointer as text; None where there is none of either."""
    found = at_pointer(text, pointer)
    if found is None:
        return None
    value = parsed(found)
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bytes(found).decode().strip()
    return None


class RecordReader:
    """Records of one set under their ids, which it holds together over all pages."""

    def __init__(self, id_field: str) -> None:
        self.records: dict[str, FetchedRecord] = {}
        self._id_field = id_field
        self._id_of = _id_finder(id_field)

    def take(self, texts: Iterable[_Parsed]) -> None:
        """Add these; raises `NotAsExpected` for the first that is no record, or is there before."""
        number = len(self.records)
        for text in texts:
            number += 1
            external_id, record = self._read(text, number)
            if external_id in self.records:
                raise NotAsExpected(
                    f"record {number} has the id {_short(external_id)}, "
                    "which a record before it has, too"
                )
            self.records[external_id] = record

    def _read(self, text: _Parsed, number: int) -> tuple[str, FetchedRecord]:
        content = parsed(text)
        if not isinstance(content, dict):
            raise NotAsExpected(f"record {number} is not an object")
        external_id = self._id_of(content)
        if external_id is _MISSING or external_id is None or external_id == "":
            raise NotAsExpected(f"record {number} has no {self._id_field!r}")
        if isinstance(external_id, bool) or not isinstance(external_id, str | int):
            raise NotAsExpected(
                f"the {self._id_field!r} of record {number} is neither a text nor an integer"
            )
        found = str(external_id)
        if len(found) > MAX_ID_CHARS:
            raise NotAsExpected(
                f"the id of record {number} is longer than {MAX_ID_CHARS} characters"
            )
        canonical = _CANONICAL.encode(content)
        if b"\\u0000" in canonical and "\0" in _texts_of(content):
            raise NotAsExpected(f"record {number} holds a NUL character, which cannot be kept")
        digest = blake2b(canonical, digest_size=HASH_BYTES).digest()
        return found, FetchedRecord(bytes(text).strip(), digest)


def _id_finder(id_field: str) -> Callable[[dict[str, Any]], Any]:
    if not id_field.startswith("/"):
        return lambda content: content.get(id_field, _MISSING)
    pointer = JsonPointer(id_field)
    return lambda content: pointer.resolve(content, _MISSING)


def _texts_of(value: Any) -> str:
    """All texts in a value, one after another."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(name + _texts_of(inside) for name, inside in value.items())
    if isinstance(value, list):
        return "".join(map(_texts_of, value))
    return ""


def _decoded(decode: Callable[[Any], Any], text: _Parsed) -> Any:
    try:
        return decode(text)
    except UnicodeDecodeError:
        raise NotAsExpected("the answer is not UTF-8") from None
    except RecursionError:
        raise NotAsExpected("the answer is nested too deeply") from None
    except msgspec.MsgspecError as error:
        if _begins_with(text, b"<"):
            raise NotAsExpected("the answer is HTML or XML, not JSON") from None
        why = str(error).removeprefix("JSON is malformed: ")
        raise NotAsExpected(f"the answer is not JSON: {why}") from None


def _begins_with(text: _Parsed, first: bytes) -> bool:
    return (found := _FIRST(text)) is not None and found[1] == first


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
