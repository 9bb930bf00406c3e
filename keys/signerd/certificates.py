"""What the signer process certifies with a device CA's key: the rules, as a pure function of what is to be signed.

A server that is broken into can ask for certificates of devices and of the port, as it does every day, and each stands
in the record. It cannot ask for what would outlast it or reach further:

1. The payload is the signed part of an X.509 certificate, whole, to be signed the way this key signs.
2. The CA's own certificate: of this very key, for certificates of ends only, for ten years at most.
3. Any other is no CA, is for clients or for servers and not for both, and ends within 398 days.
4. For clients it names one device and nothing else; for servers no device.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from keys.device_ca import CA_LIFE, CLOCK_SKEW, DEVICE_URI
from keys.errors import SigningRefused
from keys.store_key import hash_for

CA_KEY: Final = re.compile(r"device-ca(-[a-z0-9]{1,20})?")
LONGEST_LIFE: Final = timedelta(days=398)  # as the setting certificate_days
_LEEWAY: Final = CLOCK_SKEW  # server and signer are one machine, or close
# AlgorithmIdentifier of ecdsa-with-SHA256 and -SHA384, which the payload must name, too.
_ALGORITHMS: Final[dict[type[hashes.HashAlgorithm], bytes]] = {
    hashes.SHA256: bytes.fromhex("300a06082a8648ce3d040302"),
    hashes.SHA384: bytes.fromhex("300a06082a8648ce3d040303"),
}
_NO_SIGNATURE: Final = bytes.fromhex("03020000")  # a BIT STRING of one byte: it is there to be read, not verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """What the record tells of a certificate: ``subject`` as RFC 4514, ``serial`` hex, ``sha256`` of the payload."""

    subject: str
    serial: str
    not_after: datetime
    sha256: str


def judge_certificate(payload: bytes, own: ec.EllipticCurvePublicKey, *, now: datetime) -> Certified:
    """Decide whether to sign.

    Args:
        payload: The DER form of a TBSCertificate.
        own: The public half of the key that is asked for.
        now: Aware UTC time.

    Raises:
        SigningRefused: The message says which rule.
    """
    certificate = _read(payload, own)  # (1)
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise SigningRefused(f"the certificate lacks an extension or garbles one: {error}") from error
    life = certificate.not_valid_after_utc - now
    if constraints.ca:
        if certificate.public_key() != own or certificate.subject != certificate.issuer:  # (2)
            raise SigningRefused("the certificate is a CA's with another key than the one that signs it")
        if constraints.path_length != 0 or life > CA_LIFE + _LEEWAY:
            raise SigningRefused("a device CA certifies no other CA, and lasts for ten years at most")
    else:
        if usage.key_cert_sign or usage.crl_sign or life > LONGEST_LIFE + _LEEWAY:  # (3)
            raise SigningRefused(
                f"the certificate could sign others, or would be valid until {certificate.not_valid_after_utc:%Y-%m-%d}"
                f"; at most {LONGEST_LIFE.days} days are"
            )
        _check_purpose(extensions)
    return Certified(
        subject=certificate.subject.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        not_after=certificate.not_valid_after_utc,
        sha256=hashlib.sha256(payload).hexdigest(),
    )


def _read(payload: bytes, own: ec.EllipticCurvePublicKey) -> x509.Certificate:
    algorithm = _ALGORITHMS[type(hash_for(own))]
    whole = payload + algorithm + _NO_SIGNATURE
    length = len(whole).to_bytes(4, "big").lstrip(b"\0") or b"\0"
    head = bytes([len(whole)]) if len(whole) < 128 else bytes([0x80 | len(length)]) + length
    try:
        certificate = x509.load_der_x509_certificate(b"\x30" + head + whole)
        # Read anew and compared: nothing may stand behind what was read, or be read in two ways.
        is_whole = certificate.tbs_certificate_bytes == payload and algorithm in payload
    except ValueError as error:
        raise SigningRefused(f"what is to be signed is no part of a certificate: {error}") from error
    if not is_whole:
        raise SigningRefused("the certificate names another kind of signature than this key makes")
    return certificate


def _check_purpose(extensions: x509.Extensions) -> None:
    try:
        purposes = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, ValueError) as error:
        raise SigningRefused(f"the certificate says not what it is for, or for whom: {error}") from error
    uris = [str(one.value) for one in names if isinstance(one, x509.UniformResourceIdentifier)]
    if purposes == [ExtendedKeyUsageOID.CLIENT_AUTH]:
        if len(names) != 1 or len(uris) != 1 or not uris[0].startswith(DEVICE_URI):  # (4)
            raise SigningRefused("a certificate for clients names one device and nothing else")
    elif purposes == [ExtendedKeyUsageOID.SERVER_AUTH]:
        if uris or not names:
            raise SigningRefused("a certificate for servers has names of servers and no device's")
    else:
        raise SigningRefused("a certificate is for clients or for servers, and for nothing else")
