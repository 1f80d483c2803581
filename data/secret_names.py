"""What a secret may be called that operators set and sources name in their headers."""

from __future__ import annotations

import re

from data.secret_errors import SecretMissing

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def check_name(name: str) -> str:
    """The name; raises `SecretMissing` where no secret can have it."""
    if not _NAME.fullmatch(name):
        raise SecretMissing(
            "a secret's name begins with a letter and has up to 64 letters, digits, _, . and -"
        )
    return name
