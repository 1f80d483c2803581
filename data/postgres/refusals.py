"""Why the ledger refused an event, in words by which an operator can act."""

from __future__ import annotations

import asyncpg
from sqlalchemy.exc import DBAPIError

from data.postgres.engine import LedgerRefused

_CHARACTER = (
    "it holds a character that the database does not store, such as NUL: delete it, and have its "
    "sender leave the character out"
)
_SIZE = (
    "it holds more than the database takes in one place: delete it, and have its sender shorten it"
)
_RULE = (
    "it breaks a rule of the database: run `footfall doctor`, mend what that names, and queue it "
    "anew"
)
_VALUE = (
    "it holds a value that the database does not take: delete it, and have its sender correct it"
)
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (UnicodeError, _CHARACTER),
    (asyncpg.CharacterNotInRepertoireError, _CHARACTER),
    (asyncpg.UntranslatableCharacterError, _CHARACTER),
    (asyncpg.ProgramLimitExceededError, _SIZE),
    (asyncpg.IntegrityConstraintViolationError, _RULE),
)


def reason_of(refused: LedgerRefused) -> str:
    """What is the matter with what was refused, and what to do; nothing of what the driver said."""
    error = refused.__cause__
    cause = getattr(error.orig, "__cause__", None) if isinstance(error, DBAPIError) else error
    return next((text for kind, text in _REASONS if isinstance(cause, kind)), _VALUE)
