"""`Link` headers (RFC 8288): where the next page is.

A link that is not understood would pass for the last page, and all that is behind it for gone.
"""

from __future__ import annotations

import re

_TARGET = re.compile(r"<([^<>]*)>")
# After a target; nothing but a semicolon is one, too.
_PARAMETER = re.compile(
    r'\s*;\s*(?:(?P<name>[^\s=;,"<>]+)(?:\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)?'
)


def next_link(header: str) -> str | None:
    """The target of the first link whose relation is `next`; several headers are joined by commas."""
    place = 0
    while target := _TARGET.search(header, place):
        place = target.end()
        relation: str | None = None
        while parameter := _PARAMETER.match(header, place):
            place = parameter.end()
            # The first one counts.
            if relation is None and (parameter["name"] or "").lower() == "rel":
                relation = (parameter["value"] or "").strip("\"'").lower()
        if "next" in (relation or "").split():
            return target[1].strip()
    return None
