"""The library as it is anywhere: without a word from the environment or from files of this machine.

It would look for credentials in variables, in a home folder and at the cloud's metadata service,
and send a client's data by whatever it finds.
"""

from __future__ import annotations

import os
from typing import Any

import botocore.session
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials


def plain_session(credentials: Credentials | None = None) -> botocore.session.Session:
    """A session with these credentials and no others."""
    session = botocore.session.Session(session_vars=_nothing_of_this_machine())
    resolver = CredentialResolver([_Given(credentials)])
    session.register_component("credential_provider", resolver)
    return session


def _nothing_of_this_machine() -> dict[str, Any]:
    """The library's variables, read neither from the environment nor from files."""
    known = dict(botocore.session.Session.SESSION_VARIABLES)
    variables: dict[str, Any] = {
        name: (None, None, default, convert) for name, (_, _, default, convert) in known.items()
    }
    for name in ("config_file", "credentials_file"):
        variables[name] = (None, None, os.devnull, None)
    return variables


class _Given(CredentialProvider):
    """The one provider there is."""

    METHOD = "given"

    def __init__(self, credentials: Credentials | None) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials | None:
        """The credentials that were given."""
        return self._credentials
