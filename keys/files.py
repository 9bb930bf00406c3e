"""Private keys in encrypted files: written once, readable by their owner only, opened through securesystemslib.

The URI is ``sealed:<absolute path>``. A relative path is refused: what it names would depend on the working directory.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, SecretsHandler, SSlibKey

from keys.errors import KeyDamaged, KeyExists, KeyLocked, KeyNotHere

SCHEME: Final = "sealed"
PASSPHRASE: Final = "passphrase"  # the name under which a secrets handler is asked for it

_OWNER_ONLY_FILE: Final = 0o600
_OWNER_ONLY_FOLDER: Final = 0o700


class SealedFileSigner(CryptoSigner):
    """Signs with an Ed25519 or EC key from a PKCS#8 PEM file that is encrypted with a passphrase."""

    SCHEME = SCHEME

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> SealedFileSigner:
        """Open the key file that ``sealed:<absolute path>`` names.

        Args:
            priv_key_uri: The URI.
            public_key: What the file's key must be the private half of.
            secrets_handler: Asked for ``"passphrase"``; needed, since a key that is not encrypted is refused.

        Raises:
            ValueError: The URI is of another scheme or its path is not absolute.
            KeyNotHere: There is no such file.
            KeyLocked: There is no secrets handler, or its passphrase does not open the file.
            KeyDamaged: The file is no encrypted key of these kinds, or not the one that ``public_key`` belongs to.
        """
        scheme, _, text = priv_key_uri.partition(":")
        path = Path(text)
        if scheme != SCHEME or not path.is_absolute():
            raise ValueError(f"expected {SCHEME}:<absolute path>, found {priv_key_uri!r}")
        if not isinstance(public_key, SSlibKey):
            raise ValueError(f"expected a public key of securesystemslib, found {type(public_key).__name__}")
        pem = _read(path)
        if secrets_handler is None:
            raise KeyLocked(f"{path} is encrypted and no passphrase was given")
        try:
            return cls(_unseal(path, pem, secrets_handler(PASSPHRASE)), public_key)
        except KeyMismatchError as error:
            raise KeyDamaged(f"{path} is not the key that keyring.json names; put the right file back") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise KeyNotHere(f"no key file at {path}; put it back, or name the folder where it is") from error
    except OSError as error:
        raise KeyNotHere(f"{path} could not be read: {error.strerror or error}; look at the disk") from error


def _unseal(path: Path, pem: bytes, passphrase: str) -> Ed25519PrivateKey | ec.EllipticCurvePrivateKey:
    if not passphrase:
        raise KeyLocked(f"{path} is encrypted and no passphrase was given")
    try:
        private = load_pem_private_key(pem, passphrase.encode())
    except TypeError as error:
        # A key in the clear would be a silent loss of protection; whoever put it there should notice.
        raise KeyDamaged(f"{path} is not encrypted; encrypt it with the passphrase of its folder") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyLocked(f"the passphrase does not open {path}, or the file is damaged") from error
    if not isinstance(private, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise KeyDamaged(f"{path} holds a {type(private).__name__}, expected an Ed25519 or an EC key")
    return private


def new_sealed_key(path: Path, passphrase: str, *, curve: ec.EllipticCurve | None = None) -> SSlibKey:
    """Make an Ed25519 key, or one of ``curve``, write it encrypted to ``path`` (0600) and return its public half.

    Raises:
        KeyExists: There is a file already; it is left as it is.
        OSError: It could not be written; no file is left behind.
    """
    private = Ed25519PrivateKey.generate() if curve is None else ec.generate_private_key(curve)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
    write_private(path, pem)
    return SSlibKey.from_crypto(private.public_key())


def public_of(path: Path, passphrase: str) -> SSlibKey:
    """The public half of a sealed key file.

    Raises:
        KeyNotHere: There is no such file.
        KeyLocked: The passphrase does not open it.
        KeyDamaged: It is no encrypted Ed25519 or EC key.
    """
    return SSlibKey.from_crypto(_unseal(path, _read(path), passphrase).public_key())


def write_private(path: Path, content: bytes) -> None:
    """Create ``path`` with mode 0600 and make it durable.

    The mode stands in the call that creates the file, so there is no moment at which others could open it, whatever
    the umask.

    Raises:
        KeyExists: There is a file already; it is left as it is.
        OSError: It could not be written; no file is left behind.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWNER_ONLY_FILE)
    except FileExistsError as error:
        raise KeyExists(f"there is a file at {path} already; move it away first, nothing is written over") from error
    try:
        try:
            os.fchmod(descriptor, _OWNER_ONLY_FILE)  # an umask such as 0777 would have left it without any right
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def replace_private(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of the file at ``path`` (mode 0600) in one step that survives a power cut.

    Raises:
        OSError: It could not be written; the old file stands.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
    write_private(new, content)
    try:
        new.rename(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


def remove_durably(path: Path) -> None:
    """Remove a file so that a power cut does not bring it back; one that is not there is no error."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def set_aside(path: Path, folder: Path) -> None:
    """Move a file into a private folder beside it, durably; one that is there already stays under another name."""
    make_private_folder(folder)
    target = folder / path.name
    while target.exists():
        target = folder / f"{target.name}~"
    path.rename(target)
    sync_folder(folder)
    sync_folder(path.parent)


def make_private_folder(path: Path) -> None:
    """Create ``path`` and missing parents with mode 0700; an existing folder is taken as it is."""
    if path.is_dir():
        return
    make_private_folder(path.parent)
    path.mkdir(mode=_OWNER_ONLY_FOLDER, exist_ok=True)
    path.chmod(_OWNER_ONLY_FOLDER)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


SIGNER_FOR_URI_SCHEME[SCHEME] = SealedFileSigner
