"""What may go wrong with a request to somebody else, in words for people."""

from __future__ import annotations


class OutboundFailed(Exception):
    """No answer that is of use. The message names hosts, never whole URLs, which may hold secrets.

    `may_pass`: the same request may succeed a little later.
    """

    def __init__(self, message: str, *, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass
