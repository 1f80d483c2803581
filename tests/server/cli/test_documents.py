"""`footfall documents`, and keys that are bound to them."""

import json
from hashlib import sha256
from pathlib import Path

from tests.server.cli.commands import Several, rows_of

DAU = 'query Dau { dau(range: { from: "2026-01-01", to: "2026-01-31" }) { __typename } }'
VIEWER = "query Who { viewer { name } }"


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def manifest(folder: Path, content: object) -> str:
    path = folder / "manifest.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


async def ids_in(home: Path) -> list[tuple[str, str | None]]:
    found = await rows_of(home, "select document_id, site_id from trusted_documents order by 1, 2")
    return [(document_id, site_id) for document_id, site_id in found]


async def test_documents_are_added_once_listed_and_taken_away(
    home: Path, several: Several, tmp_path: Path
) -> None:
    apollo = {
        "format": "apollo-persisted-query-manifest",
        "version": 1,
        "operations": [{"id": "m-1", "body": DAU, "name": "FromManifest", "type": "query"}],
    }
    file = manifest(tmp_path, apollo)
    (tmp_path / "who.graphql").write_text(VIEWER)
    added, again, of_site, plain, listed, table = await several(
        home,
        ("documents", "add", file, "--json"),
        ("documents", "add", file),
        ("documents", "add", file, "--site", "shop"),
        ("documents", "add", str(tmp_path / "who.graphql")),
        ("documents", "list", "--json"),
        ("documents", "list"),
    )

    assert added.json == {"file": file, "site_id": None, "added": 1, "known": 0}
    assert again.out == "added 0 documents for all keys\n"
    assert "there already: 1 document of manifest.json" in again.err
    assert of_site.out == "added 1 document for keys of site shop\n"
    assert plain.out == "added 1 document for all keys\n"
    mine = [one for one in listed.json if one["document_id"] in ("m-1", hash_of(VIEWER))]
    assert [(one["document_id"], one["name"], one["site_id"], one["text"]) for one in mine] == [
        ("m-1", "FromManifest", None, DAU),
        (hash_of(VIEWER), "Who", None, VIEWER),
        ("m-1", "FromManifest", "shop", DAU),
    ]
    assert mine[0]["sha256"] == hash_of(DAU)
    [line] = [one for one in table.out.splitlines() if one.startswith("m-1\t") and "shop" in one]
    assert line.split("\t")[1:4] == ["FromManifest", "shop", str(len(DAU))]

    removed, missing, own, last = await several(
        home,
        ("documents", "remove", "m-1", hash_of(VIEWER), "--json"),
        ("documents", "remove", "m-1"),
        ("documents", "remove", "m-1", "m-2", "--site", "shop"),
        ("documents", "remove", "m-1", "--site", "shop"),
    )

    assert removed.json == {"site_id": None, "removed": sorted(["m-1", hash_of(VIEWER)])}
    assert (missing.code, missing.out) == (1, "")
    assert "no document 'm-1' for all keys" in missing.line
    assert "'m-2'" in own.line
    assert (last.code, last.err) == (0, "took away 1 document for keys of site shop\n")
    assert await ids_in(home) == []


async def test_a_file_with_bad_documents_is_refused_as_a_whole_with_a_line_for_each(
    home: Path, several: Several, tmp_path: Path
) -> None:
    bad = {
        "wrong-field": "{ nothing }",
        "good": VIEWER,
        "no-query": "query Half {\n  viewer {",
        "too-deep": "{ viewer " + "{ viewer " * 100 + "{ name }" + "}" * 101,
        "no-operation": "fragment F on Viewer { name }",
        "empty": "",
    }
    before = await ids_in(home)
    [command] = await several(home, ("documents", "add", manifest(tmp_path, bad)))

    assert (command.code, command.out) == (1, "")
    *lines, last = command.err.splitlines()
    said = {line.split(":")[0]: line for line in lines}
    assert list(said) == ["wrong-field", "no-query", "too-deep", "no-operation", "empty"]
    assert "nothing" in said["wrong-field"]
    assert "line 2" in said["no-query"]
    assert last.startswith("footfall: 5 of 6 documents in ")
    assert "none was added" in last
    assert await ids_in(home) == before


async def test_an_id_that_stands_for_another_text_is_refused_with_all_of_its_file(
    home: Path, several: Several, tmp_path: Path
) -> None:
    (tmp_path / "next").mkdir()
    first = manifest(tmp_path, {"taken": DAU})
    second = manifest(tmp_path / "next", {"fresh": VIEWER, "taken": VIEWER})

    added, refused, removed = await several(
        home,
        ("documents", "add", first),
        ("documents", "add", second),
        ("documents", "remove", "taken"),
    )

    assert (added.code, removed.code) == (0, 0)
    assert (refused.code, refused.out) == (1, "")
    assert refused.line.startswith("taken: there already with another text")
    assert "`footfall documents remove`" in refused.line
    assert await ids_in(home) == []


async def test_what_cannot_be_added_says_so_in_one_line(
    home: Path, several: Several, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "who.graphql").write_text(VIEWER)
    nothing, folder, no_manifest, nowhere = await several(
        home,
        ("documents", "add", str(tmp_path / "nothing.json")),
        ("documents", "add", str(tmp_path / "empty")),
        ("documents", "add", manifest(tmp_path, [])),
        ("documents", "add", str(tmp_path / "who.graphql"), "--site", "nowhere"),
    )

    assert [one.code for one in (nothing, folder, no_manifest, nowhere)] == [1, 1, 1, 1]
    assert "nothing.json: No such file" in nothing.line
    assert "no .graphql file" in folder.line
    assert "no manifest" in no_manifest.line
    assert "footfall sites create nowhere" in nowhere.line


async def test_a_key_is_made_for_a_mode_of_documents(home: Path, several: Several) -> None:
    create = ("keys", "create", "--scopes", "read", "--json")
    trusted, usual, wrong, listed, table = await several(
        home,
        (*create, "--documents", "trusted"),
        create,
        (*create, "--documents", "some"),
        ("keys", "list", "--json"),
        ("keys", "list"),
    )

    assert (trusted.json["documents"], usual.json["documents"]) == ("TRUSTED", "APQ")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--documents" in wrong.err
    modes = {one["key_id"]: one["documents"] for one in listed.json}
    assert modes[trusted.json["key_id"]] == "TRUSTED"
    assert modes[usual.json["key_id"]] == "APQ"
    [line] = [one for one in table.out.splitlines() if one.startswith(trusted.json["key_id"])]
    assert line.split("\t")[4] == "trusted"
