"""Which certificates the signer process signs with a device CA's key, and which it refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keys.errors import SigningRefused
from keys.signerd.certificates import judge_certificate

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CA = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
CA_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Wavegate device CA 1f")])
DEVICE = x509.UniformResourceIdentifier("urn:wavegate:device:dev_1")
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def tbs(
    *,
    ca: bool = False,
    path_length: int | None = None,
    key: ec.EllipticCurvePrivateKey = OTHER,
    subject: str = "dev_1",
    days: int = 30,
    purposes: list[x509.ObjectIdentifier] | None = None,
    names: list[x509.GeneralName] | None = None,
    signs_others: bool = False,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
) -> bytes:
    """The part of a certificate that is signed; by default a device's, as the server asks for it."""
    name = CA_NAME if subject == "CA" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    usage = {"key_cert_sign": ca or signs_others, "crl_sign": ca, "digital_signature": not ca}
    no = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    body = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(CA_NAME)
        .public_key(key.public_key())
        .serial_number(0xABC)
        .not_valid_before(NOON - timedelta(minutes=5))
        .not_valid_after(NOON + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(x509.KeyUsage(**usage, **dict.fromkeys(no, False), decipher_only=False), critical=True)
    )
    if not ca:
        if purposes != []:
            body = body.add_extension(x509.ExtendedKeyUsage(purposes or [CLIENT]), critical=True)
        if names != []:
            body = body.add_extension(x509.SubjectAlternativeName(names or [DEVICE]), critical=False)
    return body.sign(CA, algorithm or hashes.SHA256()).tbs_certificate_bytes


def test_a_devices_certificate_is_signed_and_told() -> None:
    told = judge_certificate(tbs(), CA.public_key(), now=NOON)
    assert (told.subject, told.serial, told.not_after) == ("CN=dev_1", "abc", NOON + timedelta(days=30))


@pytest.mark.parametrize(
    "payload",
    [
        tbs(purposes=[SERVER], names=[x509.DNSName("gate.example.com")]),
        tbs(days=398),
        tbs(ca=True, path_length=0, key=CA, subject="CA", days=3650),
    ],
    ids=["the port's", "a year and a month", "the CA's own"],
)
def test_what_the_server_needs_is_signed(payload: bytes) -> None:
    assert judge_certificate(payload, CA.public_key(), now=NOON).sha256


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (lambda: tbs(ca=True, path_length=0, days=30), "a CA's with another key"),
        (lambda: tbs(ca=True, path_length=0, key=CA, days=30), "a CA's with another key"),
        (lambda: tbs(ca=True, path_length=1, key=CA, subject="CA"), "certifies no other CA"),
        (lambda: tbs(ca=True, path_length=None, key=CA, subject="CA"), "certifies no other CA"),
        (lambda: tbs(ca=True, path_length=0, key=CA, subject="CA", days=4000), "ten years at most"),
        (lambda: tbs(signs_others=True), "could sign others"),
        (lambda: tbs(days=399), "at most 398 days are"),
        (lambda: tbs(purposes=[CLIENT, SERVER]), "for clients or for servers"),
        (lambda: tbs(purposes=[ExtendedKeyUsageOID.CODE_SIGNING]), "for clients or for servers"),
        (lambda: tbs(purposes=[]), "not what it is for"),
        (lambda: tbs(names=[]), "not what it is for, or for whom"),
        (lambda: tbs(names=[x509.DNSName("gate.example.com")]), "names one device and nothing else"),
        (lambda: tbs(names=[DEVICE, x509.DNSName("gate.example.com")]), "names one device and nothing else"),
        (lambda: tbs(names=[DEVICE, DEVICE]), "names one device and nothing else"),
        (lambda: tbs(names=[x509.UniformResourceIdentifier("urn:other:1")]), "names one device and nothing else"),
        (lambda: tbs(purposes=[SERVER]), "names of servers and no device's"),
        (lambda: tbs(algorithm=hashes.SHA384()), "another kind of signature"),
        (lambda: tbs() + b"\0", "no part of a certificate"),
        (lambda: tbs()[:-1], "no part of a certificate"),
        (lambda: b'{"_type":"timestamp","version":7}', "no part of a certificate"),
        (lambda: b"", "no part of a certificate"),
        (lambda: b"\x30\x80" + b"\0" * 200, "no part of a certificate"),
    ],
)
def test_what_would_reach_further_is_refused(payload: Callable[[], bytes], why: str) -> None:
    with pytest.raises(SigningRefused, match=why):
        judge_certificate(payload(), CA.public_key(), now=NOON)
