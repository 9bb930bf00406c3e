"""Passwords of people: argon2id, a bound on the work done at once, and no telling who has an account."""

from __future__ import annotations

import base64
import secrets
import unicodedata
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

MIN_CHARACTERS: Final = 15  # NIST SP 800-63B-4, 3.1.1.2, where the password is the only factor
# Hashing cost does not grow with length; the bound keeps a request of megabytes from being hashed at all.
MAX_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordSettings:
    """What one hash costs, and how many may run at once.

    The defaults are RFC 9106's second recommendation (section 4, the low-memory one). Raising a cost later is safe:
    :meth:`Passwords.is_outdated` finds the hashes to be made anew at the next login.
    """

    time_cost: int = 3
    memory_kib: int = 64 * 1024
    parallelism: int = 4
    concurrent: int = 2  # so that logins never hold more than 2 * 64 MiB, whoever asks


class Passwords:
    """Hashes and checks passwords. One instance serves the whole process: the bound on concurrent work is its own.

    Text is put into Unicode NFC first, so one password typed on two systems is one password.
    """

    def __init__(self, settings: PasswordSettings | None = None) -> None:
        settings = PasswordSettings() if settings is None else settings
        self._hasher: Final = PasswordHasher(
            time_cost=settings.time_cost,
            memory_cost=settings.memory_kib,
            parallelism=settings.parallelism,
            type=Type.ID,
        )
        self._slots: Final = BoundedSemaphore(settings.concurrent)
        self._decoy: Final = _decoy(settings)

    def hash(self, password: str) -> str:
        """Hash a password for storing, as a PHC string (``$argon2id$v=19$m=…``); waits for a free slot.

        Raises:
            ValueError: :func:`password_fault` finds something wrong with ``password``; ask it first.
        """
        fault = password_fault(password)
        if fault is not None:
            raise ValueError(fault)
        with self._slots:
            return self._hasher.hash(_prepared(password))

    def verify(self, stored: str | None, password: str) -> bool:
        """Check a password; waits for a free slot.

        Args:
            stored: What :meth:`hash` returned, or None when there is no such account or it has no password. None
                costs as much time as a real hash and is never a match, so an answer's delay names no accounts.
            password: As typed, of any length and content; one that could never have been stored is no match.
        """
        typed = "" if not _fits(password) else _prepared(password)
        with self._slots:
            try:
                return self._hasher.verify(self._decoy if stored is None else stored, typed)
            except InvalidHashError:
                # A row that holds no hash opens to nobody; spend the time all the same.
                return self._no_match(typed)
            except VerificationError:
                return False

    def is_outdated(self, stored: str) -> bool:
        """Say whether ``stored`` was made with other cost parameters than today's and should be made anew."""
        return self._hasher.check_needs_rehash(stored)

    def _no_match(self, typed: str) -> bool:
        try:
            self._hasher.verify(self._decoy, typed)
        except VerificationError:
            return False
        return False


def password_fault(password: str) -> str | None:
    """Say what keeps ``password`` from being accepted as a new one, in words for the person, or None.

    Length is the only rule besides being text: composition rules make passwords worse (NIST SP 800-63B-4, 3.1.1.2).
    """
    if len(password) < MIN_CHARACTERS:
        return f"the password has {len(password)} characters, at least {MIN_CHARACTERS} are needed"
    if not _fits(password):
        return f"the password is longer than {MAX_BYTES} bytes or is not valid Unicode text"
    return None


def _fits(password: str) -> bool:
    try:
        return len(password.encode()) <= MAX_BYTES
    except UnicodeEncodeError:  # lone surrogates, which JSON can carry
        return False


def _prepared(password: str) -> str:
    return unicodedata.normalize("NFC", password)


def _decoy(settings: PasswordSettings) -> str:
    # A well-formed hash of nothing: its 32 hash bytes are random, so making it costs no hashing.
    salt, tag = (base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode() for length in (16, 32))
    return f"$argon2id$v=19$m={settings.memory_kib},t={settings.time_cost},p={settings.parallelism}${salt}${tag}"
