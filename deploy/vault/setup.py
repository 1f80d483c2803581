#!/usr/bin/env python3
"""Sets up in Vault what Footfall needs; running it again changes nothing that is there already.

    VAULT_ADDR=... VAULT_TOKEN=... python deploy/vault/setup.py --credentials-folder /run/footfall

The token must be one that may mount engines and write policies. It makes the KV store, the transit
key, the policy and the AppRole, and writes `role-id` and `secret-id` into the folder. With
--database-url (how Vault reaches PostgreSQL, with {{username}} and {{password}} in place of both),
--database-username and --database-password-file it also has Vault make the database users.

Then put the service's own keys there: `footfall secrets init`, with the same token.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hvac
from hvac.exceptions import VaultError
from requests.exceptions import RequestException

_POLICY = Path(__file__).with_name("policy.hcl")

# Members of the two roles that the migrations make, and nothing else. They own nothing: the
# service takes one of the two roles on before it does anything.
_CREATE = (
    "create role \"{{name}}\" login password '{{password}}' valid until '{{expiration}}' "
    "in role footfall_writer, replica_user"
)
# Connections that were made as the user go with it.
_REVOKE = (
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{{name}}'",
    'drop role if exists "{{name}}"',
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Set everything up, or leave with 1 and one line."""
    options = _options().parse_args(arguments)
    address, token = os.environ.get("VAULT_ADDR"), os.environ.get("VAULT_TOKEN")
    if not address or not token:
        sys.exit("setup: set VAULT_ADDR, and VAULT_TOKEN to a token that may set Vault up")
    client = hvac.Client(
        url=address,
        token=token,
        namespace=os.environ.get("VAULT_NAMESPACE") or None,
        verify=os.environ.get("VAULT_CACERT") or True,
        timeout=10,
    )
    try:
        _set_up(client, options)
    except (VaultError, RequestException) as error:
        said = ", ".join(getattr(error, "errors", None) or ()) or type(error).__name__
        sys.exit(f"setup: Vault at {address} does not do this: {' '.join(said.split())}")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Set up in Vault what Footfall needs.")
    parser.add_argument("--credentials-folder", type=Path, required=True)
    parser.add_argument("--kv-mount", default="secret")
    parser.add_argument("--secret-path", default="footfall")
    parser.add_argument("--transit-key", default="footfall")
    parser.add_argument("--role", default="footfall", help="name of policy and AppRole")
    parser.add_argument("--token-ttl", default="1h")
    parser.add_argument("--token-max-ttl", default="24h")
    parser.add_argument("--database-url", help="for example postgresql://{{username}}:...")
    parser.add_argument("--database-mount", default="database")
    parser.add_argument("--database-role", default="footfall")
    parser.add_argument("--database-username", default="")
    parser.add_argument("--database-password-file", type=Path)
    parser.add_argument("--database-ttl", default="1h")
    parser.add_argument("--database-max-ttl", default="24h")
    return parser


def _set_up(client: hvac.Client, options: argparse.Namespace) -> None:
    _mount(client, "kv", options.kv_mount, options={"version": "2"})
    _mount(client, "transit", "transit")
    # Derived: each context has a key of its own, so that no text can be read in another's place.
    client.secrets.transit.create_key(
        options.transit_key, derived=True, key_type="aes256-gcm96", exportable=False
    )
    if not client.secrets.transit.read_key(options.transit_key)["data"]["derived"]:
        # Vault leaves a key alone that is there already.
        sys.exit(
            f"setup: there is a transit key {options.transit_key} that is not derived: pass "
            "another name as --transit-key"
        )
    client.sys.create_or_update_acl_policy(options.role, _policy(options))
    if "approle/" not in _listed(client.sys.list_auth_methods()):
        client.sys.enable_auth_method("approle")
    client.auth.approle.create_or_update_approle(
        options.role,
        token_policies=[options.role],
        token_ttl=options.token_ttl,
        token_max_ttl=options.token_max_ttl,
    )
    if options.database_url:
        _set_up_database(client, options)
    _write_credentials(client, options)


def _set_up_database(client: hvac.Client, options: argparse.Namespace) -> None:
    password = options.database_password_file
    _mount(client, "database", options.database_mount)
    client.secrets.database.configure(
        "footfall",
        plugin_name="postgresql-database-plugin",
        allowed_roles=[options.database_role],
        mount_point=options.database_mount,
        connection_url=options.database_url,
        username=options.database_username,
        password=password.read_text(encoding="utf-8").strip() if password else "",
    )
    client.secrets.database.create_role(
        options.database_role,
        db_name="footfall",
        creation_statements=[_CREATE],
        revocation_statements=list(_REVOKE),
        default_ttl=options.database_ttl,
        max_ttl=options.database_max_ttl,
        mount_point=options.database_mount,
    )


def _mount(client: hvac.Client, kind: str, path: str, **more: Any) -> None:
    if f"{path}/" not in _listed(client.sys.list_mounted_secrets_engines()):
        client.sys.enable_secrets_engine(kind, path=path, **more)


def _listed(answer: dict[str, Any]) -> dict[str, Any]:
    data = answer.get("data")
    return data if isinstance(data, dict) else answer


def _policy(options: argparse.Namespace) -> str:
    text = _POLICY.read_text(encoding="utf-8")
    for default, chosen in (
        ('"secret/data/footfall', f'"{options.kv_mount}/data/{options.secret_path}'),
        (
            '/footfall" { capabilities = ["update"] }',
            f'/{options.transit_key}" {{ capabilities = ["update"] }}',
        ),
        ('"transit/keys/footfall"', f'"transit/keys/{options.transit_key}"'),
        ('"database/creds/footfall"', f'"{options.database_mount}/creds/{options.database_role}"'),
    ):
        text = text.replace(default, chosen)
    return text


def _write_credentials(client: hvac.Client, options: argparse.Namespace) -> None:
    folder: Path = options.credentials_folder
    folder.mkdir(parents=True, exist_ok=True)
    role_id = client.auth.approle.read_role_id(options.role)["data"]["role_id"]
    _write(folder / "role-id", role_id)
    if (folder / "secret-id").exists():
        print(f"setup: {folder}/secret-id is there and stays")  # noqa: T201 - a script speaks
        return
    secret_id = client.auth.approle.generate_secret_id(options.role)["data"]["secret_id"]
    _write(folder / "secret-id", secret_id)
    print(  # noqa: T201
        f"setup: done; start Footfall with VAULT_ROLE_ID of {folder}/role-id and "
        f"VAULT_SECRET_ID_FILE={folder}/secret-id"
    )


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
