"""The local envelope: what goes in comes out, and nothing else does."""

import asyncio
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.envelope import LocalEnvelope, key_version, opened, rewrapped, sealed
from data.local_secrets import LocalSecrets, NamedSecrets
from data.master_keys import MasterKeys, add_master_key, read_master_keys
from data.secret_errors import SecretMissing, SecretsUnreadable, Undecipherable

KEYS = MasterKeys(2, {1: b"\x01" * 32, 2: b"\x02" * 32})
CONTEXTS = st.binary(min_size=1, max_size=40)


@given(st.binary(max_size=300), CONTEXTS)
def test_what_was_encrypted_is_decrypted(plaintext: bytes, context: bytes) -> None:
    text = sealed(KEYS, plaintext, context)

    assert opened(KEYS, text, context) == plaintext
    assert opened(KEYS, rewrapped(KEYS, text, context), context) == plaintext
    assert key_version(text) == 2
    # A short one may stand there by chance.
    assert len(plaintext) < 4 or plaintext.decode("latin-1") not in text


@given(st.binary(max_size=60), CONTEXTS, st.data())
def test_any_changed_character_is_noticed(
    plaintext: bytes, context: bytes, data: st.DataObject
) -> None:
    text = sealed(KEYS, plaintext, context)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda one: one != text[at]))

    for damaged in (text[:at] + other + text[at + 1 :], text[:at], text + other):
        with pytest.raises(Undecipherable):
            opened(KEYS, damaged, context)
        with pytest.raises(Undecipherable):
            rewrapped(KEYS, damaged, context)


@given(st.binary(max_size=60), CONTEXTS, CONTEXTS)
def test_another_context_reads_nothing(plaintext: bytes, context: bytes, other: bytes) -> None:
    text = sealed(KEYS, plaintext, context)
    if other != context:
        with pytest.raises(Undecipherable, match="another context"):
            opened(KEYS, text, other)
        with pytest.raises(Undecipherable, match="another context"):
            rewrapped(KEYS, text, other)


def test_the_body_of_one_text_is_no_use_with_the_key_of_another() -> None:
    one, other = sealed(KEYS, b"a" * 20, b"c"), sealed(KEYS, b"b" * 20, b"c")
    head = len("local:v2.01234567:")

    # 60 bytes of wrapped key are 80 characters.
    with pytest.raises(Undecipherable):
        opened(KEYS, one[: head + 80] + other[head + 80 :], b"c")


def test_the_same_plaintext_never_gives_the_same_text() -> None:
    assert len({sealed(KEYS, b"same", b"c") for _ in range(20)}) == 20


def test_a_context_must_say_something() -> None:
    with pytest.raises(ValueError, match="context"):
        sealed(KEYS, b"x", b"")


async def test_a_rotated_key_encrypts_and_old_ones_still_decrypt(tmp_path: Path) -> None:
    path = tmp_path / "master-keys.json"
    envelope = LocalEnvelope(path)
    assert await envelope.newest_version() == 0
    text = await envelope.encrypt(b"bucket key", b"destination:1")
    assert text.startswith("local:v1.")

    add_master_key(path)

    assert await envelope.newest_version() == 2
    assert await envelope.decrypt(text, b"destination:1") == b"bucket key"
    moved = await envelope.rewrap(text, b"destination:1")
    assert moved.startswith("local:v2.")
    assert await envelope.decrypt(moved, b"destination:1") == b"bucket key"

    # Without the first version, only what was moved on can be read.
    content = json.loads(path.read_text())
    del content["keys"]["1"]
    path.write_text(json.dumps(content))
    assert await envelope.decrypt(moved, b"destination:1") == b"bucket key"
    with pytest.raises(Undecipherable, match="version 1"):
        await envelope.decrypt(text, b"destination:1")


async def test_many_first_uses_at_once_agree_on_one_key(tmp_path: Path) -> None:
    envelopes = [LocalEnvelope(tmp_path / "master-keys.json") for _ in range(8)]

    texts = await asyncio.gather(*(one.encrypt(b"x", b"c") for one in envelopes))

    assert {key_version(text) for text in texts} == {1}
    assert [await envelopes[0].decrypt(text, b"c") for text in texts] == [b"x"] * 8


