#!/usr/bin/env python3
"""Leaves with 0 if an address answers 200 within a few seconds, else with 1 and what it said."""

from __future__ import annotations

import sys
from urllib.error import URLError
from urllib.request import urlopen


def main() -> None:
    """Ask the address that is the only argument."""
    try:
        with urlopen(sys.argv[1], timeout=4) as answer:  # noqa: S310 - an address of compose's
            answer.read()
    except (URLError, OSError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
