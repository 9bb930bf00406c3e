"""The device CA's key in a token or a key service: what it signs is held against openssl and cryptography."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.identity import Keypair
from api.device import device_pb2
from api.device.errors import refusal_of
from api.device.server import DeviceServer, DeviceServerSettings
from keys.authorities import read_authorities
from keys.device_ca import DeviceCa, create_device_ca
from keys.device_ca_rotation import finish, rotate
from keys.errors import DeviceCaUnusable, KeyExists, KeyUnsuitable, SigningRefused
from keys.ring_file import read_ring
from keys.signerd.ca_key import new_ca_key
from keys.stores import import_key, open_store
from tests.simulators.devices import enrol_device, new_key, new_token, private_pem, request_for, stub, utc_now
from tests.simulators.fleet import FleetSimulator
from tests.simulators.key_stores import TOKEN_PIN, VaultSimulator, running_vault
from tests.simulators.permits import DevicePermitsSimulator
from tests.simulators.signer_process import signer_process

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


@pytest.mark.parametrize("number", [2, 3], ids=["P-256", "P-384"])
def test_devices_and_port_of_a_ca_on_a_token_take_each_other_for_what_they_are(
    number: int, token: None, tmp_path: Path
) -> None:
    ca = create_device_ca(tmp_path / "ca", now=utc_now(), key=f"hsm:{number}?{LABEL}", pin=TOKEN_PIN)
    foreign = create_device_ca(tmp_path / "foreign", now=utc_now())
    fleet, permits = FleetSimulator(), DevicePermitsSimulator()
    enrolment = new_token(fleet)
    device = enrol_device(fleet, ca, enrolment, "press-1", now=utc_now())
    settings = DeviceServerSettings(listen="127.0.0.1:0", workers=2)
    server = DeviceServer(fleet, ca, lambda *_: True, lambda *_: [], permits, settings, utc_now)
    port, key = server.start(), private_pem(device.key)
    try:
        with stub(port, ca.certificate_pem.encode(), key, device.chain) as caller:
            assert caller.CheckIn(device_pb2.CheckInRequest(), timeout=10).device_name == "press-1"
            renewal = device_pb2.RenewCertificateRequest(certificate_request=Keypair().request(Encoding.DER))
            assert caller.RenewCertificate(renewal, timeout=10).device_ca == ca.certificate_pem
        with stub(port, foreign.certificate_pem.encode(), key, device.chain) as caller, pytest.raises(grpc.RpcError):
            caller.CheckIn(device_pb2.CheckInRequest(), timeout=10)
    finally:
        server.stop(0)


def test_a_renewal_is_unavailable_while_the_key_is_not_in_reach(token: None, tmp_path: Path) -> None:
    ca = create_device_ca(tmp_path / "ca", now=utc_now(), key=f"hsm:2?{LABEL}", pin=TOKEN_PIN)
    (tmp_path / "ca" / "device-ca.pin").unlink()
    with pytest.raises(DeviceCaUnusable) as refused:
        ca.issue(request_for(new_key()), "dev_1", now=utc_now())
    assert refusal_of(refused.value).status is grpc.StatusCode.UNAVAILABLE


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


@pytest.fixture
def signer_home() -> Iterator[Path]:
    # Not below pytest's folders: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="wg-signer-") as folder:
        yield Path(folder) / "home"


def test_a_ca_whose_key_the_signer_process_holds_certifies_and_nothing_else_is_signed_with_it(
    signer_home: Path, tmp_path: Path
) -> None:
    new_ca_key(signer_home, "device-ca")
    socket = signer_home.parent / "run" / "socket"
    uri = f"wavegate-signer:{socket}?key=device-ca"
    with signer_process(signer_home, socket):
        ca = create_device_ca(tmp_path / "ca", now=utc_now(), key=uri)
        check(ca, tmp_path)
        with pytest.raises(DeviceCaUnusable, match="at most 398 days are"):
            ca.issue(request_for(new_key()), "dev_1", now=utc_now(), days=400)
        with pytest.raises(SigningRefused, match="no part of a certificate"):
            open_store("timestamp", uri, import_key(uri).public, lambda _: "").sign(b'{"_type":"timestamp"}')

    record = [json.loads(line) for line in (signer_home / "signatures.jsonl").read_text().splitlines()]
    assert [(one["event"], one.get("subject", "")[:9]) for one in record] == [
        ("certified", "CN=Wavega"),
        ("certified", "CN=dev_1,"),
        ("certified", "CN=Wavega"),
        ("refused", ""),
        ("refused", ""),
    ]
    assert {one.name for one in (tmp_path / "ca").iterdir()} == {"authorities.json", "passphrase"}
    with pytest.raises(DeviceCaUnusable, match=r"the signer at .* does not answer"):
        ca.issue(request_for(new_key()), "dev_1", now=utc_now())


def test_a_key_of_a_ca_is_made_once_and_under_a_name_of_a_ca(signer_home: Path) -> None:
    new_ca_key(signer_home, "device-ca")
    with pytest.raises(KeyExists):
        new_ca_key(signer_home, "device-ca")
    with pytest.raises(KeyUnsuitable, match="expected device-ca, or device-ca-2027"):
        new_ca_key(signer_home, "timestamp")
    new_ca_key(signer_home, "device-ca-2027")
    assert set(read_ring(signer_home / "keyring.json")) == {"device-ca", "device-ca-2027"}
