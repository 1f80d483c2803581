"""Manifests of trusted documents, as client tools write them."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from data.manifests import ListedDocument, ManifestUnusable, read_manifest

DAU = "query Dau { __typename }"
TOP = "query Top { __typename }"


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def manifest(folder: Path, content: object) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def apollo(*operations: object, **fields: object) -> dict[str, object]:
    known = {"format": "apollo-persisted-query-manifest", "version": 1}
    return {**known, "operations": list(operations), **fields}


def test_codegen_and_relay_map_ids_to_texts(tmp_path: Path) -> None:
    path = manifest(tmp_path, {hash_of(DAU): DAU, "0cc175b9c0f1b6a831c399e269772661": TOP})

    assert read_manifest(path) == [
        ListedDocument(hash_of(DAU), DAU),
        ListedDocument("0cc175b9c0f1b6a831c399e269772661", TOP),
    ]


def test_an_id_of_its_own_may_be_called_format(tmp_path: Path) -> None:
    assert read_manifest(manifest(tmp_path, {"format": DAU})) == [ListedDocument("format", DAU)]


def test_apollo_lists_operations_with_their_names(tmp_path: Path) -> None:
    operation = {"id": hash_of(DAU), "body": DAU, "name": "Dau", "type": "query"}
    path = manifest(tmp_path, apollo(operation))

    assert read_manifest(path) == [ListedDocument(hash_of(DAU), DAU, "Dau")]


def test_a_graphql_file_is_a_document_under_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "dau.graphql"
    path.write_bytes(DAU.encode() + b"\r\n")

    assert read_manifest(path) == [ListedDocument(hash_of(DAU + "\r\n"), DAU + "\r\n")]


def test_a_folder_is_all_its_graphql_files_each_text_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name, text in (("b.graphql", TOP), ("deep/a.gql", DAU), ("c.graphql", TOP), ("d.md", "#")):
        (tmp_path / name).write_text(text)

    assert [one.text for one in read_manifest(tmp_path)] == [TOP, DAU]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "no manifest"),
        ({}, "no documents"),
        ({"a": 1}, "no manifest"),
        ("text", "no manifest"),
        ({"": DAU}, "an id has 1 to 200"),
        ({"a" * 201: DAU}, "an id has 1 to 200"),
        ({"a\nb": DAU}, "printable"),
        ({"a": "\ud800"}, "cannot be stored"),
        ({"a": "{ a } # \0"}, "cannot be stored"),
        ({"sha256:abc": DAU}, "not the SHA-256"),
        (apollo(), "no documents"),
        (apollo(version=2), "version 2"),
        (apollo(format="other"), "'other'"),
        (apollo(operations={}), "operation 1"),
        (apollo({"id": "a", "body": DAU}, {"id": "b"}), "operation 2"),
        (apollo({"id": "a", "body": DAU}, {"id": "a", "body": TOP}), "'a' stands in it twice"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(
    content: object, says: str, tmp_path: Path
) -> None:
    path = manifest(tmp_path, content)

    with pytest.raises(ManifestUnusable) as refused:
        read_manifest(path)

    assert says in str(refused.value)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": "x", "b": "y", "a": "z"}', "'a' stands in it twice"),
        (b'{"a": \n', "not JSON"),
        (b"query { a }", "give a manifest, a .graphql file or a folder"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"[" * 200_000, "nested too deep"),
    ],
)
def test_a_file_that_cannot_be_read_as_json_is_refused(
    content: bytes, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)

    with pytest.raises(ManifestUnusable, match=says):
        read_manifest(path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"a": DAU}), encoding="utf-8-sig")

    assert read_manifest(path) == [ListedDocument("a", DAU)]


def test_a_graphql_file_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.graphql"
    path.write_bytes(b"{ a } # \0")

    with pytest.raises(ManifestUnusable, match="cannot be stored"):
        read_manifest(path)


def test_a_name_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    operation = {"id": "a", "name": "x\0", "type": "query", "body": DAU}
    manifest = {"format": "apollo-persisted-query-manifest", "version": 1}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**manifest, "operations": [operation]}))

    with pytest.raises(ManifestUnusable, match="name of 'a'"):
        read_manifest(path)


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestUnusable, match=r"no \.graphql file"):
        read_manifest(tmp_path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "nothing.json")
