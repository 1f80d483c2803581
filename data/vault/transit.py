"""The envelope whose keys never leave Vault."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from data.envelope import require_context
from data.secret_errors import Undecipherable
from data.vault.client import VaultClient, VaultRefused, VaultUnavailable

P = ParamSpec("P")
T = TypeVar("T")

_TEXT = re.compile(r"vault:v[1-9][0-9]{0,8}:[A-Za-z0-9+/]+={0,2}")
_ATTEMPTS, _SECONDS = 3, 5
_BAD_REQUEST = 400


class TransitEnvelope:
    """See `Envelope`: by Vault's transit engine, with a key derived for each context."""

    def __init__(self, client: VaultClient) -> None:
        self._client = client

    async def encrypt(self, plaintext: bytes, context: bytes) -> str:
        """See `Envelope`."""
        require_context(context)
        return await _patiently(self._client.encrypt, plaintext, context)

    async def decrypt(self, text: str, context: bytes) -> bytes:
        """See `Envelope`."""
        with _reading(text, context):
            return await _patiently(self._client.decrypt, text, context)

    async def rewrap(self, text: str, context: bytes) -> str:
        """See `Envelope`."""
        with _reading(text, context):
            return await _patiently(self._client.rewrap, text, context)

    async def newest_version(self) -> int:
        """See `Envelope`."""
        return await _patiently(self._client.transit_version)


@contextmanager
def _reading(text: str, context: bytes) -> Iterator[None]:
    require_context(context)
    if not _TEXT.fullmatch(text):
        raise Undecipherable("this is not a text that Vault has written")
    try:
        yield
    except VaultRefused as refused:
        # Vault says 400 of a text that it cannot read, and 403 or 404 of what is set up wrongly.
        if refused.status != _BAD_REQUEST or "key not found" in str(refused):
            raise
        raise Undecipherable("the text was changed, or written for another context") from None


async def _patiently(work: Callable[P, Awaitable[T]], *args: P.args, **named: P.kwargs) -> T:
    """What the work gives, tried again for a moment while Vault is away."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(VaultUnavailable),
        stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(_SECONDS),
        wait=wait_random_exponential(multiplier=0.1, max=1),
        reraise=True,
    )
    return await retrying(work, *args, **named)
