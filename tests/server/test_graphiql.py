"""GraphiQL: what a browser gets in development, and nobody in production."""

import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
import pytest_asyncio

from server.graphiql import BUILD, EXAMPLES, POLICY, GraphiQL, read_examples
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

PAGE = "http://footfall/graphql"
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ASSETS = sorted(path.name for path in (BUILD / "assets").iterdir())


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    """A browser that talks to the page's app and to nothing else."""
    transport = httpx.ASGITransport(GraphiQL())
    async with httpx.AsyncClient(transport=transport, headers=BROWSER) as client:
        yield client


def named_in(page: str) -> list[str]:
    """The addresses in a page's attributes, without those that hold their content themselves."""
    found = re.findall(r'(?:href|src|data-[a-z-]+)="([^"]+)"', page)
    return [urljoin(PAGE, one) for one in found if not one.startswith("data:")]


async def test_a_browser_gets_the_page_and_a_program_does_not(app: App) -> None:
    by_hand = await app.client.get("/graphql", headers=BROWSER)
    program = await app.client.get("/graphql", headers={"accept": "application/json"})
    question = await app.client.get(
        "/graphql", params={"query": "{ __typename }"}, headers=BROWSER | {"x-api-key": "none"}
    )

    assert by_hand.status_code == 200
    assert by_hand.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Footfall</title>" in by_hand.text
    assert program.headers["content-type"].startswith("application/json")
    assert question.headers["content-type"].startswith("application/")


async def test_in_production_there_is_no_page_and_none_of_its_files(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", environment="production") as app:
        by_hand = await app.client.get("/graphql", headers=BROWSER)
        program = await app.client.get("/graphql", headers={"accept": "*/*"})
        asset = await app.client.get(f"/graphql/assets/{ASSETS[0]}")
        examples = await app.client.get("/graphql/examples.json")

    assert (by_hand.status_code, by_hand.json()) == (program.status_code, program.json())
    assert by_hand.status_code == 401
    assert (asset.status_code, examples.status_code) == (404, 404)


async def test_in_development_the_application_serves_all_that_the_page_asks_for(app: App) -> None:
    page = await app.client.get("/graphql", headers=BROWSER)
    answers = [await app.client.get(address) for address in named_in(page.text)]
    answers.append(await app.client.get("/graphql/examples.json"))

    assert len(answers) >= 7
    assert {answer.status_code for answer in answers} == {200}


async def test_the_page_takes_nothing_from_elsewhere(browser: httpx.AsyncClient) -> None:
    page = (await browser.get(PAGE)).text
    styles = next(name for name in ASSETS if name.endswith(".css"))
    drawn = re.findall(r"url\(\"?([^)\"]+)", (BUILD / "assets" / styles).read_text())

    assert named_in(page)
    assert {address.partition("/graphql")[0] for address in named_in(page)} == {"http://footfall"}
    assert not [address for address in drawn if not address.startswith(("./", "data:"))]


async def test_scripts_are_files_of_ours_and_no_code_stands_in_the_page(
    browser: httpx.AsyncClient,
) -> None:
    answer = await browser.get(PAGE)
    policy = dict(part.split(" ", 1) for part in POLICY.split("; "))
    scripts = re.findall(r"<script([^>]*)>([^<]*)</script>", answer.text)

    assert answer.headers["content-security-policy"] == POLICY
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["worker-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe-eval" not in POLICY
    assert [body for _, body in scripts] == [""]
    assert not re.search(r"\son[a-z]+=", answer.text)


@pytest.mark.parametrize(
    "path", ["/graphql", "/graphql/examples.json", f"/graphql/assets/{ASSETS[0]}"]
)
async def test_every_answer_has_the_headers_that_guard_it(
    browser: httpx.AsyncClient, path: str
) -> None:
    headers = (await browser.get(f"http://footfall{path}")).headers

    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("name", ASSETS)
async def test_an_asset_comes_as_it_was_built_also_as_gzip(
    browser: httpx.AsyncClient, name: str
) -> None:
    built = (BUILD / "assets" / name).read_bytes()
    address = f"http://footfall/graphql/assets/{name}"

    async with browser.stream("GET", address, headers={"accept-encoding": "gzip"}) as zipped:
        packed = b"".join([part async for part in zipped.aiter_raw()])
    plain = await browser.get(address, headers={"accept-encoding": "identity"})

    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == plain.content == built
    assert "content-encoding" not in plain.headers
    assert plain.headers["etag"] != zipped.headers["etag"]
    assert plain.headers["vary"] == "Accept, Accept-Encoding"


async def test_assets_are_kept_for_ever_and_the_page_is_asked_for_again(
    browser: httpx.AsyncClient,
) -> None:
    page = await browser.get(PAGE)
    asset = await browser.get(f"{PAGE}/assets/{ASSETS[0]}")
    again = await browser.get(PAGE, headers={"if-none-match": page.headers["etag"]})

    assert page.headers["cache-control"] == "no-cache"
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == page.headers["etag"]
    assert "content-length" not in again.headers


async def test_the_files_can_be_read_and_nothing_else(browser: httpx.AsyncClient) -> None:
    posted = await browser.post(f"{PAGE}/assets/{ASSETS[0]}")
    head = await browser.head(f"{PAGE}/assets/{ASSETS[0]}")

    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
    assert head.status_code == 200


def test_an_asset_has_its_hash_in_its_name() -> None:
    assert ASSETS
    for name in ASSETS:
        assert re.fullmatch(r"[a-z.]+-[A-Z0-9]{8}\.(js|css|ttf|txt)", name), name


async def test_the_examples_of_the_page_are_the_documents_of_the_folder(
    browser: httpx.AsyncClient,
) -> None:
    told = (await browser.get(f"{PAGE}/examples.json")).json()

    assert {one["name"] for one in told} == {path.stem for path in EXAMPLES.glob("*.graphql")}
    dau = next(one for one in told if one["name"] == "dau")
    assert dau["kind"] == "query"
    assert dau["title"] == "Daily active users"
    assert dau["about"].startswith("A user counts once on each day")
    assert dau["query"] == (EXAMPLES / "dau.graphql").read_text()
    assert dau["variables"] == json.loads((EXAMPLES / "dau.variables.json").read_text())


def test_an_example_is_what_its_file_says(tmp_path: Path) -> None:
    (tmp_path / "bare.graphql").write_text("{ __typename }")
    (tmp_path / "told.graphql").write_text("# Z.\n#\n# One.\n# Two.\nmutation A { b }\n")
    (tmp_path / "told.variables.json").write_text('{"c": 1}')

    bare, told = read_examples(tmp_path)

    assert (bare.kind, bare.title, bare.about, bare.variables) == ("query", "bare", "", None)
    assert (told.kind, told.title, told.about) == ("mutation", "Z", "One. Two.")
    assert told.variables == {"c": 1}


def test_a_service_without_the_folder_has_no_examples(tmp_path: Path) -> None:
    assert read_examples(tmp_path / "nowhere") == []
