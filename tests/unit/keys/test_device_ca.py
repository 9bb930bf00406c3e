"""What the device CA signs, and what it does not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keys.device_ca import DeviceCa, create_device_ca
from keys.errors import DeviceCaExists, DeviceCaUnusable, InvalidCertificateRequest

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
Signing = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> DeviceCa:
    return create_device_ca(tmp_path_factory.mktemp("home") / "device-ca", now=NOON)


def request(key: Signing, *, encoding: serialization.Encoding = serialization.Encoding.PEM) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dev_somebody_else")])
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(encoding)


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_certificate_says_what_the_server_says_and_nothing_of_the_request(ca: DeviceCa) -> None:
    issued = ca.issue(request(p256()), "dev_1", now=NOON, organisation="acme")

    certificate, authority = x509.load_pem_x509_certificates(issued.chain_pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert certificate.subject.rfc4514_string() == "CN=dev_1,O=acme"
    assert list(names) == [x509.UniformResourceIdentifier("urn:wavegate:device:dev_1")]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issued.not_before == NOON - timedelta(minutes=5)
    assert issued.not_after == NOON + timedelta(days=30)
    assert issued.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()
    certificate.verify_directly_issued_by(authority)
    assert authority.public_bytes(serialization.Encoding.PEM).decode() == ca.certificate_pem


@pytest.mark.parametrize(
    "make",
    [p256, lambda: ec.generate_private_key(ec.SECP384R1()), lambda: rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "P-384", "RSA 2048"],
)
@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_keys_that_tls_takes_are_certified(
    ca: DeviceCa, make: Callable[[], Signing], encoding: serialization.Encoding
) -> None:
    key = make()
    issued = ca.issue(request(key, encoding=encoding), "dev_1", now=NOON)
    assert x509.load_pem_x509_certificates(issued.chain_pem.encode())[0].public_key() == key.public_key()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "RSA 1024"),
        (ed25519.Ed25519PrivateKey.generate, "Ed25519"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "EC secp256k1"),
    ],
)
def test_other_keys_are_refused_by_name(ca: DeviceCa, make: Callable[[], Signing], named: str) -> None:
    with pytest.raises(InvalidCertificateRequest, match=named):
        ca.issue(request(make()), "dev_1", now=NOON)


def test_a_request_that_is_not_signed_by_its_key_is_refused(ca: DeviceCa) -> None:
    der = bytearray(request(p256(), encoding=serialization.Encoding.DER))
    place = der.index(b"dev_somebody_else")
    der[place : place + 3] = b"usr"
    with pytest.raises(InvalidCertificateRequest, match="not signed by its own key"):
        ca.issue(bytes(der), "dev_1", now=NOON)


@pytest.mark.parametrize("garbage", [b"", b"\x30\x82", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"x" * 20_000])
def test_garbage_is_refused(ca: DeviceCa, garbage: bytes) -> None:
    with pytest.raises(InvalidCertificateRequest):
        ca.issue(garbage, "dev_1", now=NOON)


def test_no_certificate_outlives_the_ca(ca: DeviceCa) -> None:
    late = ca.not_after - timedelta(days=1)
    assert ca.issue(request(p256()), "dev_1", now=late).not_after == ca.not_after


def test_the_servers_certificate_is_for_serving_only(ca: DeviceCa) -> None:
    made = ca.server_certificate(["gate.example.com", "127.0.0.1", "::1"], now=NOON)

    certificate = x509.load_pem_x509_certificates(made.chain_pem)[0]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert names.get_values_for_type(x509.DNSName) == ["gate.example.com"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    with pytest.raises(ValueError, match="found none"):
        ca.server_certificate([], now=NOON)


def test_a_ca_is_opened_again_and_is_the_same(tmp_path: Path) -> None:
    made = create_device_ca(tmp_path / "ca", now=NOON)
    opened = DeviceCa.open(tmp_path / "ca")

    assert opened.certificate_pem == made.certificate_pem
    issued = opened.issue(request(p256()), "dev_1", now=NOON)
    x509.load_pem_x509_certificates(issued.chain_pem.encode())[0].verify_directly_issued_by(
        x509.load_pem_x509_certificate(made.certificate_pem.encode())
    )


def test_files_are_secret_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_device_ca(tmp_path / "ca", now=NOON)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "ca").iterdir()} == {
        "ca.pem": "0o600",
        "ca-key.pem": "0o600",
        "passphrase": "0o600",
    }
    assert b"ENCRYPTED" in (tmp_path / "ca" / "ca-key.pem").read_bytes()


def test_a_second_ca_in_the_folder_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    create_device_ca(tmp_path / "ca", now=NOON)
    before = (tmp_path / "ca" / "ca-key.pem").read_bytes()

    with pytest.raises(DeviceCaExists):
        create_device_ca(tmp_path / "ca", now=NOON)

    assert (tmp_path / "ca" / "ca-key.pem").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def lose_key(folder: Path) -> None:
    (folder / "ca-key.pem").unlink()


def damage_key(folder: Path) -> None:
    (folder / "ca-key.pem").write_bytes(b"nonsense")


def other_passphrase(folder: Path) -> None:
    (folder / "passphrase").write_bytes(b"other")


def other_key(folder: Path) -> None:
    other = folder.with_name("other")
    create_device_ca(other, now=NOON)
    for name in ("ca-key.pem", "passphrase"):
        (folder / name).write_bytes((other / name).read_bytes())


@pytest.mark.parametrize("harm", [lose_key, damage_key, other_passphrase, other_key])
def test_a_ca_that_cannot_be_used_says_so_and_shows_no_secret(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    create_device_ca(tmp_path / "ca", now=NOON)
    secret = (tmp_path / "ca" / "passphrase").read_text()
    harm(tmp_path / "ca")

    with pytest.raises(DeviceCaUnusable) as refused:
        DeviceCa.open(tmp_path / "ca")

    assert secret not in str(refused.value)
