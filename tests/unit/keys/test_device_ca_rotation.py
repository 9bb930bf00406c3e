"""The device CA changes hands: who is trusted, who certifies, and what is left of the old one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from keys.authorities import read_authorities
from keys.device_ca import DeviceCa, create_device_ca
from keys.device_ca_rotation import finish, rotate
from keys.errors import CustodyError, DeviceCaRotationRefused, DeviceCaUnusable, KeyUnsuitable
from keys.files import new_sealed_key
from keys.holders import public_text
from tests.simulators.devices import new_key, request_for

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TEN = timedelta(minutes=10)
LATER = NOON + TEN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_device_ca(tmp_path / "ca", now=NOON)
    return tmp_path / "ca"


def names_of(pem: str | bytes) -> list[str]:
    """Who stands in a chain or a bundle, by the random part of the CA's name."""
    text = pem.encode() if isinstance(pem, str) else pem
    return [one.subject.rfc4514_string() for one in x509.load_pem_x509_certificates(text)]


def issuer_of(ca: DeviceCa, now: datetime) -> str:
    chain = ca.issue(request_for(new_key()), "dev_1", now=now).chain_pem
    leaf, authority = x509.load_pem_x509_certificates(chain.encode())
    leaf.verify_directly_issued_by(authority)
    return authority.subject.rfc4514_string()


def server_issuer_of(ca: DeviceCa, now: datetime) -> str:
    return names_of(ca.server_certificate(["localhost"], now=now).chain_pem)[1]


def test_a_new_ca_is_trusted_at_once_and_certifies_devices_from_its_time_on(folder: Path) -> None:
    running = DeviceCa.open(folder)  # as a server that was started before
    (old,) = names_of(running.certificate_pem)

    rotate(folder, now=NOON, after=TEN)

    new, second = names_of(running.certificate_pem)
    assert second == old
    assert issuer_of(running, LATER - timedelta(seconds=1)) == old
    assert issuer_of(running, LATER) == new
    assert server_issuer_of(running, LATER) == old


def test_finished_the_new_ca_is_alone_and_the_old_ones_files_are_gone(folder: Path) -> None:
    running = DeviceCa.open(folder)
    rotate(folder, now=NOON, after=TEN)
    new = names_of(running.certificate_pem)[0]

    gone = finish(folder, now=LATER)

    assert [one.key for one in gone] == ["sealed:ca-key.pem"]
    assert names_of(running.certificate_pem) == [new]
    assert (issuer_of(running, LATER), server_issuer_of(running, LATER)) == (new, new)
    key = read_authorities(folder)[0].key.removeprefix("sealed:")
    assert {one.name for one in folder.iterdir()} == {"authorities.json", "passphrase", key}
    assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o600}
    assert b"ENCRYPTED" in (folder / key).read_bytes()


def test_it_can_be_rotated_again_and_again(folder: Path) -> None:
    seen = {names_of(DeviceCa.open(folder).certificate_pem)[0]}
    for day in range(3):
        now = NOON + timedelta(days=day)
        rotate(folder, now=now, after=TEN)
        finish(folder, now=now + TEN)
        seen.add(issuer_of(DeviceCa.open(folder), now + TEN))
    assert len(seen) == 4
    assert len(list(folder.glob("ca-key*.pem"))) == 1


def test_the_steps_come_in_their_order(folder: Path) -> None:
    with pytest.raises(DeviceCaRotationRefused, match="no rotation of the device CA is under way"):
        finish(folder, now=NOON)
    rotate(folder, now=NOON, after=TEN)
    with pytest.raises(DeviceCaRotationRefused, match="is being rotated since 2026-11-21; finish that first"):
        rotate(folder, now=LATER, after=TEN)
    with pytest.raises(DeviceCaRotationRefused, match="certifies devices from 2026-11-21 12:10 UTC on"):
        finish(folder, now=LATER - timedelta(seconds=1))
    assert len(read_authorities(folder)) == 2


def sealed(tmp_path: Path) -> str:
    new_sealed_key(tmp_path / "other.pem", "secret")
    return f"sealed:{tmp_path / 'other.pem'}"


def public_only(tmp_path: Path) -> str:
    key = new_sealed_key(tmp_path / "other.pem", "secret")
    (tmp_path / "other.pub").write_bytes(public_text(key))
    return f"public:{tmp_path / 'other.pub'}"


@pytest.mark.parametrize("address", [sealed, public_only, lambda _: "nonsense", lambda _: "hsm:x"])
def test_a_key_that_no_ca_can_have_changes_nothing(
    folder: Path, tmp_path: Path, address: Callable[[Path], str]
) -> None:
    before = {one.name: one.read_bytes() for one in folder.iterdir()}

    with pytest.raises(CustodyError):
        rotate(folder, now=NOON, after=TEN, key=address(tmp_path))

    assert {one.name: one.read_bytes() for one in folder.iterdir()} == before


def test_an_address_of_no_key_makes_no_ca(tmp_path: Path) -> None:
    with pytest.raises(KeyUnsuitable, match="names no key; expected one of hsm:"):
        create_device_ca(tmp_path / "ca", now=NOON, key="rsa:1")
    assert list(tmp_path.iterdir()) == []


def test_a_rotation_that_cannot_write_its_key_leaves_the_old_ca_alone(folder: Path) -> None:
    (folder / "passphrase").unlink()

    with pytest.raises(DeviceCaUnusable, match="No such file"):
        rotate(folder, now=NOON, after=TEN)
    assert {one.name for one in folder.iterdir()} == {"ca.pem", "ca-key.pem"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": 2, "authorities": []}',
        b'{"format": 1, "authorities": []}',
        b'{"format": 1, "authorities": [{"certificate": "x", "key": "y", "issues_from": "2026-01-01T00:00:00Z"}]}',
    ],
)
def test_a_damaged_list_of_cas_is_not_guessed(folder: Path, content: bytes) -> None:
    (folder / "authorities.json").write_bytes(content)

    with pytest.raises(DeviceCaUnusable):
        DeviceCa.open(folder)


@pytest.mark.parametrize("key", ["sealed:../ca-key.pem", "sealed:/etc/key.pem", "sealed:", "rot13:x", "gnupg:/x"])
def test_a_ca_whose_key_is_named_in_no_way_known_here_does_not_open(folder: Path, key: str) -> None:
    rotate(folder, now=NOON, after=TEN)
    stored = json.loads((folder / "authorities.json").read_bytes())
    stored["authorities"][0]["key"] = key
    (folder / "authorities.json").write_text(json.dumps(stored))

    with pytest.raises(DeviceCaUnusable):
        DeviceCa.open(folder)
