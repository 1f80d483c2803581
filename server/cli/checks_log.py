"""What `footfall doctor --verify-log` finds: whether the admin log is what it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from data.admin_log import NOTHING, Break, Head
from data.admin_log_head import FILE_NAME, read_head, set_aside
from data.postgres.admin_log import newest_head, prove, prove_head
from data.postgres.engine import transaction
from data.postgres.ledger import Ledger
from server.cli.checks import Check, Status, problem_of
from server.cli.session import opened_ledger
from server.cli.terminal import progress
from server.settings import Settings

_NAME = "admin log"
_BROKEN = (
    "somebody went around the service: compare the table admin_log with a backup; "
    "docs/operations/admin-log.md says what else it can be"
)
_LOOK = (
    f"compare the table admin_log with a backup, note its newest hash, then delete what is left of "
    f"{FILE_NAME}; docs/operations/admin-log.md says more"
)
_KEEP = f"start the service on this machine: it keeps the log's end in {FILE_NAME}"


@dataclass(frozen=True, slots=True)
class LogFinding:
    """How the log is. `kept` is the end that this machine has seen earlier, None for none."""

    entries: int
    newest: Head
    kept: Head | None
    broken: Break | None

    @property
    def is_whole(self) -> bool:
        """Whether nothing speaks against it."""
        return self.broken is None


async def log_checks(settings: Settings) -> tuple[Check, LogFinding | None]:
    """The log, walked from its beginning and compared with the end that was kept."""
    try:
        async with opened_ledger(settings) as ledger:
            trouble = _trouble(settings.home / FILE_NAME)
            finding = await _finding(ledger, settings)
    except Exception as error:  # noqa: BLE001 - raised again unless it is an expected one
        return problem_of(_NAME, error), None
    return _check(finding, trouble), finding


def _trouble(file: Path) -> str | None:
    """What is wrong with the file that keeps the log's end."""
    try:
        read_head(file, UUID(int=0))
    except (OSError, ValueError) as error:
        return str(error)
    aside = set_aside(file)
    return f"{aside[0]} was damaged and put aside" if aside else None


async def _finding(ledger: Ledger, settings: Settings) -> LogFinding:
    # Before the walk: what is kept meanwhile may be newer than what was walked.
    try:
        kept = read_head(settings.home / FILE_NAME, ledger.ledger_id)
    except (OSError, ValueError):
        kept = None
    async with transaction(ledger.writer) as connection:
        total = (await newest_head(connection)).position
    with progress("Verifying the admin log") as advance:
        proof = await prove(
            ledger.writer,
            progress=lambda done: advance(done, max(done, total), f"{done:,} entries"),
        )
    broken = proof.broken or await prove_head(ledger.writer, kept or NOTHING)
    return LogFinding(proof.entries, proof.newest, kept, broken)


def _check(finding: LogFinding, trouble: str | None) -> Check:
    if finding.broken is not None:
        return Check(_NAME, Status.PROBLEM, str(finding.broken), _BROKEN)
    if trouble is not None:
        words = f"its chain is whole, but nothing tells whether its end was cut off: {trouble}"
        return Check(_NAME, Status.PROBLEM, words, _LOOK)
    if not finding.entries:
        return Check(_NAME, Status.OK, "no entries yet")
    counted = "1 entry" if finding.entries == 1 else f"{finding.entries:,} entries"
    words = f"{counted}, chain whole, newest hash {finding.newest.hash}"
    if finding.kept is None:
        words += "; nothing was kept here that would tell if its end were cut off"
        return Check(_NAME, Status.WARNING, words, _KEEP)
    return Check(_NAME, Status.OK, words)
