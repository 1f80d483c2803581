"""The file of sources: what it declares, and one line for what is wrong with it."""

from pathlib import Path

import pytest

from data.sources.declared import DeclarationInvalid, field_in_file, read_declared
from data.sources.source import Format, Header, Paging, PagingKind, Source

FILE = """
[[sources]]
key = "prices"
url = "https://prices.example/v1"
site_id = "shop"
refresh_seconds = 300
records_at = "/items"
id_field = "sku"
headers = [{ name = "Authorization", value = "Bearer {}", secret = "prices-token" }]
paging = { kind = "CURSOR", next_at = "/next", parameter = "cursor" }

[[sources]]
key = "incidents"
url = "https://status.example/incidents.ndjson"
format = "NDJSON"
cron = "*/5 * * * *"
timeout_seconds = 5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "sources.toml"


def test_each_table_is_a_source(path: Path) -> None:
    path.write_text(FILE)

    assert read_declared(path) == [
        Source(
            key="prices",
            url="https://prices.example/v1",
            site_id="shop",
            refresh_seconds=300,
            records_at="/items",
            id_field="sku",
            headers=(Header("Authorization", "Bearer {}", "prices-token"),),
            paging=Paging(PagingKind.CURSOR, "/next", "cursor"),
        ),
        Source(
            key="incidents",
            url="https://status.example/incidents.ndjson",
            format=Format.NDJSON,
            cron="*/5 * * * *",
            timeout_seconds=5,
        ),
    ]


def test_an_empty_file_declares_nothing(path: Path) -> None:
    path.write_text("")

    assert read_declared(path) == []


GOOD = '[[sources]]\nkey = "p"\nurl = "https://p.example/"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[sources", "is not TOML"),
        ('sources = "prices"', "a source is a table"),
        ("[source]\nx = 1", "unknown: source"),
        ("sources = [1]", "source 'number 1': source: "),
        ('[[sources]]\nkey = "p"', "source 'p': url: it is missing"),
        ('[[sources]]\nurl = "https://p.example/"', "source 'number 1': key: it is missing"),
        (f"{GOOD}refresh_secs = 5", "source 'p': refresh_secs: there is no such field"),
        (f"{GOOD}refreshSeconds = 5", "source 'p': refreshSeconds: there is no such field"),
        (f'{GOOD}refresh_seconds = "5"', "source 'p': refresh_seconds: expected `int`"),
        (f"{GOOD}refresh_seconds = 0", "source 'p': refresh_seconds: it must be from 1"),
        (f'{GOOD}method = "PUT"', "source 'p': method: invalid enum value"),
        (f'{GOOD}records_at = "items"', "source 'p': records_at: 'items' is not a JSON Pointer"),
        (f'{GOOD}paging = {{ kind = "CURSOR" }}', "source 'p': paging.next_at: "),
        (f'{GOOD}paging = {{ kind = "X" }}', "source 'p': paging.kind: invalid enum value"),
        (f'{GOOD}headers = [{{ nme = "X" }}]', "source 'p': headers[0].nme: there is no such"),
        (f'{GOOD}headers = [{{ name = "Cookie", value = "a" }}]', "source 'p': headers: Cookie"),
        (f"{GOOD}{GOOD}", "source 'p': key: another source"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_that_names_file_source_and_field(
    path: Path, text: str, problem: str
) -> None:
    path.write_text(text)

    with pytest.raises(DeclarationInvalid) as refused:
        read_declared(path)

    message = str(refused.value)
    assert message.startswith(f"SOURCES_FILE {path}")
    assert problem in message
    assert "\n" not in message


def test_a_file_that_is_not_there_or_not_text_is_refused(path: Path) -> None:
    with pytest.raises(DeclarationInvalid, match="cannot be read"):
        read_declared(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DeclarationInvalid, match="is not TOML"):
        read_declared(path)


def test_fields_have_the_names_of_the_file() -> None:
    assert field_in_file("paging.nextAt") == "paging.next_at"
    assert field_in_file("key") == "key"


def test_the_file_in_the_documentation_can_be_used(path: Path) -> None:
    documentation = (Path(__file__).resolve().parents[3] / "docs" / "sources.md").read_text()
    path.write_text(documentation.split("```toml\n")[1].split("```")[0])

    assert [source.key for source in read_declared(path)] == ["prices", "incidents", "ad-spend"]
