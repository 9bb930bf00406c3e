from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import Signer, SSlibKey

from keys.errors import KeyDamaged, KeyLocked, KeyNotHere, KeyStoreMissing, KeyUnsuitable, UnknownKey
from keys.files import SCHEME
from keys.keyring import Keyring, create_keyring
from keys.ring_file import RoleKey
from keys.signer_client import SignerAddress, address_of
from keys.stores import import_key


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return create_keyring(tmp_path / "keys", tmp_path / "offline-keys")


def elsewhere() -> RoleKey:
    return RoleKey(None, SSlibKey.from_crypto(Ed25519PrivateKey.generate().public_key()))


def test_a_role_signs_with_as_many_keys_as_its_threshold(keyring: Keyring) -> None:
    own = keyring.keys("root").keys[0]
    made = [keyring.make_key("root") for _ in range(2)]
    keyring.replace("root", [own, *made], threshold=2)
    signatures = keyring.sign("root", b"payload", role="root")
    assert [signature.keyid for signature in signatures] == [own.public.keyid, made[0].public.keyid]
    for signature, key in zip(signatures, (own, made[0]), strict=True):
        key.public.verify_signature(signature, b"payload")
    (only,) = keyring.sign("root", b"payload", role="root", among={made[1].public.keyid}, threshold=1)
    assert only.keyid == made[1].public.keyid


def test_a_threshold_that_cannot_be_reached_names_what_is_missing(keyring: Keyring, tmp_path: Path) -> None:
    own, person = keyring.keys("root").keys[0], elsewhere()
    keyring.replace("root", [own, person], threshold=2)
    with pytest.raises(
        KeyNotHere, match=f"2 root keys must sign and 1 can be reached: the root key {person.public.keyid[:8]} is held"
    ):
        keyring.sign("root", b"payload", role="root")
    assert keyring.signer("root").public_key == own.public
    (tmp_path / "offline-keys" / "root.pem").unlink()
    with pytest.raises(KeyNotHere, match="1 root keys must sign and 0 can be reached: the root key is kept offline"):
        Keyring(tmp_path / "keys").signer("root")


def test_a_key_is_added_and_dropped_and_others_see_it_at_once(keyring: Keyring, tmp_path: Path) -> None:
    other = Keyring(tmp_path / "keys")
    old, new = keyring.keys("timestamp").keys[0], keyring.make_key("timestamp")
    keyring.add("timestamp", new)
    assert other.signer("timestamp").public_key == old.public
    assert other.signer("timestamp", {new.public.keyid}).public_key == new.public
    keyring.drop("timestamp", old.public.keyid)
    assert other.public("timestamp") == other.signer("timestamp").public_key == new.public
    with pytest.raises(UnknownKey, match="none of the timestamp keys in the keyring is one that clients know"):
        other.signer("timestamp", {old.public.keyid})
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["keyring.json", "online", "passphrase"]
    assert stat.S_IMODE((tmp_path / "keys" / "keyring.json").stat().st_mode) == 0o600


def test_keys_and_thresholds_that_do_not_go_together_change_nothing(keyring: Keyring, tmp_path: Path) -> None:
    before = (tmp_path / "keys" / "keyring.json").read_bytes()
    key = keyring.keys("root").keys[0]
    with pytest.raises(KeyUnsuitable, match="a threshold of 2 does not go with 1 keys; expected 1 to 1"):
        keyring.replace("root", [key], threshold=2)
    with pytest.raises(KeyUnsuitable, match="a threshold of 1 does not go with 0 keys"):
        keyring.drop("root", key.public.keyid)
    with pytest.raises(KeyUnsuitable, match="one key stands twice"):
        keyring.add("root", key)
    with pytest.raises(KeyUnsuitable, match="is no name of a role"):
        keyring.replace("../root", [key])
    with pytest.raises(UnknownKey, match="has no key with the id 00"):
        keyring.drop("root", "00")
    with pytest.raises(UnknownKey, match="no key is named 'brakes'"):
        keyring.add("brakes", key)
    assert (tmp_path / "keys" / "keyring.json").read_bytes() == before


