from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import Signer

from keys.errors import KeyDamaged, KeyExists, KeyLocked, KeyNotHere, UnknownKey
from keys.files import new_sealed_key, write_private
from keys.keyring import Keyring, create_keyring


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_are_the_owners_only_whatever_the_umask(umask: None, tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", tmp_path / "offline")
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        "keys/keyring.json",
        "keys/online/decisions.pem",
        "keys/online/releases.pem",
        "keys/online/snapshot.pem",
        "keys/online/timestamp.pem",
        "keys/passphrase",
        "offline/passphrase",
        "offline/root.pem",
        "offline/targets.pem",
    ]
    assert {mode(path) for path in files} == {0o600}
    assert {mode(tmp_path / folder) for folder in ("keys", "keys/online", "offline")} == {0o700}


def test_every_key_signs_and_is_its_own(tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", tmp_path / "offline-keys")
    keyring = Keyring(tmp_path / "keys")
    assert keyring.names() == ("decisions", "releases", "root", "snapshot", "targets", "timestamp")
    for name in keyring.names():
        keyring.public(name).verify_signature(keyring.signer(name).sign(b"payload"), b"payload")
    assert len({keyring.public(name).keyid for name in keyring.names()}) == 6


def test_private_keys_are_encrypted_and_the_passphrase_is_not_in_the_keyring(tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", tmp_path / "offline")
    for path in tmp_path.rglob("*.pem"):
        assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    online = (tmp_path / "keys" / "passphrase").read_text().strip()
    offline = (tmp_path / "offline" / "passphrase").read_text().strip()
    assert len(online) == len(offline) == 43
    assert online != offline
    assert online not in (tmp_path / "keys" / "keyring.json").read_text()


def test_a_given_passphrase_is_written_nowhere(tmp_path: Path) -> None:
    create_keyring(
        tmp_path / "keys", tmp_path / "offline", passphrase="online secret", offline_passphrase="other secret"
    )
    assert not list(tmp_path.rglob("passphrase"))
    with pytest.raises(KeyLocked, match="passphrase"):
        Keyring(tmp_path / "keys", tmp_path / "offline").signer("snapshot")
    Keyring(tmp_path / "keys", passphrase="online secret").signer("snapshot")
    with pytest.raises(KeyLocked) as refused:
        Keyring(tmp_path / "keys", passphrase="wrong guess").signer("snapshot")
    assert "wrong guess" not in str(refused.value)


def test_a_missing_offline_key_is_told_by_name_with_what_to_do(tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", tmp_path / "offline-keys")
    (tmp_path / "offline-keys").rename(tmp_path / "safe")
    keyring = Keyring(tmp_path / "keys")
    keyring.signer("releases")
    with pytest.raises(
        KeyNotHere, match=r"the root key is kept offline and is not at .*; bring the offline folder back"
    ):
        keyring.signer("root")
    Keyring(tmp_path / "keys", tmp_path / "safe").signer("root")


def test_the_working_directory_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    create_keyring(Path("keys"), Path("offline-keys"))
    keyring = Keyring(Path("keys"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    keyring.signer("snapshot")
    keyring.signer("root")
    with pytest.raises(ValueError, match="expected sealed:<absolute path>"):
        Signer.from_priv_key_uri("sealed:keys/online/snapshot.pem", keyring.public("snapshot"), lambda _: "")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", tmp_path / "offline")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(KeyExists):
        create_keyring(tmp_path / "keys", tmp_path / "offline")
    with pytest.raises(KeyExists):
        create_keyring(tmp_path / "other", tmp_path / "offline")
    with pytest.raises(KeyExists):
        new_sealed_key(tmp_path / "offline" / "root.pem", "x")
    with pytest.raises(KeyExists):
        write_private(tmp_path / "keys" / "keyring.json", b"")
    assert {path: path.read_bytes() for path in before} == before


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    keyring = create_keyring(tmp_path / "keys", tmp_path / "offline")
    with pytest.raises(UnknownKey, match="no key is named 'brakes'; there are decisions, releases, root"):
        keyring.signer("brakes")


def test_another_key_in_the_place_of_one_is_noticed(tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", tmp_path / "offline")
    online = tmp_path / "keys" / "online"
    shutil.copy(online / "releases.pem", online / "snapshot.pem")
    with pytest.raises(KeyDamaged, match="is not the key that keyring"):
        Keyring(tmp_path / "keys").signer("snapshot")


def test_a_key_in_the_clear_is_refused(tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", tmp_path / "offline")
    clear = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "keys" / "online" / "snapshot.pem").write_bytes(clear)
    with pytest.raises(KeyDamaged, match="is not encrypted"):
        Keyring(tmp_path / "keys").signer("snapshot")


@pytest.mark.parametrize(
    "uri",
    ["sealed:online/../../x.pem", "sealed:elsewhere/x.pem", "sealed:x.pem", "sealed:online/", "nosuch:x", "file2:/x"],
)
def test_uris_that_lead_elsewhere_are_refused(uri: str, tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", tmp_path / "offline")
    file = tmp_path / "keys" / "keyring.json"
    stored = json.loads(file.read_text())
    stored["keys"]["snapshot"]["keys"][0]["uri"] = uri
    file.write_text(json.dumps(stored))
    with pytest.raises(KeyDamaged, match="the snapshot key"):
        Keyring(tmp_path / "keys").signer("snapshot")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 3, "keys": {}}', '{"format": 1, "keys": {"root": {}}}'])
def test_a_garbled_keyring_is_damage(text: str, tmp_path: Path) -> None:
    (tmp_path / "keyring.json").write_text(text)
    with pytest.raises(KeyDamaged):
        Keyring(tmp_path)


def test_no_keyring_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyNotHere, match="publish init"):
        Keyring(tmp_path)
