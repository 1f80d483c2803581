"""What `footfall doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from server.cli.failures import failure_of


class Status(StrEnum):
    """How a thing is; only a problem keeps the service from its work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `advice` says what to do where it is not as it should be."""

    name: str
    status: Status
    detail: str
    advice: str | None = None


def problem_of(name: str, error: Exception) -> Check:
    """The check that ended with an expected error; any other one is raised again."""
    failure = failure_of(error)
    if failure is None:
        raise error
    return Check(name, Status.PROBLEM, failure.line.removeprefix("footfall: "))
