#!/usr/bin/env python3
"""Initialises a new Vault and unseals it, with one key that it keeps in a folder.

    VAULT_ADDR=... python deploy/vault/unseal.py --keys-folder /run/vault-keys

For trying things out: who has the folder has all that Vault keeps. In production the keys belong to
several people, or to the key service of a cloud (`seal` in Vault's configuration).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hvac
from hvac.exceptions import VaultError
from requests.exceptions import RequestException

_PATIENCE_SECONDS = 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Unseal it, or leave with 1 and one line."""
    parser = argparse.ArgumentParser(description="Initialise a new Vault and unseal it.")
    parser.add_argument("--keys-folder", type=Path, required=True)
    folder: Path = parser.parse_args(arguments).keys_folder
    address = os.environ.get("VAULT_ADDR")
    if not address:
        sys.exit("unseal: set VAULT_ADDR")
    verify = os.environ.get("VAULT_CACERT") or True
    client = hvac.Client(url=address, timeout=10, verify=verify)
    try:
        _wait_for(client)
        _unseal(client, folder)
    except (VaultError, RequestException) as error:
        sys.exit(f"unseal: Vault at {address} does not do this: {type(error).__name__}")


def _wait_for(client: hvac.Client) -> None:
    """Return when it answers; raises what the last try did."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            client.sys.read_seal_status()
            return
        except (VaultError, RequestException):
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def _unseal(client: hvac.Client, folder: Path) -> None:
    if not client.sys.is_initialized():
        made = client.sys.initialize(secret_shares=1, secret_threshold=1)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "unseal-key", made["keys"][0])
        _write(folder / "root-token", made["root_token"])
    if client.sys.is_sealed():
        key = folder / "unseal-key"
        if not key.exists():
            sys.exit(f"unseal: Vault is sealed, and its key is not in {folder}: unseal it by hand")
        client.sys.submit_unseal_key(key.read_text(encoding="ascii").strip())


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
