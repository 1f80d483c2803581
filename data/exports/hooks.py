"""Tokens of `POST /hooks/export/TOKEN`: made here, shown once, and kept as their hash."""

from __future__ import annotations

import secrets
from hashlib import sha256

PREFIX = "ffx_"
_BYTES = 32


def new_hook_token() -> str:
    """A token that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def hook_hash(token: str) -> bytes:
    """What is kept of a token, and looked up by: which tells nobody how near a guess was."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
