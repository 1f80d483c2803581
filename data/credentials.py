"""Users and passwords by which the service logs in elsewhere; they may change while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import quote, urlsplit

# What a password may belong to.
Target = Literal["database", "replica_database", "redis"]


@dataclass(frozen=True, slots=True)
class Credential:
    """One user and password; an empty user stands for the one that the URL names.

    `is_leased`: it ends, and what was opened by it is to be opened anew before that.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)
    is_leased: bool = False


class Credentials(Protocol):
    """Where to ask what to log in with; it answers from memory."""

    def current(self) -> Credential:
        """What to log in with now."""

    def doubt(self) -> None:
        """Say that a server did not let the current one in, so that it is looked after soon."""


def with_credential(url: str, credential: Credential) -> str:
    """A `scheme://host` address with this user and password in place of its own."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = quote(credential.username, safe="") or parts.netloc.rpartition("@")[0].partition(":")[0]
    password = quote(credential.password, safe="")
    return parts._replace(netloc=f"{user}:{password}@{host}").geturl()
