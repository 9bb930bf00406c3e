"""The device CA: who a device is, said in a certificate.

Files of its folder (0700; secret ones 0600): ``ca.pem``, ``ca-key.pem`` (PKCS #8, encrypted), ``passphrase``, and once
the CA was rotated or its key is in a store, :mod:`keys.authorities`. The server's own TLS key is made at start and kept
in memory only: one secret less at rest, and no two server processes that write one file.
"""

from __future__ import annotations

import hashlib
import ipaddress
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

from keys.authorities import (
    FIRST_CERTIFICATE,
    FIRST_KEY,
    PIN_FILE,
    Authority,
    issuing,
    open_key,
    passphrase_in,
    pin_in,
    read_authorities,
    stamp,
    write_authorities,
)
from keys.errors import CustodyError, DeviceCaExists, DeviceCaUnusable, InvalidCertificateRequest, KeyUnsuitable
from keys.files import PASSPHRASE, SCHEME, sync_folder, write_private
from keys.store_key import ec_public, hash_for
from keys.stores import import_key

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


def create_device_ca(
    folder: Path, *, now: datetime, organisation: str = "Wavegate", key: str = "", pin: str | None = None
) -> DeviceCa:
    """Make a CA (ten years) in a new ``folder``; its parent must exist.

    All of it appears in one rename, so a stop halfway leaves nothing but a folder ``.<name>.<random>.new`` beside.

    Args:
        folder: Of the CA.
        now: When it begins.
        organisation: O of its name.
        key: Address of its key as :func:`keys.stores.import_key` takes it; empty for an EC P-256 key in an encrypted
            file of the folder.
        pin: Of the token that holds the key; kept in the folder.

    Raises:
        DeviceCaExists: The folder is there and not empty.
        KeyUnsuitable, KeyNotHere, KeyStoreMissing, DeviceCaUnusable: The key cannot be a CA's, or does not sign.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DeviceCaExists(f"{folder} is not empty; a device CA is made once, open it or choose another folder")
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.new")
    new.mkdir(mode=0o700)
    try:
        write_private(new / PASSPHRASE, secrets.token_urlsafe(32).encode())
        if pin is not None:
            write_private(new / PIN_FILE, f"{pin}\n".encode())
        made = new_authority(new, now=now, issues_from=now, organisation=organisation, key=key, file=FIRST_KEY)
        if key:
            write_authorities(new, (made,))
        else:
            write_private(new / FIRST_CERTIFICATE, made.pem.encode())
        new.rename(folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        if folder.exists() and any(folder.iterdir()):  # somebody else's rename came first
            raise DeviceCaExists(f"{folder} was made by somebody else just now; open it") from error
        raise
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    return DeviceCa(folder)


def new_authority(
    folder: Path, *, now: datetime, issues_from: datetime, organisation: str, key: str, file: str
) -> Authority:
    """Make a CA's certificate, signed by itself, and its key in ``file`` unless ``key`` is the address of one.

    Raises:
        KeyUnsuitable, KeyNotHere, KeyStoreMissing: The address names no key that a CA may have.
        DeviceCaUnusable: The key did not sign, or gave a signature that is none.
    """
    if key:
        uri, known = import_key(key, secret=lambda _: pin_in(folder))
        if uri is None or uri.startswith(f"{SCHEME}:"):
            raise KeyUnsuitable(f"{key} is no key of a store; without an address the CA's key is a file of its own")
        public = ec_public(known)
    else:
        uri, made = f"{SCHEME}:{file}", ec.generate_private_key(ec.SECP256R1())
        encrypted = serialization.BestAvailableEncryption(passphrase_in(folder).encode())
        pem = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted)
        write_private(folder / file, pem)
        public = made.public_key()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            # A random part, since two CAs of one name would confuse whoever chooses an issuer by name.
            x509.NameAttribute(NameOID.COMMON_NAME, f"Wavegate device CA {secrets.token_hex(4)}"),
        ]
    )
    body = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return Authority(certificate=_signed(body, open_key(folder, uri, public)), key=uri, issues_from=issues_from)


class DeviceCa:
    """Issues certificates to devices and to the port they call.

    While a rotation is under way there are two CAs. The newer one certifies devices from its time on; the older one
    certifies the port until the rotation is finished, since devices that have not renewed trust no other.
    A change of the folder by another process is seen at the next call. Threads may share an instance.
    """

    def __init__(self, folder: Path, passphrase: bytes | None = None) -> None:
        self._folder: Final = folder
        self._passphrase: Final = passphrase
        self._read: tuple[tuple[int, int, int] | None, tuple[Authority, ...]] | None = None
        self._keys: Final[dict[tuple[str, bytes], ec.EllipticCurvePrivateKey]] = {}

    @classmethod
    def open(cls, folder: Path, passphrase: bytes | None = None) -> DeviceCa:
        """Open what :func:`create_device_ca` made; without a passphrase the file beside the key is read.

        Raises:
            DeviceCaUnusable: A file is missing or unreadable, the passphrase is not the key's, key and certificate are
                not a pair, or the key's store is not reached from here.
        """
        opened = cls(folder, passphrase)
        for authority in opened.authorities:
            opened._key_of(authority)
        return opened

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """All that are trusted now, oldest first."""
        now = stamp(self._folder)
        if self._read is None or self._read[0] != now:
            self._read = (now, read_authorities(self._folder))
        return self._read[1]

    @property
    def certificate_pem(self) -> str:
        """The certificates of all CAs, newest first, PEM: what devices and their port trust each other by."""
        return "".join(one.pem for one in reversed(self.authorities))

    @property
    def not_after(self) -> datetime:
        """When the newest CA ends; no certificate outlives the CA that issued it."""
        return self.authorities[-1].certificate.not_valid_after_utc

    def issue(
        self, request: bytes, device_id: str, *, now: datetime, days: int = 30, organisation: str | None = None
    ) -> IssuedCertificate:
        """Certify the key of a request (PKCS #10, PEM or DER) as the device's.

        Nothing is taken from the request but its key: subject and extensions are the server's (O the organisation's
        slug, CN the device id, SAN ``urn:wavegate:device:<id>``, EKU clientAuth), valid from five minutes ago.

        Raises:
            InvalidCertificateRequest: Not a request, not signed by its own key, or a key that TLS here does not
                take (EC P-256, P-384 and RSA of 2048 to 4096 bits are taken).
            DeviceCaUnusable: The CA's key did not sign.
        """
        public_key = _requested_key(request)
        by = issuing(self.authorities, now)
        certificate = self._sign(
            by,
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
            chain_pem=certificate.public_bytes(serialization.Encoding.PEM).decode() + by.pem,
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
            DeviceCaUnusable: The CA's key did not sign.
        """
        if not names:
            raise ValueError("the device port needs at least one DNS name or IP address, found none")
        key, by = ec.generate_private_key(ec.SECP256R1()), self.authorities[0]
        certificate = self._sign(
            by,
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
            chain_pem=certificate.public_bytes(serialization.Encoding.PEM) + by.pem.encode(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )

    def _sign(
        self,
        by: Authority,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: datetime,
        life: timedelta,
    ) -> x509.Certificate:
        key = self._key_of(by)
        body = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + life, by.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            # One purpose each: a device's certificate must never pass for the server's.
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        return _signed(body, key)

    def _key_of(self, authority: Authority) -> ec.EllipticCurvePrivateKey:
        # Opened once: an encrypted file costs a key derivation, a store a connection.
        at = (authority.key, authority.certificate.fingerprint(hashes.SHA256()))
        key = self._keys.get(at)
        if key is None:
            key = self._keys[at] = open_key(
                self._folder, authority.key, authority.certificate.public_key(), self._passphrase
            )
        return key


def _signed(body: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    try:
        return body.sign(key, hash_for(key.public_key()))
    except CustodyError as error:
        raise DeviceCaUnusable(f"the device CA did not sign: {error}") from error


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
