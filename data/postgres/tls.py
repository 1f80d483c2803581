"""TLS to PostgreSQL as a URL asks for it, in the words of libpq.

`sslmode`: `disable`; `prefer` (as where nothing is said) or `allow`, which settle for no TLS;
`require`, TLS with whoever answers; `verify-ca`, with a server that a known authority vouches for;
`verify-full`, with the one of that name. The authorities are those of the file `sslrootcert`, or of
the system where it is left out or `system`. Who names them without a mode wants `verify-full`, and
`require` checks the authority then, as libpq's does. `sslcert` and `sslkey` are the client's own;
who names them without a mode wants `verify-full` as well.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFIED = ("verify-ca", "verify-full")
_OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_SYSTEM = "system"


def with_tls(url: URL) -> tuple[URL, dict[str, Any]]:
    """The URL without its options about TLS, and what the driver is told in their place.

    Raises ValueError, with what is wrong, where they cannot be followed.
    """
    options = {name: value for name in _OPTIONS if (value := _only(url, name))}
    if not options:
        return url, {}
    roots, own = options.get("sslrootcert"), options.get("sslcert")
    mode = options.get("sslmode") or ("verify-full" if roots or own else "prefer")
    if mode not in _MODES:
        raise ValueError(f"its sslmode must be one of {', '.join(_MODES)}")
    if options.get("sslkey") and not own:
        raise ValueError("its sslkey belongs to a sslcert, which it does not name")
    bare = url.difference_update_query(_OPTIONS)
    if mode in ("disable", "allow", "prefer"):
        if own:
            raise ValueError(f"its sslcert needs TLS: sslmode={mode} may do without")
        return bare, {"ssl": mode}
    return bare, {"ssl": _context(mode, roots, own, options.get("sslkey"))}


def _only(url: URL, name: str) -> str | None:
    value = url.query.get(name)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"it says {name} twice")


def _context(
    mode: str, roots: str | None, certificate: str | None, key: str | None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if roots or mode in _VERIFIED else ssl.CERT_NONE
    if roots and roots != _SYSTEM:
        _load("sslrootcert", roots, lambda: context.load_verify_locations(cafile=roots))
    elif context.verify_mode is ssl.CERT_REQUIRED:
        context.load_default_certs()
    if certificate:
        _load("sslcert", certificate, lambda: context.load_cert_chain(certificate, keyfile=key))
    return context


def _load(option: str, path: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError:
        raise ValueError(f"its {option} {path} is no PEM file that fits") from None
    except OSError as error:
        raise ValueError(f"its {option} {path} cannot be read: {error.strerror}") from None
