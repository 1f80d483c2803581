"""`footfall sites`, `footfall keys`: what they print, and where."""

import json
from pathlib import Path

from data.postgres.keys import hash_secret, split_key
from tests.server.cli.commands import Several, ended, rows_of


async def test_a_site_is_made_once_and_listed(home: Path, several: Several) -> None:
    made, again, listed = await several(
        home,
        (
            *("sites", "create", "blog", "--timezone", "America/Havana", "--week-start", "sunday"),
            *("--origin", "https://a.example", "--origin", "https://b.example:8443", "--json"),
        ),
        ("sites", "create", "blog"),
        ("sites", "list", "--json"),
    )

    assert made.code == 0
    assert {key: made.json[key] for key in ("site_id", "timezone", "week_start", "origins")} == {
        "site_id": "blog",
        "timezone": "America/Havana",
        "week_start": "SUNDAY",
        "origins": ["https://a.example", "https://b.example:8443"],
    }
    assert (again.code, again.out) == (1, "")
    assert "there is a site blog already" in again.line
    assert made.json in listed.json


WRONG_USAGE = {
    ("sites", "create", "Not A Site"): "a site's id has",
    ("sites", "create", "x", "--timezone", "Mars/Olympus"): "'Mars/Olympus'",
    ("sites", "create", "x", "--origin", "nonsense"): "is not an origin",
    ("sites", "create", "x", "--week-start", "someday"): "--week-start",
    ("keys", "create"): "--scopes",
    ("keys", "create", "--scopes", "read,fly"): "--scopes",
    ("keys", "create", "--scopes", "read", "--expires", "soon"): "--expires",
    ("keys", "create", "--scopes", "read", "--expires", "2020-01-01"): "in the past",
    ("import", "file.csv"): "--site",
    ("import", "file.csv", "--site", "shop", "--format", "xml"): "--format",
    ("serve", "--port", "70000"): "--port",
    ("fly",): "fly",
}


async def test_wrong_usage_ends_with_2_before_anything_is_started(
    tmp_path: Path, several: Several
) -> None:
    home = tmp_path / "home"

    commands = await several(home, *WRONG_USAGE)

    for (arguments, says), command in zip(WRONG_USAGE.items(), commands, strict=True):
        assert (arguments, command.code, command.out) == (arguments, 2, "")
        assert says in " ".join(command.err.split())
    assert not home.exists()


async def test_a_key_stands_alone_on_standard_output_and_of_its_secret_only_a_hash_is_kept(
    home: Path,
) -> None:
    made = await ended(home, "keys", "create", "--site", "shop", "--scopes", "ingest,READ")
    assert made.code == 0, made.err
    parts = split_key(made.out.removesuffix("\n"))
    assert parts is not None
    key_id, secret = parts

    [row] = await rows_of(
        home, "select site_id, scopes, secret_hash from api_keys where key_id = $1", key_id
    )

    assert row == ("shop", ["INGEST", "READ"], hash_secret(secret))
    assert secret not in made.err


async def test_a_key_for_all_sites_can_be_listed_and_revoked_once(
    home: Path, several: Several
) -> None:
    create = ("keys", "create", "--scopes", "admin", "--name", "ops", "--expires", "2150-01-31")
    [made] = await several(home, (*create, "--json"))
    key, key_id = made.json["key"], made.json["key_id"]
    # By the whole key, which is what one has at hand, and then by its id.
    revoked, again, listed, table = await several(
        home,
        ("keys", "revoke", key),
        ("keys", "revoke", key_id),
        ("keys", "list", "--json"),
        ("keys", "list"),
    )

    assert (made.json["site_id"], made.json["scopes"]) == (None, ["ADMIN"])
    assert made.json["expires_at"] == "2150-01-31T00:00:00Z"
    assert (revoked.code, revoked.out) == (0, "")
    assert again.code == 1
    assert key_id in again.line
    [entry] = [entry for entry in listed.json if entry["key_id"] == key_id]
    assert (entry["name"], entry["is_valid"]) == ("ops", False)
    assert key not in listed.out
    [line] = [line for line in table.out.splitlines() if line.startswith(key_id)]
    assert line.split("\t")[1:4] == ["ops", "all", "admin"]
    assert "revoked" in line


async def test_a_key_for_an_unknown_site_names_the_command_that_makes_the_site(
    home: Path, several: Several
) -> None:
    [command] = await several(home, ("keys", "create", "--site", "nowhere", "--scopes", "read"))

    assert (command.code, command.out) == (1, "")
    assert "footfall sites create nowhere" in command.line


async def test_the_admin_key_is_that_of_the_secrets_file(home: Path, several: Several) -> None:
    [command] = await several(home, ("keys", "admin"))

    secrets = json.loads((home / "secrets.json").read_text())
    assert (command.code, command.out) == (0, f"{secrets['admin_key']}\n")
