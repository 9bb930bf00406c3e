"""Keys in stores of every kind sign through the keyring, and clients verify what comes out.

SoftHSM2 and GnuPG are the real ones. AWS KMS is moto (with its digest mended), Google Cloud KMS and Vault are stand-ins
that speak the services' protocols on loopback, Azure is its client library signing with a key in memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from azure.keyvault.keys import JsonWebKey, KeyOperation, KeyVaultKey
from azure.keyvault.keys.crypto import CryptographyClient
from cryptography.hazmat.primitives.asymmetric import ec
from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceGrpcTransport
from securesystemslib.signer import _azure_signer, _gcp_signer

from keys.errors import KeyLocked, KeyNotHere, KeyUnsuitable, SigningFailed
from keys.keyring import Keyring, create_keyring
from keys.stores import import_key
from tests.simulators.key_stores import (
    TOKEN_PIN,
    VaultSimulator,
    running_cloud_kms,
    running_vault,
)

PAYLOAD = b'{"_type":"timestamp","version":7}'
KMS_KEY = "projects/p/locations/global/keyRings/r/cryptoKeys/timestamp/cryptoKeyVersions/1"


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return create_keyring(tmp_path / "keys", tmp_path / "offline-keys")


def check(keyring: Keyring, address: str, uri: str) -> None:
    """Import a key from a store for a role, sign with it, verify as a client would."""
    key = import_key(address)
    assert key.uri == uri
    keyring.replace("timestamp", [key])
    signature = keyring.signer("timestamp").sign(PAYLOAD)
    assert signature.keyid == key.public.keyid
    key.public.verify_signature(signature, PAYLOAD)
    assert keyring.keys("timestamp").keys == (key,)


@pytest.mark.parametrize("number", [2, 3])
def test_a_key_on_a_pkcs11_token_signs(number: int, token: None, keyring: Keyring, tmp_path: Path) -> None:
    (tmp_path / "keys" / "timestamp.pin").write_text(f"{TOKEN_PIN}\n")
    check(keyring, f"hsm:{number}?label=wavegate+test", f"hsm:{number}?label=wavegate+test")


def test_without_its_pin_a_token_key_is_locked_and_with_a_wrong_one_it_does_not_sign(
    token: None, keyring: Keyring, tmp_path: Path
) -> None:
    keyring.replace("timestamp", [import_key("hsm:2")])
    with pytest.raises(KeyLocked, match=r"needs the token's PIN in .*timestamp\.pin"):
        keyring.signer("timestamp").sign(PAYLOAD)
    wrong = Keyring(tmp_path / "keys", pin=lambda name: "9999")
    with pytest.raises(SigningFailed, match="the timestamp key's hsm: store did not sign") as refused:
        wrong.signer("timestamp").sign(PAYLOAD)
    assert "9999" not in str(refused.value)


def test_a_key_that_is_not_on_the_token_is_not_here(token: None) -> None:
    with pytest.raises(KeyNotHere, match=r"no key could be fetched from 'hsm:9'"):
        import_key("hsm:9")
    with pytest.raises(KeyNotHere, match="No PKCS#11 token found for label other"):
        import_key("hsm:2?label=other")


@pytest.fixture
def gpg_home() -> Iterator[Path]:
    """A GnuPG home with one ed25519 key; short, since its agent's socket may have 108 characters."""
    if shutil.which("gpg") is None:
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail("gpg is not installed (Debian: apt-get install gnupg)")
        pytest.skip("gpg is not installed (Debian: apt-get install gnupg)")
    home = Path(tempfile.mkdtemp(prefix="wg-gpg-"))
    try:
        make = ["--quick-gen-key", "tester@example.org", "ed25519", "sign", "never"]
        subprocess.run(
            ["gpg", "--homedir", home, "--batch", "--passphrase", "", *make], check=True, capture_output=True
        )
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def test_a_gnupg_key_signs_but_is_no_public_key_for_every_client(gpg_home: Path, keyring: Keyring) -> None:
    listed = subprocess.run(
        ["gpg", "--homedir", gpg_home, "--list-keys", "--with-colons"], check=True, capture_output=True, text=True
    )
    fingerprint = next(line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr:"))
    check(keyring, f"gnupg:{gpg_home}?key={fingerprint}", f"gnupg:{gpg_home}")
    with pytest.raises(KeyUnsuitable, match=r"pgp\+eddsa-ed25519 key, which only some clients can verify"):
        keyring.public("timestamp")
    shutil.rmtree(gpg_home / "private-keys-v1.d")
    subprocess.run(["gpgconf", "--homedir", gpg_home, "--kill", "all"], check=True)
    with pytest.raises(SigningFailed, match="the timestamp key's gnupg: store did not sign"):
        keyring.signer("timestamp").sign(PAYLOAD)


def test_a_key_in_aws_kms_signs(aws: Any, keyring: Keyring) -> None:
    made = aws.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")
    arn = made["KeyMetadata"]["Arn"]
    check(keyring, f"awskms:{arn}", f"awskms:{arn}")
    with pytest.raises(KeyNotHere, match="no key could be fetched from 'awskms:alias/none'"):
        import_key("awskms:alias/none")


def test_an_aws_alias_that_was_pointed_at_another_key_is_noticed(aws: Any, keyring: Keyring) -> None:
    first, second = (
        aws.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"] for _ in range(2)
    )
    aws.create_alias(AliasName="alias/timestamp", TargetKeyId=first)
    check(keyring, "awskms:alias/timestamp", "awskms:alias/timestamp")
    aws.update_alias(AliasName="alias/timestamp", TargetKeyId=second)
    with pytest.raises(SigningFailed, match="signed with another key than the keyring names"):
        keyring.signer("timestamp").sign(PAYLOAD)


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[VaultSimulator]:
    with running_vault() as vault:
        monkeypatch.setenv("VAULT_ADDR", vault.address)
        monkeypatch.setenv("VAULT_TOKEN", VaultSimulator.TOKEN)
        yield vault


def test_a_key_in_vault_signs_and_stays_at_its_version_when_it_is_rotated(
    vault: VaultSimulator, keyring: Keyring
) -> None:
    vault.rotate("timestamp")
    check(keyring, "hv:timestamp", "hv:timestamp/1")
    vault.rotate("timestamp")
    signature = keyring.signer("timestamp").sign(PAYLOAD)
    keyring.public("timestamp").verify_signature(signature, PAYLOAD)
    assert import_key("hv:timestamp").uri == "hv:timestamp/2"


def test_a_wrong_vault_token_is_told_without_it(
    vault: VaultSimulator, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.rotate("timestamp")
    keyring.replace("timestamp", [import_key("hv:timestamp")])
    monkeypatch.setenv("VAULT_TOKEN", "hvs.secret-of-somebody")
    with pytest.raises(SigningFailed, match="permission denied") as refused:
        keyring.signer("timestamp").sign(PAYLOAD)
    assert "somebody" not in str(refused.value)


def test_a_key_in_google_cloud_kms_signs(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_cloud_kms(KMS_KEY) as address, grpc.insecure_channel(address) as channel:
        client = _gcp_signer.kms.KeyManagementServiceClient(
            transport=KeyManagementServiceGrpcTransport(channel=channel)
        )
        monkeypatch.setattr(_gcp_signer.kms, "KeyManagementServiceClient", lambda: client)
        check(keyring, f"gcpkms:{KMS_KEY}", f"gcpkms:{KMS_KEY}")
        with pytest.raises(KeyNotHere, match="CryptoKeyVersion projects/x not found"):
            import_key("gcpkms:projects/x")


def test_a_key_in_azure_key_vault_signs(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    kid = "https://acme.vault.azure.net/keys/timestamp/0123456789abcdef"
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    x, y, d = (
        number.to_bytes(32, "big")
        for number in (numbers.public_numbers.x, numbers.public_numbers.y, numbers.private_value)
    )
    public = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    secret = JsonWebKey(kid=kid, key_ops=[KeyOperation.sign], d=d, **public)

    class AzureKeys:
        def __init__(self, vault_url: str, credential: str) -> None:
            assert (vault_url, credential) == ("https://acme.vault.azure.net/", "credential")

        def get_key(self, name: str) -> KeyVaultKey:
            assert name == "timestamp"
            return KeyVaultKey(key_id=kid, jwk=public | {"kid": kid})

    def crypto_client(key: str, credential: str) -> CryptographyClient:
        assert (key, credential) == (kid, "credential")
        return CryptographyClient.from_jwk(secret)

    monkeypatch.setattr(_azure_signer, "DefaultAzureCredential", lambda: "credential")
    monkeypatch.setattr(_azure_signer, "KeyClient", AzureKeys)
    monkeypatch.setattr(_azure_signer, "CryptographyClient", crypto_client)
    check(keyring, "azurekms:acme/timestamp", f"azurekms:{kid.removeprefix('https:')}")
