"""The device CA: who a device is, said in a certificate.

Files of its folder (0700; secret ones 0600): ``ca.pem``, ``ca-key.pem`` (PKCS #8, encrypted), ``passphrase``. The
server's own TLS key is made at start and kept in memory only: one secret less at rest, and no two server processes
that write one file.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keys.errors import DeviceCaExists, DeviceCaUnusable, InvalidCertificateRequest

CA_LIFE: Final = timedelta(days=3650)
SERVER_LIFE: Final = timedelta(days=30)
CLOCK_SKEW: Final = timedelta(minutes=5)  # a device whose clock is this far behind still accepts what was just issued
MAX_REQUEST_LENGTH: Final = 16 * 1024  # bytes; a request with a 4096-bit RSA key has under 2 KiB
RSA_BITS: Final = range(2048, 4097)  # less is weak, more costs the server dearly at every handshake
DEVICE_URI: Final = "urn:wavegate:device:"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A device's certificate: ``chain_pem`` is it and then the CA, ``fingerprint`` the hex SHA-256 of its DER form."""

    chain_pem: str
    fingerprint: str
    serial: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """What the device port shows: private key (PEM, not encrypted, memory only) and chain (PEM)."""

    private_key_pem: bytes
    chain_pem: bytes
    not_before: datetime
    not_after: datetime


def create_device_ca(folder: Path, *, now: datetime, organisation: str = "Wavegate") -> DeviceCa:
    """Make a CA (EC P-256, ten years) in a new ``folder``; its parent must exist.

    All of it appears in one rename, so a stop halfway leaves nothing but a folder ``.<name>.<random>.new`` beside.

    Raises:
        DeviceCaExists: The folder is there and not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DeviceCaExists(f"{folder} is not empty; a device CA is made once, open it or choose another folder")
    passphrase = secrets.token_urlsafe(32).encode()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            # A random part, since two CAs of one name would confuse whoever chooses an issuer by name.
            x509.NameAttribute(NameOID.COMMON_NAME, f"Wavegate device CA {secrets.token_hex(4)}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.new")
    new.mkdir(mode=0o700)
    try:
        _write_secret(new / "passphrase", passphrase)
        _write_secret(
            new / "ca-key.pem",
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase),
            ),
        )
        _write_secret(new / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
        _flush_folder(new)
        new.rename(folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        if folder.exists() and any(folder.iterdir()):  # somebody else's rename came first
            raise DeviceCaExists(f"{folder} was made by somebody else just now; open it") from error
        raise
    _flush_folder(folder.parent)
    return DeviceCa(certificate, key)


class DeviceCa:
    """Issues certificates to devices and to the port they call."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def open(cls, folder: Path, passphrase: bytes | None = None) -> DeviceCa:
        """Open a CA that :func:`create_device_ca` made; without a passphrase the file beside the key is read.

        Raises:
            DeviceCaUnusable: A file is missing or unreadable, the passphrase is not the key's, or key and
                certificate are not a pair.
        """
        try:
            if passphrase is None:
                passphrase = (folder / "passphrase").read_bytes().strip()
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
            key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), passphrase)
        except OSError as error:
            raise DeviceCaUnusable(
                f"the device CA in {folder} cannot be read ({error.strerror}: {error.filename}); "
                "restore the folder from the backup of the home"
            ) from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise DeviceCaUnusable(
                f"the device CA in {folder} does not open: a file is damaged, or the passphrase is not the key's"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise DeviceCaUnusable(f"ca-key.pem in {folder} is not the key of ca.pem; restore both from one backup")
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> str:
        """The CA's certificate, PEM: what devices trust the device port by."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def not_after(self) -> datetime:
        """When the CA ends; no certificate it issues outlives it."""
        return self._certificate.not_valid_after_utc

    def issue(
        self, request: bytes, device_id: str, *, now: datetime, days: int = 30, organisation: str | None = None
    ) -> IssuedCertificate:
        """Certify the key of a request (PKCS #10, PEM or DER) as the device's.

        Nothing is taken from the request but its key: subject and extensions are the server's (O the organisation's
        slug, CN the device id, SAN ``urn:wavegate:device:<id>``, EKU clientAuth), valid from five minutes ago.

        Raises:
            InvalidCertificateRequest: Not a request, not signed by its own key, or a key that TLS here does not
                take (EC P-256, P-384 and RSA of 2048 to 4096 bits are taken).
        """
        public_key = _requested_key(request)
        certificate = self._sign(
            x509.Name(
                [
                    *([] if organisation is None else [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]),
                    x509.NameAttribute(NameOID.COMMON_NAME, device_id),
                ]
            ),
            public_key,
            [x509.UniformResourceIdentifier(f"{DEVICE_URI}{device_id}")],
            ExtendedKeyUsageOID.CLIENT_AUTH,
            now,
            timedelta(days=days),
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        return IssuedCertificate(
            chain_pem=certificate.public_bytes(serialization.Encoding.PEM).decode() + self.certificate_pem,
            fingerprint=hashlib.sha256(der).hexdigest(),
            serial=f"{certificate.serial_number:x}",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )

    def server_certificate(
        self, names: Sequence[str], *, now: datetime, life: timedelta = SERVER_LIFE
    ) -> ServerCertificate:
        """A fresh key and certificate (EKU serverAuth) for the device port under these DNS names or IP addresses.

        Raises:
            ValueError: ``names`` is empty; devices check the name they dialled, so a nameless server helps nobody.
        """
        if not names:
            raise ValueError("the device port needs at least one DNS name or IP address, found none")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Wavegate device port")]),
            key.public_key(),
            [_general_name(name) for name in names],
            ExtendedKeyUsageOID.SERVER_AUTH,
            now,
            life,
        )
        return ServerCertificate(
            private_key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            chain_pem=certificate.public_bytes(serialization.Encoding.PEM) + self.certificate_pem.encode(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )

    def _sign(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: datetime,
        life: timedelta,
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + life, self.not_after))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            # One purpose each: a device's certificate must never pass for the server's.
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )


def _requested_key(request: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    if len(request) > MAX_REQUEST_LENGTH:
        raise InvalidCertificateRequest(
            f"the certificate request has {len(request)} bytes, at most {MAX_REQUEST_LENGTH} are read"
        )
    try:
        if b"-----BEGIN" in request:
            asked = x509.load_pem_x509_csr(request)
        else:
            asked = x509.load_der_x509_csr(request)
        key, signed = asked.public_key(), asked.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InvalidCertificateRequest(
            "the certificate request is no PKCS #10 request in PEM or DER that can be read here"
        ) from error
    if not signed:
        raise InvalidCertificateRequest("the certificate request is not signed by its own key; make it afresh")
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_BITS:
        return key
    raise InvalidCertificateRequest(
        f"the certificate request has a key of type {_describe(key)}; "
        "make one of EC P-256, EC P-384 or RSA with 2048 to 4096 bits"
    )


def _describe(key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey")


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_secret(path: Path, content: bytes) -> None:
    # The mode stands in the open call: there is no moment in which the file is there and readable by others.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