def test_the_first_format_is_read_and_the_second_written(keyring: Keyring, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "keyring.json"
    stored = json.loads(file.read_text())
    assert stored["format"] == 2
    first = {"format": 1, "keys": {name: role["keys"][0] for name, role in stored["keys"].items()}}
    file.write_text(json.dumps(first))
    old = Keyring(tmp_path / "keys")
    assert {name: old.keys(name) for name in old.names()} == {name: keyring.keys(name) for name in keyring.names()}
    old.signer("snapshot").sign(b"payload")
    old.add("root", elsewhere())
    assert json.loads(file.read_text())["format"] == 2


@pytest.mark.parametrize(
    "role",
    [
        '{"threshold": 1, "keys": []}',
        '{"threshold": 2, "keys": [KEY]}',
        '{"threshold": true, "keys": [KEY]}',
        '{"threshold": 1, "keys": [KEY, KEY]}',
        '{"keys": [KEY]}',
    ],
)
def test_roles_that_cannot_be_are_damage(role: str, tmp_path: Path) -> None:
    key = elsewhere().public
    text = json.dumps({"uri": None, "keyid": key.keyid, "public": key.to_dict()})
    (tmp_path / "keyring.json").write_text('{"format": 2, "keys": {"root": ' + role.replace("KEY", text) + "}}")
    with pytest.raises(KeyDamaged, match="lacks or garbles a field"):
        Keyring(tmp_path)


@pytest.mark.parametrize(
    ("uri", "extra", "module", "flag"),
    [
        ("hsm:2", "hsm", "_hsm_signer", "PKCS11_IMPORT_ERROR"),
        ("awskms:alias/x", "awskms", "_aws_signer", "AWS_IMPORT_ERROR"),
        ("gcpkms:projects/x", "gcpkms", "_gcp_signer", "GCP_IMPORT_ERROR"),
        ("azurekms:acme/x", "azurekms", "_azure_signer", "AZURE_IMPORT_ERROR"),
        ("hv:x", "vault", "_vault_signer", "VAULT_IMPORT_ERROR"),
    ],
)
def test_a_library_that_is_missing_is_told_with_the_extra_that_brings_it(
    uri: str, extra: str, module: str, flag: str, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[f"securesystemslib.signer.{module}"], flag, "not installed")
    with pytest.raises(KeyStoreMissing, match=rf"need the extra `{extra}` \(pip install 'wavegate\[{extra}\]'\)"):
        import_key(uri)
    stored = f"{uri}/1" if extra == "vault" else uri
    keyring.replace("timestamp", [RoleKey(stored, keyring.public("timestamp"))])
    with pytest.raises(KeyStoreMissing, match=rf"pip install 'wavegate\[{extra}\]'"):
        keyring.signer("timestamp")


def test_without_gpg_its_keys_are_told_to_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securesystemslib._gpg.functions.have_gpg", lambda: False)
    with pytest.raises(KeyStoreMissing, match="need the program gpg"):
        import_key("gnupg:?key=" + "ab" * 20)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nosuch:x",
        "hsm:two",
        "awskms:",
        "azurekms:only-a-vault",
        "hv:a/1",
        "gnupg:/home/x?key=short",
        "gnupg:/home/x --output y?key=" + "ab" * 20,
        "sealed:relative.pem",
        "public:",
    ],
)
def test_an_address_that_names_no_key_is_refused_with_those_there_are(address: str) -> None:
    with pytest.raises(KeyUnsuitable, match="names no key; expected one of hsm:<keyid>"):
        import_key(address)


def test_a_gnupg_home_that_would_be_an_option_is_refused(keyring: Keyring) -> None:
    keyring.replace("timestamp", [RoleKey("gnupg:/x --output /y", keyring.public("timestamp"))])
    with pytest.raises(KeyDamaged, match="a path of letters, digits"):
        keyring.signer("timestamp")


def test_a_key_held_elsewhere_is_imported_by_its_public_half(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    file = tmp_path / "anna.pem"
    file.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert import_key(f"public:{file}") == RoleKey(None, SSlibKey.from_crypto(private.public_key()))
    with pytest.raises(KeyNotHere, match="no key could be fetched from"):
        import_key(f"public:{tmp_path / 'nobody.pem'}")


def test_a_sealed_file_is_imported_with_its_passphrase(keyring: Keyring, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "online" / "releases.pem"
    passphrase = (tmp_path / "keys" / "passphrase").read_text().strip()
    key = import_key(f"sealed:{file}", secret=lambda name: passphrase)
    assert key == RoleKey(f"{SCHEME}:{file}", keyring.public("releases"))
    assert key.uri is not None
    signature = Signer.from_priv_key_uri(key.uri, key.public, lambda name: passphrase).sign(b"payload")
    key.public.verify_signature(signature, b"payload")
    with pytest.raises(KeyLocked):
        import_key(f"sealed:{file}")


def test_a_made_key_is_locked_with_the_passphrase_of_its_folder(keyring: Keyring, tmp_path: Path) -> None:
    key = keyring.make_key("snapshot")
    assert key.uri is not None
    file = tmp_path / "keys" / "online" / key.uri.removeprefix("sealed:online/")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keyring.replace("snapshot", [key])
    key.public.verify_signature(keyring.signer("snapshot").sign(b"payload"), b"payload")
    (tmp_path / "offline-keys" / "passphrase").unlink()
    with pytest.raises(KeyLocked):
        keyring.make_key("targets")
    assert sorted(os.listdir(tmp_path / "offline-keys")) == ["root.pem", "targets.pem"]


def test_without_a_signer_process_no_number_is_used_up(keyring: Keyring) -> None:
    assert keyring.highest_signed() == 0


def test_the_address_of_a_signer_is_read_as_it_is_written() -> None:
    address = SignerAddress(Path("/run/way gate?/50%.sock"), "timestamp")
    assert address.uri() == "wavegate-signer:/run/way%20gate%3F/50%25.sock?key=timestamp"
    assert address_of(address.uri()) == address


@pytest.mark.parametrize(
    "uri", ["", "x:/s?key=a", ":/s?key=a", "/s", "relative?key=a", "/s?key=", "/s?key=a&key=b", "/s?k=a"]
)
def test_another_form_of_a_signers_address_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="expected wavegate-signer:<absolute path>"):
        address_of(uri if ":" in uri or not uri else f"wavegate-signer:{uri}")
