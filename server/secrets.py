"""Where the secrets are, by the settings: in files of the home folder, or in Vault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import get_args

from data.credentials import Target, with_credential
from data.local_secrets import LocalSecrets
from data.secrets import Secrets
from data.vault.vault import open_vault
from server.settings import Settings
from telemetry.vault_metrics import VaultMetrics


@asynccontextmanager
async def open_secrets(
    settings: Settings, clock: Callable[[], datetime], metrics: VaultMetrics
) -> AsyncIterator[tuple[Settings, Secrets]]:
    """The secrets, and the settings with what they say of users and passwords in their URLs.

    Raises `SecretsUnreadable`, and `VaultUnavailable` where Vault is set and away.
    """
    if not settings.vault_addr:
        yield settings, LocalSecrets(settings.home)
        return
    opening = open_vault(settings.vault_address, settings.vault_login, clock, metrics)
    async with opening as vault:
        yield _with_credentials(settings, vault), vault


def _with_credentials(settings: Settings, secrets: Secrets) -> Settings:
    changed: dict[str, str] = {}
    targets: tuple[Target, ...] = get_args(Target)
    for target in targets:
        url = getattr(settings, f"{target}_url")
        credentials = secrets.credentials(target)
        if url and credentials is not None:
            changed[f"{target}_url"] = with_credential(url, credentials.current())
    return settings.model_copy(update=changed)
