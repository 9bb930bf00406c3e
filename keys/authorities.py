"""``authorities.json``: which CAs devices and their port trust, which of them certifies devices, where the keys are.

Oldest first: ``{"format": 1, "authorities": [{"certificate": PEM, "key": URI, "issues_from": RFC 3339}]}``. There is
one, or two while a rotation is under way. A URI is ``sealed:<file>`` for an encrypted file beside it, which the
folder's ``passphrase`` opens, or one of :mod:`keys.stores`. A folder without this file has one CA: ``ca.pem`` and
``ca-key.pem``.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from securesystemslib.signer import SSlibKey

from keys.errors import CustodyError, DeviceCaUnusable, KeyLocked
from keys.files import PASSPHRASE, SCHEME, replace_private
from keys.store_key import StoreKey, ec_public
from keys.stores import open_store

AUTHORITIES_FILE: Final = "authorities.json"
FIRST_CERTIFICATE: Final = "ca.pem"
FIRST_KEY: Final = "ca-key.pem"
PIN_FILE: Final = "device-ca.pin"
NAME: Final = "device CA"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA: its certificate, where its key is, and from when on it certifies devices."""

    certificate: x509.Certificate
    key: str
    issues_from: datetime

    @property
    def pem(self) -> str:
        """The certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def sha256(self) -> str:
        """Of the certificate's DER form, hex."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def not_after_text(self) -> str:
        """When it ends, RFC 3339."""
        return _text(self.certificate.not_valid_after_utc)

    @property
    def issues_from_text(self) -> str:
        """From when on it certifies devices, RFC 3339."""
        return _text(self.issues_from)


def issuing(authorities: Sequence[Authority], now: datetime) -> Authority:
    """The CA that certifies devices: the newest whose time has come."""
    return next((one for one in reversed(authorities) if one.issues_from <= now), authorities[0])


def read_authorities(folder: Path) -> tuple[Authority, ...]:
    """All CAs of a folder, oldest first; raises DeviceCaUnusable."""
    try:
        if not (folder / AUTHORITIES_FILE).exists():
            first = x509.load_pem_x509_certificate((folder / FIRST_CERTIFICATE).read_bytes())
            return (Authority(certificate=first, key=f"{SCHEME}:{FIRST_KEY}", issues_from=first.not_valid_before_utc),)
        stored = json.loads((folder / AUTHORITIES_FILE).read_bytes())
        if stored["format"] != _FORMAT:
            raise DeviceCaUnusable(
                f"{folder / AUTHORITIES_FILE} has format {stored['format']!r}, this version reads {_FORMAT}"
            )
        found = tuple(
            Authority(
                certificate=x509.load_pem_x509_certificate(str(one["certificate"]).encode()),
                key=str(one["key"]),
                issues_from=datetime.fromisoformat(one["issues_from"]).astimezone(UTC),
            )
            for one in stored["authorities"]
        )
    except OSError as error:
        raise _unreadable(folder, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder) from error
    if not found:
        raise _damaged(folder)
    return found


def write_authorities(folder: Path, authorities: Sequence[Authority]) -> None:
    """Replace the file in one step that survives a power cut; raises OSError."""
    told = [{"certificate": one.pem, "key": one.key, "issues_from": one.issues_from_text} for one in authorities]
    text = json.dumps({"format": _FORMAT, "authorities": told}, indent=2) + "\n"
    replace_private(folder / AUTHORITIES_FILE, text.encode())


def stamp(folder: Path) -> tuple[int, int, int] | None:
    """What tells one content of the file from the next; None while there is no file."""
    try:
        found = (folder / AUTHORITIES_FILE).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Wait until no other process changes the CAs of this folder; raises DeviceCaUnusable when it is not there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def open_key(
    folder: Path, uri: str, public: CertificatePublicKeyTypes, passphrase: bytes | None = None
) -> ec.EllipticCurvePrivateKey:
    """A CA's private key, or what signs with it where it is.

    Args:
        folder: Of the CAs.
        uri: Of the key.
        public: What it must be the private half of.
        passphrase: Opens an encrypted file, instead of the folder's.

    Raises:
        DeviceCaUnusable: A file is missing or unreadable, the passphrase is not the key's, the key is not the
            certificate's, or its store cannot be reached from here.
    """
    scheme, _, name = uri.partition(":")
    if scheme == SCHEME and Path(name).name == name:
        key = _from_file(folder, name, passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != public:
            raise DeviceCaUnusable(
                f"{name} in {folder} is not the key of the CA's certificate; restore both from one backup"
            )
        return key
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise _damaged(folder)
    try:
        known = SSlibKey.from_crypto(public)
        return StoreKey(open_store(NAME, uri, known, lambda _: pin_in(folder)), ec_public(known))
    except CustodyError as error:
        raise DeviceCaUnusable(f"the device CA in {folder} has no key that can be reached: {error}") from error


def passphrase_in(folder: Path) -> str:
    """What opens the key files of a folder; raises DeviceCaUnusable."""
    try:
        return (folder / PASSPHRASE).read_text("utf-8").strip()
    except OSError as error:
        raise _unreadable(folder, error) from error


def pin_in(folder: Path) -> str:
    """The PIN of the token that holds the CA's key; raises KeyLocked."""
    file = folder / PIN_FILE
    try:
        return file.read_text("utf-8").strip()
    except OSError as error:
        raise KeyLocked(f"the {NAME}'s key needs the token's PIN in {file}; put it there, mode 0600") from error


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _from_file(folder: Path, name: str, passphrase: bytes | None) -> object:
    try:
        secret = passphrase_in(folder).encode() if passphrase is None else passphrase
        return serialization.load_pem_private_key((folder / name).read_bytes(), secret)
    except OSError as error:
        raise _unreadable(folder, error) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(folder) from error


def _unreadable(folder: Path, error: OSError) -> DeviceCaUnusable:
    return DeviceCaUnusable(
        f"the device CA in {folder} cannot be read ({error.strerror}: {error.filename}); "
        "restore the folder from the backup of the home"
    )


def _damaged(folder: Path) -> DeviceCaUnusable:
    return DeviceCaUnusable(
        f"the device CA in {folder} does not open: a file is damaged, or the passphrase is not the key's"
    )
