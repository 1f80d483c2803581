"""What does not start where ENVIRONMENT=production, and what it is told."""

from pathlib import Path
from typing import Any

import pytest

from server.production import UnfitForProduction, require_fit, require_fit_urls
from server.settings import Settings
from tests.fixtures.certificates import Authority
from tests.fixtures.vault import VaultServer
from tests.server.cli.commands import ended

GOOD = "postgresql://footfall:k3-Xw9_vQ7@db.internal:5432/footfall"
DEVELOPMENT_VAULT = {"vault_addr": "http://127.0.0.1:8200"}


def problems(home: Path, **settings: Any) -> list[str]:
    chosen = {"environment": "production", "footfall_home": home, **settings}
    try:
        require_fit(Settings(_env_file=None, **chosen))
    except UnfitForProduction as unfit:
        return unfit.problems
    return []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"database_url": GOOD, "replica_database_url": GOOD},
        {"database_url": "postgresql://footfall@/footfall?host=/var/run/postgresql"},
        {"database_url": "postgresql:///footfall"},
        {"database_url": "postgresql://footfall@db/footfall?passfile=/run/secrets/pgpass"},
        {"redis_url": "redis://127.0.0.1:6379/0"},
        {"redis_url": "redis://localhost/0"},
        {"redis_url": "redis://[::1]/0"},
        {"redis_url": "unix:///run/redis.sock"},
        {"redis_url": "rediss://:k3-Xw9_vQ7@cache.internal/0"},
        {"cors_origins": "https://dash.example"},
        {"vault_addr": "http://127.0.0.1:8200", "vault_token": "hvs.CAESIJ7k3Xw9vQ7"},
    ],
)
def test_what_is_nobodys_guess_starts(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert problems(tmp_path, **settings) == []


def test_a_certificate_does_instead_of_a_password(tmp_path: Path) -> None:
    own = Authority(tmp_path / "ca").certificate_for("footfall")
    url = f"postgresql://footfall@db/footfall?sslcert={own.certificate}&sslkey={own.key}"

    assert problems(tmp_path, database_url=url) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"database_url": "postgresql://footfall@db/footfall"}, "DATABASE_URL names no password"),
        ({"database_url": "postgresql://footfall@127.0.0.1/x"}, "DATABASE_URL names no password"),
        ({"database_url": "postgresql://u@/x?host=db.internal"}, "DATABASE_URL names no password"),
        ({"database_url": "postgresql://u:postgres@db/x"}, "DATABASE_URL has a password that"),
        ({"database_url": "postgresql://u:ChangeMe@db/x"}, "DATABASE_URL has a password that"),
        ({"database_url": "postgresql://u:change-me@db/x"}, "DATABASE_URL has a password that"),
        ({"database_url": "postgresql://u:Footfall@db/x"}, "DATABASE_URL has a password that"),
        ({"database_url": "postgresql://stats:stats@db/x"}, "DATABASE_URL has a password that"),
        ({"database_url": "postgresql://u:stats@db/stats"}, "DATABASE_URL has a password that"),
        ({"database_url": "postgresql://u:p%61ssword@db/x"}, "DATABASE_URL has a password that"),
        (
            {"database_url": GOOD, "replica_database_url": "postgresql://u:secret@db/x"},
            "REPLICA_DATABASE_URL has a password that",
        ),
        ({"redis_url": "redis://cache:6379/0"}, "REDIS_URL names no password"),
        ({"redis_url": "redis://footfall@cache:6379/0"}, "REDIS_URL names no password"),
        ({"redis_url": "redis://:foobared@cache:6379/0"}, "REDIS_URL has a password that"),
        ({"redis_url": "redis://:p%61ssword@cache:6379/0"}, "REDIS_URL has a password that"),
        ({"cors_origins": "https://a.example,*"}, "CORS_ORIGINS lets every page"),
        (DEVELOPMENT_VAULT | {"vault_token": "root"}, "VAULT_TOKEN is one that"),
        (DEVELOPMENT_VAULT | {"vault_token": "dev-only-token"}, "VAULT_TOKEN is one that"),
    ],
)
def test_what_others_know_does_not(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    found = problems(tmp_path, **settings)

    assert len(found) == 1
    assert found[0].startswith(words)
    assert "\n" not in found[0]


@pytest.mark.parametrize("note", ["demo.json", "demo-key"])
def test_the_folder_of_a_demo_is_refused(tmp_path: Path, note: str) -> None:
    (tmp_path / note).write_text("{}")

    (found,) = problems(tmp_path)
    assert found.startswith("FOOTFALL_HOME is the folder of a `footfall demo`")


def test_in_development_all_of_it_starts(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text("{}")
    known: dict[str, Any] = {
        "database_url": "postgresql://postgres:postgres@db/postgres",
        "redis_url": "redis://cache",
        "cors_origins": "*",
    }

    assert problems(tmp_path, environment="development", **known) == []
    assert len(problems(tmp_path, **known)) == 4


async def test_the_command_says_everything_at_once_and_no_password(tmp_path: Path) -> None:
    home = tmp_path / "home"
    lines = [
        "ENVIRONMENT=production",
        "DATABASE_URL=postgresql://stats:Sup3r-changeme@127.0.0.1:1/x",
        "REPLICA_DATABASE_URL=postgresql://stats:letmein@127.0.0.1:1/x",
        "REDIS_URL=redis://cache.internal/0",
        "CORS_ORIGINS=*",
    ]
    (tmp_path / ".env").write_text("\n".join(lines))

    served, demo = await ended(home, "serve", "--port", "0"), await ended(home, "demo")

    for one in (served, demo):
        assert one.code == 1
        told = one.err.splitlines()
        assert [line.split()[:2] for line in told] == [
            ["footfall:", "REPLICA_DATABASE_URL"],
            ["footfall:", "REDIS_URL"],
            ["footfall:", "CORS_ORIGINS"],
        ]
        assert "letmein" not in one.err
    assert not home.exists()


async def test_the_demo_is_for_development(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENVIRONMENT=production\n")

    demo = await ended(tmp_path / "home", "demo", "--no-serve")

    assert demo.code == 1
    assert demo.line.startswith("the demo prints its keys and is for development")
    assert not (tmp_path / "home").exists()


def with_vault(home: Path, **more: str) -> Settings:
    chosen: dict[str, Any] = {
        "database_url": "postgresql://db.internal/footfall",
        "redis_url": "redis://cache.internal:6379/0",
        "vault_addr": "https://vault.internal:8200",
        "vault_token": "s.token",
        **more,
    }
    return Settings(_env_file=None, environment="production", footfall_home=home, **chosen)


def test_passwords_may_be_left_to_vault_until_it_was_asked(tmp_path: Path) -> None:
    require_fit(with_vault(tmp_path))

    with pytest.raises(UnfitForProduction) as unfit:
        require_fit_urls(with_vault(tmp_path))
    assert [problem.split(":")[0] for problem in unfit.value.problems] == [
        "with what Vault has, DATABASE_URL names no password",
        "with what Vault has, REDIS_URL names no password",
    ]


def test_users_that_vault_makes_need_no_password_in_the_url(tmp_path: Path) -> None:
    redis_url = "rediss://:k3-Xw9_vQ7@cache.internal/0"
    require_fit_urls(with_vault(tmp_path, vault_database_role="footfall", redis_url=redis_url))


async def test_a_password_that_everybody_knows_is_refused_when_it_comes_from_vault_too(
    vault_server: VaultServer, tmp_path: Path
) -> None:
    kv = vault_server.root.secrets.kv.v2
    kept = kv.read_secret_version("footfall", raise_on_deleted_version=True)["data"]["data"]
    kv.create_or_update_secret("footfall", {**kept, "database_password": "postgres"})
    settings = vault_server.environment(
        ENVIRONMENT="production",
        DATABASE_URL="postgresql://stats@127.0.0.1:1/x",
        REDIS_URL="redis://127.0.0.1:1/0",
    )
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    for command in (["serve", "--port", "0"], ["worker"], ["doctor"]):
        done = await ended(tmp_path / "home", *command)

        said = done.out + done.err
        assert done.code == 1
        assert "with what Vault has, DATABASE_URL has a password that everybody knows" in said
        assert command == ["doctor"] or done.err.count("\n") == 1
