"""Settings: defaults, what is refused in one line, and that every one of them is documented."""

from pathlib import Path

import pytest

from server.settings import InvalidSettings, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` and no variables of the developer."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_any_variable_the_service_is_embedded_and_local() -> None:
    settings = load_settings()

    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 8000, "")
    assert settings.home == Path.cwd() / ".footfall"
    assert not settings.is_production


def test_a_dot_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=9000\nHOST=0.0.0.0\n")
    monkeypatch.setenv("PORT", "9001")

    settings = load_settings()

    assert (settings.port, settings.host) == (9001, "0.0.0.0")  # noqa: S104


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.1,::1")
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example,https://b.example/")

    settings = load_settings()

    assert [str(one) for one in settings.trusted_proxies] == [
        "10.0.0.0/8",
        "192.168.1.1/32",
        "::1/128",
    ]
    assert settings.cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("ENVIRONMENT", "staging"),
        ("LOG_LEVEL", "loud"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("CORS_ORIGINS", "example.com"),
        ("DATABASE_URL", "mysql://root@localhost/x"),
        ("DATABASE_URL", "not a url"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidSettings, match=f"^{name} cannot be used: .+$") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_passwords_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hush@db.example/footfall")

    assert "hush" not in repr(load_settings())


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load_settings(), "port", 1)  # noqa: B010 - mypy knows it, too


def test_every_setting_stands_in_the_example_and_in_the_readme_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text()
    readme = (ROOT / "README.md").read_text()

    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "" if default in ("", ()) else getattr(default, "value", str(default))
        shown = shown.lower() if isinstance(default, bool) else shown
        assert f"\n{name.upper()}={shown}\n" in example
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name.upper()}`"))
        assert f"| `{shown}` |" in row if shown else "| empty |" in row
