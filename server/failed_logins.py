"""Keys that are no good, on their way from the door to where they are counted."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from starlette.types import Scope

from resolvers.login_failures import LoginFailures
from server.addresses import client_address
from server.settings import Network


def note_login_failure(scope: Scope, key: str | None, trusted: Sequence[Network]) -> None:
    """Count a key that was no good; to have sent none is no attempt."""
    failures: LoginFailures | None = scope["state"].get("login_failures")
    if key and failures is not None:
        failures.note(client_address(scope, trusted), monotonic())
