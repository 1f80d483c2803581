"""Names that people give to things, so that they can be told apart later."""

from __future__ import annotations

from resolvers.errors import BadUserInput


def checked_name(name: str, whose: str) -> str:
    """The name without blanks around it; raises `BadUserInput` for one that cannot be kept."""
    tidy = name.strip()
    # PostgreSQL keeps no text with a NUL in it.
    if not 1 <= len(tidy) <= 200 or "\0" in tidy:
        raise BadUserInput("name", f"a {whose}'s name has 1 to 200 characters, and no NUL")
    return tidy
