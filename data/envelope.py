"""Encryption of what the service keeps for others: small texts such as a client's bucket key.

A `context` says what a text belongs to (`b"destination:42"`), and is needed again to read it: a text
that was moved to another record cannot be read there. It is no secret, and must not be empty.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from data.master_keys import MasterKeys, add_master_key, read_master_keys
from data.secret_errors import Undecipherable

_TEXT = re.compile(r"local:v([1-9][0-9]{0,8})\.([0-9a-f]{8}):([A-Za-z0-9_-]+)")
_NONCE, _TAG, _KEY = 12, 16, 32
_WRAPPED = _NONCE + _KEY + _TAG


class Envelope(Protocol):
    """Encrypts and decrypts. All of it raises `SecretsUnavailable` while its keys cannot be had."""

    async def encrypt(self, plaintext: bytes, context: bytes) -> str:
        """A printable text that can be kept in the open; it names the version of its key."""

    async def decrypt(self, text: str, context: bytes) -> bytes:
        """What was encrypted; raises `Undecipherable`."""

    async def rewrap(self, text: str, context: bytes) -> str:
        """The same under the newest key, so that older ones may go; raises `Undecipherable`."""

    async def newest_version(self) -> int:
        """The version of the key that `encrypt` uses."""


def key_version(text: str) -> int:
    """The version of the key that a text needs; raises `Undecipherable`."""
    found = re.match(r"(?:local|vault):v([1-9][0-9]{0,8})[.:]", text)
    if found is None:
        raise Undecipherable("this is not a text that an envelope has written")
    return int(found[1])


def require_context(context: bytes) -> bytes:
    """The context; raises ValueError where it is empty."""
    if not context:
        raise ValueError("a context says what a text belongs to, and must not be empty")
    return context


class LocalEnvelope:
    """By master keys in a file: each text has a key of its own, which the newest of them wraps.

    AES-256-GCM with random nonces throughout. The file is read for every use: it is small, uses are
    rare, and a rotation by another process holds at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def encrypt(self, plaintext: bytes, context: bytes) -> str:
        """See `Envelope`."""
        keys = await asyncio.to_thread(add_master_key, self._path, only_first=True)
        return sealed(keys, plaintext, context)

    async def decrypt(self, text: str, context: bytes) -> bytes:
        """See `Envelope`."""
        keys = await asyncio.to_thread(read_master_keys, self._path)
        return opened(keys, text, context)

    async def rewrap(self, text: str, context: bytes) -> str:
        """See `Envelope`."""
        keys = await asyncio.to_thread(read_master_keys, self._path)
        return rewrapped(keys, text, context)

    async def newest_version(self) -> int:
        """See `Envelope`; 0 before the first text."""
        return (await asyncio.to_thread(read_master_keys, self._path)).newest


def sealed(keys: MasterKeys, plaintext: bytes, context: bytes) -> str:
    """A text under the newest of these keys."""
    data_key = os.urandom(_KEY)
    return _text(
        keys.tag(keys.newest),
        _wrap(keys, data_key, context),
        _encrypt(data_key, plaintext, _bound(b"text", context)),
    )


def opened(keys: MasterKeys, text: str, context: bytes) -> bytes:
    """What a text holds; raises `Undecipherable`."""
    tag, wrapped, body = _parts(text)
    data_key = _unwrap(keys, tag, wrapped, context)
    return _decrypt(data_key, body, _bound(b"text", context))


def rewrapped(keys: MasterKeys, text: str, context: bytes) -> str:
    """The same text with its own key wrapped by the newest of these; raises `Undecipherable`."""
    tag, wrapped, body = _parts(text)
    data_key = _unwrap(keys, tag, wrapped, context)
    # So that damage is noticed while the old text is still there.
    _decrypt(data_key, body, _bound(b"text", context))
    return _text(keys.tag(keys.newest), _wrap(keys, data_key, context), body)


def _bound(purpose: bytes, context: bytes) -> bytes:
    """What a ciphertext is bound to, so that none can stand in for one of another purpose."""
    return b"footfall:" + purpose + b":" + require_context(context)


def _wrap(keys: MasterKeys, data_key: bytes, context: bytes) -> bytes:
    purpose = b"key:%d" % keys.newest
    return _encrypt(keys.of(keys.newest), data_key, _bound(purpose, context))


def _unwrap(keys: MasterKeys, tag: str, wrapped: bytes, context: bytes) -> bytes:
    version = key_version(f"local:{tag}:")
    if not keys.has(version):
        raise Undecipherable(f"version {version} of the master key is not in the file any more")
    if keys.tag(version) != tag:
        raise Undecipherable(
            f"another version {version} of the master key wrote it: put the master-keys.json of "
            "that time back"
        )
    return _decrypt(keys.of(version), wrapped, _bound(b"key:%d" % version, context))


def _encrypt(key: bytes, plaintext: bytes, bound_to: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, bound_to)


def _decrypt(key: bytes, ciphertext: bytes, bound_to: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(ciphertext[:_NONCE], ciphertext[_NONCE:], bound_to)
    except InvalidTag:
        raise Undecipherable("the text was changed, or written for another context") from None


def _text(tag: str, wrapped: bytes, body: bytes) -> str:
    packed = base64.urlsafe_b64encode(wrapped + body).rstrip(b"=").decode()
    return f"local:{tag}:{packed}"


def _parts(text: str) -> tuple[str, bytes, bytes]:
    """Tag of the master key, wrapped key and body of a text."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise Undecipherable("this is not a text that a local envelope has written")
    tag, packed = f"v{found[1]}.{found[2]}", found[3]
    try:
        raw = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    except binascii.Error:
        raise Undecipherable("the text is damaged") from None
    # The last character may carry bits that decoding ignores: only one way of writing is taken.
    if len(raw) < _WRAPPED + _NONCE + _TAG or not _text(tag, raw, b"").endswith(f":{packed}"):
        raise Undecipherable("the text is damaged")
    return tag, raw[:_WRAPPED], raw[_WRAPPED:]