def test_every_file_is_for_its_owner_only(tmp_path: Path) -> None:
    secrets = LocalSecrets(tmp_path)
    NamedSecrets(tmp_path).set("crm", "hush")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"secrets.json", "master-keys.json", "named-secrets.json"} <= set(modes)
    (tmp_path / "master-keys.json").chmod(0o644)
    read_master_keys(tmp_path / "master-keys.json")
    assert stat.S_IMODE((tmp_path / "master-keys.json").stat().st_mode) == 0o600
    assert secrets.admin_key not in repr(secrets.keys)


async def test_named_secrets_are_set_changed_listed_and_removed(tmp_path: Path) -> None:
    secrets, named = LocalSecrets(tmp_path), NamedSecrets(tmp_path)
    named.set("crm.token", "hush-hush-1")
    named.set("zeta", "ü" * 1_000)
    named.set("crm.token", "hush-hush-2")

    assert named.names() == ["crm.token", "zeta"]
    assert await secrets.named("crm.token") == "hush-hush-2"
    assert await secrets.named("zeta") == "ü" * 1_000
    assert "hush" not in (tmp_path / "named-secrets.json").read_text()
    assert named.rotate() == (2, 2)
    assert await secrets.named("crm.token") == "hush-hush-2"
    assert '"local:v1.' not in (tmp_path / "named-secrets.json").read_text()

    named.remove("crm.token")
    assert named.names() == ["zeta"]
    for absent in ("crm.token", "", "a b", "../x", "a" * 65):
        with pytest.raises(SecretMissing):
            await secrets.named(absent)
    with pytest.raises(SecretMissing):
        named.remove("crm.token")


def test_a_text_moved_to_another_name_cannot_be_read_there(tmp_path: Path) -> None:
    named = NamedSecrets(tmp_path)
    named.set("one", "hush")
    path = tmp_path / "named-secrets.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"other": content["one"]}))

    with pytest.raises(SecretsUnreadable, match="set it again with `footfall secrets set other`"):
        named.get("other")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"newest": 2, "keys": {"1": "00"}}', '{"newest": 1, "keys": {"1": "zz"}}'],
)
def test_damaged_master_keys_are_told_and_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "master-keys.json"
    path.write_text(content)

    for use in (read_master_keys, add_master_key):
        with pytest.raises(SecretsUnreadable, match="restore the file from a backup"):
            use(path)
    assert path.read_text() == content


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    with pytest.raises(SecretsUnreadable, match="cannot be written"):
        add_master_key(tmp_path / "absent" / "master-keys.json")
    with pytest.raises(SecretsUnreadable, match="cannot be used"):
        LocalSecrets(tmp_path / "absent")


def test_a_lost_master_key_is_not_replaced_by_a_new_one_of_the_same_version(tmp_path: Path) -> None:
    named = NamedSecrets(tmp_path)
    named.set("crm", "hush")
    kept = (tmp_path / "named-secrets.json").read_bytes()
    lost = (tmp_path / "master-keys.json").read_bytes()
    (tmp_path / "master-keys.json").unlink()

    for change in (lambda: named.set("other", "x"), named.rotate):
        with pytest.raises(SecretsUnreadable):
            change()
    with pytest.raises(SecretsUnreadable, match="are gone"):
        add_master_key(tmp_path / "master-keys.json", only_first=True)

    assert not (tmp_path / "master-keys.json").exists()
    assert (tmp_path / "named-secrets.json").read_bytes() == kept
    (tmp_path / "master-keys.json").write_bytes(lost)
    assert named.get("crm") == "hush"


async def test_a_text_says_that_another_key_of_the_same_version_wrote_it(tmp_path: Path) -> None:
    one, other = (LocalEnvelope(tmp_path / f"{name}.json") for name in ("one", "other"))
    text = await one.encrypt(b"bucket key", b"destination:1")
    await other.encrypt(b"bucket key", b"destination:1")

    with pytest.raises(Undecipherable, match="another version 1 of the master key wrote it"):
        await other.decrypt(text, b"destination:1")


def test_a_rotation_changes_nothing_where_one_secret_cannot_be_read(tmp_path: Path) -> None:
    named = NamedSecrets(tmp_path)
    for name in ("crm", "zeta"):
        named.set(name, "hush")
    texts = json.loads((tmp_path / "named-secrets.json").read_text())
    (tmp_path / "named-secrets.json").write_text(json.dumps({**texts, "zeta": texts["crm"]}))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}

    with pytest.raises(SecretsUnreadable, match="the secret 'zeta' cannot be decrypted"):
        named.rotate()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.json")} == before
