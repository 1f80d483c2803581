"""What `footfall doctor --verify-log` finds: whether the admin log is what it was."""

from __future__ import annotations

from dataclasses import dataclass

from data.admin_log import NOTHING, Break, Head
from data.admin_log_head import FILE_NAME, read_head
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
            finding = await _finding(ledger, settings)
    except Exception as error:  # noqa: BLE001 - raised again unless it is an expected one
        return problem_of(_NAME, error), None
    return _check(finding), finding


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


def _check(finding: LogFinding) -> Check:
    if finding.broken is not None:
        return Check(_NAME, Status.PROBLEM, str(finding.broken), _BROKEN)
    if not finding.entries:
        return Check(_NAME, Status.OK, "no entries yet")
    counted = "1 entry" if finding.entries == 1 else f"{finding.entries:,} entries"
    words = f"{counted}, chain whole, newest hash {finding.newest.hash}"
    if finding.kept is None:
        words += "; nothing was kept here that would tell if its end were cut off"
        return Check(_NAME, Status.WARNING, words, _KEEP)
    return Check(_NAME, Status.OK, words)
