"""What is plain: values and attributes that hold no surprise."""

from __future__ import annotations

from collections.abc import Collection
from types import MemberDescriptorType, NoneType
from typing import NamedTuple

from graphql.pyutils import UndefinedType


class NotPlain(Exception):
    """Something that only graphql-core can do, or refuse in the right words."""


class _Pair(NamedTuple):
    first: object


# Descriptors that give what is stored in the object and run nobody's code: slots, which msgspec
# structs have as well, and the fields of named tuples.
_STORED = frozenset({MemberDescriptorType, type(_Pair.__dict__["first"])})
_PLAIN_READS: frozenset[object] = frozenset({object.__getattribute__, tuple.__getattribute__})


def require_stored(kind: type, names: Collection[str]) -> None:
    """Raises `NotPlain` unless reading these attributes of an instance runs nobody's code."""
    if (
        kind.__getattribute__ not in _PLAIN_READS
        or hasattr(kind, "__getattr__")
        or hasattr(kind, "__await__")
        or issubclass(kind, (BaseException, NoneType, UndefinedType))
    ):
        raise NotPlain
    for name in names:
        if not _is_stored(kind, name):
            raise NotPlain


def _is_stored(kind: type, name: str) -> bool:
    for base in kind.__mro__:
        if name in base.__dict__:
            held = type(base.__dict__[name])
            return held in _STORED or not hasattr(held, "__get__")
    # It can only be in the instance's own dictionary.
    return True
