"""Secrets that the server must be able to use again, such as those that sign webhooks, unreadable in the database.

AES-256-GCM with a key in a file of the home, which no copy of the database has. What a secret belongs to is bound in:
moved to another row it does not open.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keys.errors import KeyDamaged, KeyNotHere
from keys.files import remove_durably, write_private

KEY_FILE: Final = "webhooks.key"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # what GCM is made for; random ones are safe for 2^32 secrets of one key
_FORMAT: Final = "s1:"


class SealingKey:
    """The key in ``path``; made at the first use (mode 0600), since homes older than it have none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def seal(self, text: str, *, bound_to: str) -> str:
        """ASCII to store.

        Raises:
            KeyDamaged, KeyNotHere: The key file is unusable.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._key(make=True)).encrypt(nonce, text.encode(), bound_to.encode())
        return _FORMAT + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, *, bound_to: str) -> str:
        """The text again.

        Raises:
            KeyDamaged: It was sealed with another key or for something else, or was changed.
            KeyNotHere: There is no key file.
        """
        try:
            raw = base64.b64decode(sealed.removeprefix(_FORMAT), validate=True)
            return (
                AESGCM(self._key(make=False))
                .decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to.encode())
                .decode()
            )
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise KeyDamaged(f"a secret was not sealed with {self._path.name} of this home; make a new one") from error

    def prepare(self) -> None:
        """Make the key file unless there is one; a new home has it before anybody copies it to another server."""
        self._key(make=True)

    def _key(self, *, make: bool) -> bytes:
        try:
            key = self._path.read_bytes()
        except FileNotFoundError:
            if not make:
                raise KeyNotHere(f"there is no {self._path.name} in this home; put it back from a backup") from None
            self._make()
            key = self._path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise KeyDamaged(
                f"{self._path.name} has {len(key)} bytes, expected {_KEY_BYTES}; put it back from a backup"
            )
        return key

    def _make(self) -> None:
        whole = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}.new")
        write_private(whole, os.urandom(_KEY_BYTES))
        try:
            # A link appears whole or not at all, and only if there is none: the first process's key is the key.
            with suppress(FileExistsError):
                os.link(whole, self._path)
        finally:
            remove_durably(whole)
