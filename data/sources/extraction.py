"""From what a source says to records: where they are, what they are called, and what they hold.

A record keeps the text that it came as, so that its numbers keep their digits (decision 8).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult
from jsonpointer import JsonPointer

from data.sources.fetched import FetchedRecord

HASH_BYTES = 16
MAX_ID_CHARS = 500
# A JMESPath needs all of an answer in memory, where each value takes some 50 bytes and more.
_MOST_QUERIED = 2_000_000
# An object below this is taken apart to tell what it has.
_SMALL = 1024 * 1024
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


# Numbers that nobody computes with stay the text that they are, which is fast.
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=msgspec.Raw)
_QUERIED: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=_with_digits)
_ENCODER = msgspec.json.Encoder(enc_hook=_as_written)
_CANONICAL = msgspec.json.Encoder(enc_hook=_as_written, order="sorted")
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SKIPPED = msgspec.json.Decoder(msgspec.Raw)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
JsonText = bytes | bytearray | msgspec.Raw


def parsed(text: JsonText) -> Any:
    """The value of a JSON text, fractions as `msgspec.Raw`; raises `NotAsExpected`."""
    return _decoded(_DECODER.decode, text)


def at_pointer(text: JsonText, pointer: str) -> JsonText | None:
    """The JSON text at a JSON Pointer; None where there is nothing. Raises `NotAsExpected`."""
    for part in JsonPointer(pointer).parts:
        inside: JsonText | None = None
        if _begins_with(text, b"{"):
            inside = _field(text, part)
        elif _begins_with(text, b"[") and part.isascii() and part.isdecimal():
            items = _decoded(_LIST.decode, text)
            inside = items[int(part)] if int(part) < len(items) else None
        if inside is None:
            return None
        text = inside
    return text


def text_at(text: JsonText, pointer: str) -> str | None:
    """The text or number at a JSON Pointer as text; None where there is nothing, null or a boolean.

    Raises `NotAsExpected` where there is an object or a list that holds something.
    """
    found = at_pointer(text, pointer)
    if found is None:
        return None
    value = parsed(found)
    if isinstance(value, dict | list) and value:
        what = "an object" if isinstance(value, dict) else "a list"
        raise NotAsExpected(f"what is at {pointer!r} is {what}, not a text or a number")
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | msgspec.Raw) and not isinstance(value, bool):
        return bytes(found).decode().strip()
    return None


class _Item:
    """What a list is decoded as: each item is taken when it comes, and then let go."""


_TAKEN = _Item()


class RecordReader:
    """Records of one set under their ids, which it holds together over all pages.

    Its methods raise `NotAsExpected` for the first record that is none, or that comes again, and
    as soon as there are more than `most`.
    """

    def __init__(self, id_field: str, most: int) -> None:
        self.records: dict[str, FetchedRecord] = {}
        self._id_field = id_field
        self._id_of = _id_finder(id_field)
        self._most = most
        # Millions of tiny items, or of fields beside the list, would take many times the memory
        # of their text if all of them were held.
        self._list = msgspec.json.Decoder(
            list[_Item], dec_hook=self._take_item, float_hook=msgspec.Raw
        )

    def take_list(self, text: JsonText, pointer: str) -> None:
        """Add the items of the list at a JSON Pointer ("" is all of it)."""
        found = at_pointer(text, pointer)
        if found is None:
            raise NotAsExpected(f"there is nothing at {pointer!r} in the answer")
        if not _begins_with(found, b"["):
            raise _no_list(found, pointer)
        _decoded(self._list.decode, found)

    def take_found(self, text: bytes | bytearray, query: ParsedResult) -> None:
        """Add what a JMESPath finds."""
        if text.count(b",") > _MOST_QUERIED:
            raise NotAsExpected(
                f"the answer has more than {_MOST_QUERIED:,} values; "
                "ask for smaller pages, or use recordsAt"
            )
        try:
            found = query.search(_decoded(_QUERIED.decode, text))
        except (JMESPathError, ArithmeticError, ValueError, TypeError, RecursionError) as error:
            raise NotAsExpected(f"the JMESPath fails: {str(error)[:200]}") from None
        if not isinstance(found, list):
            what = "nothing" if found is None else "something that is not a list"
            raise NotAsExpected(f"the JMESPath finds {what} in the answer")
        for item in found:
            self.take(item)

    def take(self, content: Any) -> None:
        """Add one, as `parsed` gives it."""
        number = len(self.records) + 1
        if number > self._most:
            raise NotAsExpected(f"there are more than {self._most:,} records (maxRecords)")
        if not isinstance(content, dict):
            raise NotAsExpected(f"record {number} is not an object")
        external_id = self._checked_id(self._id_of(content), number)
        if external_id in self.records:
            raise NotAsExpected(
                f"record {number} has the id {_short(external_id)}, "
                "which a record before it has, too"
            )
        try:
            canonical = _CANONICAL.encode(content)
            data = _ENCODER.encode(content)
        except (RecursionError, msgspec.MsgspecError):
            raise NotAsExpected(f"record {number} cannot be kept as JSON") from None
        if b"\\u0000" in canonical and "\0" in _texts_of(content):
            raise NotAsExpected(f"record {number} holds a NUL character, which cannot be kept")
        digest = blake2b(canonical, digest_size=HASH_BYTES).digest()
        self.records[external_id] = FetchedRecord(data, digest)

    def _take_item(self, _: type, content: Any) -> _Item:
        self.take(content)
        return _TAKEN

    def _checked_id(self, value: Any, number: int) -> str:
        if value is _MISSING or value is None or value == "":
            raise NotAsExpected(f"record {number} has no {self._id_field!r}")
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise NotAsExpected(
                f"the {self._id_field!r} of record {number} is neither a text nor an integer"
            )
        external_id = str(value)
        if len(external_id) > MAX_ID_CHARS:
            raise NotAsExpected(
                f"the id of record {number} is longer than {MAX_ID_CHARS} characters"
            )
        return external_id


def _field(text: JsonText, name: str) -> JsonText | None:
    """The JSON text of one field of an object."""
    if any(char < " " or char in '"\\' for char in name):
        found: JsonText | None = _decoded(_OBJECT.decode, text).get(name)
        return found
    found = _decoded(_only(name).decode, text).found
    return None if found is msgspec.UNSET else found


@lru_cache(maxsize=256)
def _only(name: str) -> msgspec.json.Decoder[Any]:
    """Of objects with that field; the others are passed over, not held."""
    fields = [("found", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)]
    return msgspec.json.Decoder(msgspec.defstruct("Only", fields, rename=lambda _: name))


def _no_list(found: JsonText, pointer: str) -> NotAsExpected:
    """Says what is there instead of a list."""
    where = f"what is at {pointer!r}" if pointer else "the answer"
    if not _begins_with(found, b"{"):
        # What is no JSON at all is said better.
        _decoded(_SKIPPED.decode, found)
        return NotAsExpected(f"{where} is not a list of records")
    has = ""
    if memoryview(found).nbytes < _SMALL:
        names = ", ".join(list(_decoded(_OBJECT.decode, found))[:10])
        has = f" (it has: {names[:200]})"
    return NotAsExpected(
        f"{where} is an object, not a list; recordsAt says where the records are{has}"
    )


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


def _decoded(decode: Callable[[Any], Any], text: JsonText) -> Any:
    try:
        return decode(text)
    except UnicodeDecodeError:
        raise NotAsExpected("the answer is not UTF-8") from None
    except RecursionError:
        raise NotAsExpected("the answer is nested too deeply") from None
    except msgspec.MsgspecError as error:
        if _FIRST(text) is None:
            raise NotAsExpected("the answer is empty") from None
        if _begins_with(text, b"<"):
            raise NotAsExpected("the answer is HTML or XML, not JSON") from None
        why = str(error).removeprefix("JSON is malformed: ")
        raise NotAsExpected(f"the answer is not JSON: {why}") from None


def _begins_with(text: JsonText, first: bytes) -> bool:
    return (found := _FIRST(text)) is not None and found[1] == first


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
