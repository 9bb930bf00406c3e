from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import SSlibKey

from keys.errors import KeyDamaged, KeyExists, KeyLocked, KeyNotHere, KeyUnsuitable, UnknownKey
from keys.holders import new_holder_key, open_signer, public_key
from keys.keyring import Keyring, create_keyring
from keys.ring_file import RoleKey, RoleKeys


def loaded(told: dict[str, object]) -> SSlibKey:
    return SSlibKey.from_dict(str(told["keyid"]), {name: told[name] for name in ("keytype", "scheme", "keyval")})


def test_a_holders_key_signs_and_its_public_file_says_no_secret(tmp_path: Path) -> None:
    public_file, key = new_holder_key(tmp_path / "ann", "ann")
    assert stat.S_IMODE((tmp_path / "ann" / "ann.pem").stat().st_mode) == 0o600
    told = public_key(str(public_file))
    assert sorted(json.loads(public_file.read_text())) == ["keyid", "keytype", "keyval", "scheme"]
    assert told["keyid"] == key.keyid
    for uri in (str(tmp_path / "ann" / "ann.pem"), f"sealed:{tmp_path / 'ann' / 'ann.pem'}"):
        signature = open_signer(uri, loaded(told)).sign(b"payload")
        loaded(told).verify_signature(signature, b"payload")
        assert public_key(uri) == told


def test_nothing_is_written_over_and_a_second_key_shares_the_passphrase(tmp_path: Path) -> None:
    new_holder_key(tmp_path, "ann")
    before = (tmp_path / "passphrase").read_bytes()
    with pytest.raises(KeyExists):
        new_holder_key(tmp_path, "ann")
    new_holder_key(tmp_path, "ann-2")
    assert (tmp_path / "passphrase").read_bytes() == before


def test_a_given_passphrase_is_written_nowhere_and_needed(tmp_path: Path) -> None:
    _, key = new_holder_key(tmp_path, "ann", passphrase="correct horse")
    assert not (tmp_path / "passphrase").exists()
    uri = str(tmp_path / "ann.pem")
    assert open_signer(uri, key, passphrase="correct horse").sign(b"x").keyid == key.keyid
    with pytest.raises(KeyLocked, match="is encrypted"):
        open_signer(uri, key)
    with pytest.raises(KeyLocked):
        open_signer(uri, key, passphrase="wrong")


def test_a_public_key_is_also_read_from_pem(tmp_path: Path) -> None:
    pem = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "hsm.pem").write_bytes(pem)
    assert public_key(str(tmp_path / "hsm.pem"))["scheme"] == "ecdsa-sha2-nistp256"


def test_what_is_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.pub").write_text("[]")
    with pytest.raises(KeyDamaged, match="is no public key"):
        public_key(str(tmp_path / "x.pub"))
    with pytest.raises(KeyNotHere):
        public_key(str(tmp_path / "none.pub"))
    with pytest.raises(KeyUnsuitable, match="names no key"):
        public_key("hsm:two")
    _, key = new_holder_key(tmp_path, "ann")
    _, other = new_holder_key(tmp_path, "bob")
    with pytest.raises(KeyDamaged):
        open_signer(str(tmp_path / "ann.pem"), other)
    with pytest.raises(KeyNotHere, match="through its wavegate-signer: URI"):
        open_signer("wavegate-signer:", key)


def test_the_ring_takes_another_key_that_other_instances_find_and_lets_it_go(tmp_path: Path) -> None:
    ring = create_keyring(tmp_path / "keys", None)
    other = Keyring(tmp_path / "keys")
    first = ring.keys("timestamp").keys[0].public
    second, third = ring.add_online("timestamp"), ring.add_online("timestamp")
    assert ring.names() == ("decisions", "releases", "snapshot", "timestamp")
    assert other.held("timestamp", {second.keyid, third.keyid, "0" * 64}) == {second.keyid, third.keyid}
    assert other.held("snapshot", {second.keyid}) == other.held("nobody", {second.keyid}) == frozenset()
    third.verify_signature(other.signer("timestamp", {third.keyid}).sign(b"x"), b"x")
    assert stat.S_IMODE((tmp_path / "keys" / "keyring.json").stat().st_mode) == 0o600
    ring.retire("timestamp", first.keyid)
    assert other.held("timestamp", {first.keyid}) == frozenset()
    assert not (tmp_path / "keys" / "online" / "timestamp.pem").exists()
    assert len(list((tmp_path / "keys" / "online").glob("timestamp-*.pem"))) == 2
    with pytest.raises(UnknownKey):
        ring.retire("timestamp", first.keyid)
    ring.replace("snapshot", [RoleKey("hsm:2?label=x", ring.keys("snapshot").keys[0].public)])
    with pytest.raises(KeyUnsuitable, match=r"not in a file here \(hsm:2\?label=x\)"):
        ring.add_online("snapshot")
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["keyring.json", "online", "passphrase"]


def test_a_ring_notes_the_keys_of_people_and_reaches_none_of_them(tmp_path: Path) -> None:
    _, ann = new_holder_key(tmp_path / "ann", "ann")
    ring = create_keyring(tmp_path / "keys", None, elsewhere={"root": RoleKeys((RoleKey(None, ann),))})
    assert ring.keys("root") == RoleKeys((RoleKey(None, ann),))
    assert ring.held("root", {ann.keyid}) == frozenset()
    with pytest.raises(KeyNotHere, match="is held by a person"):
        ring.signer("root")


def test_a_holder_reaches_a_key_by_any_uri_that_a_keyring_knows(tmp_path: Path) -> None:
    public_file, key = new_holder_key(tmp_path, "ann")
    sealed = f"sealed:{tmp_path / 'ann.pem'}"
    assert public_key(sealed) == public_key(str(public_file))
    pem = key._crypto_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "ann-public.pem").write_bytes(pem)
    assert public_key(f"public:{tmp_path / 'ann-public.pem'}") == public_key(sealed)
    with pytest.raises(KeyDamaged, match="not encrypted"):
        open_signer("file2:/x", key)
