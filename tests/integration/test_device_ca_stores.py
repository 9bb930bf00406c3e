"""The device CA's key in a token or a key service: what it signs is held against openssl and cryptography."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from keys.authorities import read_authorities
from keys.device_ca import DeviceCa, create_device_ca
from keys.device_ca_rotation import finish, rotate
from keys.errors import DeviceCaUnusable, KeyUnsuitable
from tests.simulators.devices import new_key, request_for, utc_now
from tests.simulators.key_stores import TOKEN_PIN, VaultSimulator, running_vault

LABEL = "label=wavegate+test"


def openssl_accepts(folder: Path, chain: bytes, trusted: str, purpose: str) -> bool:
    (folder / "leaf.pem").write_bytes(chain.partition(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n")
    (folder / "trusted.pem").write_text(trusted)
    told = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "trusted.pem", "leaf.pem"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout == "leaf.pem: OK\n"


def check(ca: DeviceCa, folder: Path) -> None:
    """What the CA issues is good for what it says, for openssl as well as for us, and for nothing else."""
    issued = ca.issue(request_for(new_key()), "dev_1", now=utc_now(), organisation="acme").chain_pem.encode()
    leaf, authority = x509.load_pem_x509_certificates(issued)
    leaf.verify_directly_issued_by(authority)
    authority.verify_directly_issued_by(authority)
    assert openssl_accepts(folder, issued, ca.certificate_pem, "sslclient")
    assert not openssl_accepts(folder, issued, ca.certificate_pem, "sslserver")
    shown = ca.server_certificate(["localhost"], now=utc_now()).chain_pem
    assert openssl_accepts(folder, shown, ca.certificate_pem, "sslserver")
    assert not openssl_accepts(folder, shown, ca.certificate_pem, "sslclient")


@pytest.mark.parametrize("number", [2, 3], ids=["P-256", "P-384"])
def test_a_ca_whose_key_is_on_a_token_certifies(number: int, token: None, tmp_path: Path) -> None:
    made = create_device_ca(tmp_path / "ca", now=utc_now(), key=f"hsm:{number}?{LABEL}", pin=TOKEN_PIN)

    check(made, tmp_path)
    check(DeviceCa.open(tmp_path / "ca"), tmp_path)
    assert {one.name for one in (tmp_path / "ca").iterdir()} == {"authorities.json", "passphrase", "device-ca.pin"}
    assert TOKEN_PIN not in (tmp_path / "ca" / "authorities.json").read_text()


def test_without_the_tokens_pin_or_with_another_nothing_is_certified(token: None, tmp_path: Path) -> None:
    with pytest.raises(DeviceCaUnusable, match=r"needs the token's PIN in .*device-ca\.pin"):
        create_device_ca(tmp_path / "none", now=utc_now(), key=f"hsm:2?{LABEL}")
    assert not list(tmp_path.glob("*none*"))
    ca = create_device_ca(tmp_path / "ca", now=utc_now(), key=f"hsm:2?{LABEL}", pin=TOKEN_PIN)
    (tmp_path / "ca" / "device-ca.pin").write_text("9999\n")

    with pytest.raises(DeviceCaUnusable, match="the device CA did not sign: the device CA key's hsm: store") as refused:
        ca.issue(request_for(new_key()), "dev_1", now=utc_now())
    assert "9999" not in str(refused.value)


def test_a_ca_moves_from_a_file_to_a_key_service(aws: Any, tmp_path: Path) -> None:
    key = aws.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    ca, now = create_device_ca(tmp_path / "ca", now=utc_now()), utc_now()

    rotate(tmp_path / "ca", now=now, after=timedelta(0), key=f"awskms:{key}")
    check(ca, tmp_path)
    finish(tmp_path / "ca", now=now)

    assert [one.key for one in read_authorities(tmp_path / "ca")] == [f"awskms:{key}"]
    check(DeviceCa.open(tmp_path / "ca"), tmp_path)
    assert {one.name for one in (tmp_path / "ca").iterdir()} == {"authorities.json", "passphrase"}


def test_a_key_service_that_signs_with_another_key_certifies_nobody(aws: Any, tmp_path: Path) -> None:
    first, second = (
        aws.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"] for _ in range(2)
    )
    aws.create_alias(AliasName="alias/ca", TargetKeyId=first)
    ca = create_device_ca(tmp_path / "ca", now=utc_now(), key="awskms:alias/ca")
    aws.update_alias(AliasName="alias/ca", TargetKeyId=second)

    with pytest.raises(DeviceCaUnusable, match="signed with another key than"):
        ca.issue(request_for(new_key()), "dev_1", now=utc_now())


def test_a_key_service_that_is_away_is_told_and_used_again_when_it_is_back(
    aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = aws.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    ca = create_device_ca(tmp_path / "ca", now=utc_now(), key=f"awskms:{key}")
    with monkeypatch.context() as away:
        away.setattr("moto.kms.models.KmsBackend.sign", _refuse)
        with pytest.raises(DeviceCaUnusable, match="awskms: store did not sign"):
            ca.issue(request_for(new_key()), "dev_1", now=utc_now())
    check(ca, tmp_path)


def _refuse(*_: object, **__: object) -> None:
    raise ConnectionError("the line is cut")


def an_rsa_key(aws: Any, _: VaultSimulator) -> str:
    key = aws.create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]["KeyId"]
    return f"awskms:{key}"


def a_key_in_vault(_: Any, vault: VaultSimulator) -> str:
    vault.rotate("ca")
    return "hv:ca"


@pytest.mark.parametrize(("address", "kind"), [(an_rsa_key, "rsa"), (a_key_in_vault, "ed25519")])
def test_keys_that_tls_does_not_take_everywhere_are_refused_and_nothing_is_left(
    aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: Callable[[Any, VaultSimulator], str], kind: str
) -> None:
    with running_vault() as vault:
        monkeypatch.setenv("VAULT_ADDR", vault.address)
        monkeypatch.setenv("VAULT_TOKEN", VaultSimulator.TOKEN)
        with pytest.raises(KeyUnsuitable, match=rf"is an? {kind} key of scheme .* make one of EC P-256 or P-384"):
            create_device_ca(tmp_path / "ca", now=utc_now(), key=address(aws, vault))
    assert list(tmp_path.iterdir()) == []
