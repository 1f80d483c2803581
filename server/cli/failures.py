"""How a command ends when it fails: an exit code and one line. The only place that decides it."""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass

from data.duckdb.copy_file import CopyUnusable
from data.event_store import StoreUnavailable
from data.imports.rows import ImportFileError
from data.manifests import ManifestUnusable
from data.postgres.embedded_account import EmbeddedPostgresError
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.ledger import MigrationsPending
from data.redis.queue_store import QueueUnusable
from data.secret_errors import SecretMissing, SecretsUnreadable, Undecipherable
from data.slots import NoSlot
from data.sources.declared import DeclarationInvalid
from data.vault.client import VaultUnavailable
from resolvers.errors import BadUserInput, Refusal
from server.production import UnfitForProduction
from server.resources import HomeUnusable
from server.settings import InvalidSettings

FAILED = 1
WRONG_USAGE = 2


class CommandFailed(Exception):
    """A command cannot do what it was asked to; the message says why and what to do."""


class Stopped(Exception):
    """A signal ended the command; the message says what that means for its work."""

    def __init__(self, number: signal.Signals, message: str = "stopped") -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True, slots=True)
class Failure:
    """What the caller's shell gets to know, and the person before it, mostly in one line."""

    exit_code: int
    line: str


# Their messages are whole sentences for people.
_SELF_EXPLAINING = (
    CommandFailed,
    DeclarationInvalid,
    EmbeddedPostgresError,
    HomeUnusable,
    ImportFileError,
    InvalidSettings,
    ManifestUnusable,
    MigrationsPending,
    NoSlot,
    QueueUnusable,
    Refusal,
    SecretMissing,
    SecretsUnreadable,
    Undecipherable,
)


def failure_of(error: BaseException) -> Failure | None:
    """How to end after an expected error; None for one that nobody expected."""
    match error:
        case Stopped():
            return _failure(128 + error.number, str(error))
        case UnfitForProduction():
            lines = [_failure(FAILED, problem).line for problem in error.problems]
            return Failure(FAILED, "\n".join(lines))
        case BadUserInput():
            return _failure(WRONG_USAGE, error.message)
        case LedgerUnavailable() | LedgerRefused() | StoreUnavailable() | CopyUnusable():
            return _failure(FAILED, _of_stores(error))
        case VaultUnavailable():
            return _failure(
                FAILED,
                f"Vault cannot be used now ({error}): see that it runs and is unsealed and that "
                "VAULT_ADDR is right, or ask `footfall doctor`",
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return _failure(FAILED, f"{error.filename or 'the disk'}: no space left, free some")
        case OSError(filename=str() | bytes()):
            return _failure(FAILED, f"{error.filename!s}: {error.strerror}")
        case Exception() if isinstance(error, _SELF_EXPLAINING):
            return _failure(FAILED, str(error))
    return None


def _of_stores(error: Exception) -> str:
    match error:
        case LedgerUnavailable():
            return (
                f"the database cannot be used now ({error}): see that it runs and that "
                "DATABASE_URL is right, or ask `footfall doctor`"
            )
        case LedgerRefused():
            return f"the database does not take this: {error}"
        case _:
            return f"the columnar copy cannot be used ({error}): run `footfall rebuild`"


def _failure(exit_code: int, message: str) -> Failure:
    return Failure(exit_code, f"footfall: {' '.join(message.split())}")
