"""Sealing of secrets that must be read again, so that the database and its backups alone give none away."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keys.errors import SealBroken

_NONCE_BYTES: Final = 12


class Seal:
    """AES-256-GCM under a key derived (HKDF-SHA256) from a random passphrase of the home.

    ``purpose`` keeps keys for different things apart. The passphrase must be random, of 128 bits at least.
    """

    def __init__(self, passphrase: bytes, *, purpose: str) -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"wavegate {purpose}".encode()).derive(passphrase)
        self._cipher: Final = AESGCM(key)

    def close(self, secret: bytes, *, of: str) -> str:
        """Seal ``secret`` for its owner ``of`` (an id); the text opens for that owner alone."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, secret, of.encode())).decode()

    def open(self, sealed: str, *, of: str) -> bytes:
        """Raises SealBroken for what another home sealed, for another owner, or what was changed since."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], of.encode())
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise SealBroken(
                f"a sealed secret of {of} does not open with this home's device-ca/passphrase; restore that file from "
                "the backup, or have the secret reset"
            ) from error
