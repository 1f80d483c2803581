"""Settings of Vault: one way to log in, no open line to another machine, nothing shown."""

from pathlib import Path

import pytest

from server.settings import InvalidSettings, Settings, load_settings

HTTPS = {"VAULT_ADDR": "https://vault.example:8200"}
TOKEN = {"VAULT_TOKEN": "hush"}
ROLE = {"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": "hush"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` and no variables of the developer."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def loaded(monkeypatch: pytest.MonkeyPatch, *environments: dict[str, str]) -> Settings:
    for environment in environments:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
    return load_settings()


@pytest.mark.parametrize(
    "login",
    [
        TOKEN,
        {"VAULT_TOKEN_FILE": "/run/token"},
        ROLE,
        {"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID_FILE": "/run/secret-id"},
    ],
)
def test_there_are_four_ways_to_log_in(
    monkeypatch: pytest.MonkeyPatch, login: dict[str, str]
) -> None:
    settings = loaded(monkeypatch, HTTPS, login)

    assert settings.vault_address.url == "https://vault.example:8200"
    assert settings.vault_login.is_app_role == ("VAULT_ROLE_ID" in login)
    for shown in (settings, settings.vault_login):
        assert "hush" not in repr(shown)


@pytest.mark.parametrize(
    "login",
    [
        {},
        TOKEN | {"VAULT_TOKEN_FILE": "/run/token"},
        TOKEN | ROLE,
        {"VAULT_ROLE_ID": "role"},
        {"VAULT_SECRET_ID": "hush"},
        ROLE | {"VAULT_SECRET_ID_FILE": "/run/secret-id"},
    ],
)
def test_none_or_two_ways_to_log_in_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, login: dict[str, str]
) -> None:
    with pytest.raises(
        InvalidSettings, match=r"^VAULT_ADDR cannot be used: it needs one way"
    ) as no:
        loaded(monkeypatch, HTTPS, login)
    assert "\n" not in str(no.value)
    assert "hush" not in str(no.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"])
def test_an_open_line_in_production_may_lead_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    address = {"VAULT_ADDR": f"http://{host}:8200", "ENVIRONMENT": "production"}
    assert loaded(monkeypatch, address, TOKEN).vault_addr


def test_an_open_line_in_development_may_lead_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, {"VAULT_ADDR": "http://vault:8200"}, TOKEN).vault_addr


@pytest.mark.parametrize("host", ["vault.example:8200", "10.0.0.5", "127.0.0.1.example"])
def test_an_open_line_to_another_machine_is_refused_in_production(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    address = {"VAULT_ADDR": f"http://{host}", "ENVIRONMENT": "production"}
    with pytest.raises(InvalidSettings, match=r"^VAULT_ADDR cannot be used: it must be https"):
        loaded(monkeypatch, address, TOKEN)


@pytest.mark.parametrize(
    "setting",
    [
        {"VAULT_ADDR": "vault.example"},
        {"VAULT_ADDR": "ftp://vault.example"},
        {"VAULT_ADDR": "https://"},
        {"VAULT_ADDR": "https://me:hush@vault.example"},
        {"VAULT_ADDR": "https://vault.example/v1"},
        {"VAULT_ADDR": "https://vault.example:many"},
        {"VAULT_SECRET_PATH": "../other"},
        {"VAULT_SECRET_PATH": "/"},
        {"VAULT_KV_MOUNT": "a//b"},
        {"VAULT_CACERT": "/nowhere/ca.pem"},
    ],
)
def test_a_wrong_value_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, setting: dict[str, str]
) -> None:
    [name] = setting
    with pytest.raises(InvalidSettings, match=f"^{name} cannot be used: .+$") as refused:
        loaded(monkeypatch, HTTPS, TOKEN, setting)
    assert "hush" not in str(refused.value)


def test_users_cannot_be_made_in_the_embedded_database(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettings, match="VAULT_DATABASE_ROLE needs a DATABASE_URL"):
        loaded(monkeypatch, HTTPS, TOKEN, {"VAULT_DATABASE_ROLE": "footfall"})
