"""The second factor of a person's login: time-based codes (RFC 6238), and recovery codes for the lost telephone."""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from keys.secret import digest

# What every authenticator app knows; several ignore other values in the URI and then show wrong codes.
STEP_SECONDS: Final = 30
DIGITS: Final = 6
RECOVERY_CODES: Final = 10

_SECRET_BYTES: Final = 20  # RFC 4226, section 4, R6
_DRIFT_STEPS: Final = 1  # RFC 6238, section 5.2: one step for a slow typist or a clock that is off
_CODE: Final = re.compile(rf"[0-9]{{{DIGITS}}}")
_RECOVERY_ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
_RECOVERY_CHARACTERS: Final = 16  # 16 * log2(31) = 79 bits: too many to guess, so that a plain hash does


def new_totp_secret() -> bytes:
    """Make 160 random bits to share with an authenticator app."""
    return secrets.token_bytes(_SECRET_BYTES)


def otpauth_uri(secret: bytes, *, account: str, issuer: str) -> str:
    """The ``otpauth://totp/…`` URI that apps read, mostly as a QR code; it holds the secret."""
    # Some apps show the plus that stands for a space in the query.
    return _totp(secret).get_provisioning_uri(account, issuer).replace("+", "%20")


def code_at(secret: bytes, now: datetime) -> str:
    """The code of the 30 seconds that ``now`` is in."""
    return _totp(secret).generate(int(now.timestamp())).decode()


def matching_step(secret: bytes, code: str, now: datetime) -> int | None:
    """The step (30 s since 1970) whose code was typed, among that of ``now`` and its neighbours; None for no match.

    Every candidate is compared, each in constant time. Whoever takes a code keeps the step and refuses it and those
    before from then on: a code that was looked over somebody's shoulder is worthless.
    """
    typed = code.replace(" ", "")
    if _CODE.fullmatch(typed) is None:
        return None
    totp, current = _totp(secret), int(now.timestamp()) // STEP_SECONDS
    found = None
    for step in range(current - _DRIFT_STEPS, current + _DRIFT_STEPS + 1):
        if hmac.compare_digest(totp.generate(step * STEP_SECONDS), typed.encode()):
            found = step
    return found


def new_recovery_codes() -> list[str]:
    """Ten codes such as ``k3f7-…``, each good for one login; store their :func:`recovery_digest` alone."""
    return [_recovery_code() for _ in range(RECOVERY_CODES)]


def recovery_digest(code: str) -> str | None:
    """What to store or to look up, whatever the case, spaces and hyphens; None when it is no recovery code."""
    plain = code.replace("-", "").replace(" ", "").lower()
    if len(plain) != _RECOVERY_CHARACTERS or set(plain) - set(_RECOVERY_ALPHABET):
        return None
    return digest(plain)


def _recovery_code() -> str:
    text = "".join(secrets.choice(_RECOVERY_ALPHABET) for _ in range(_RECOVERY_CHARACTERS))
    return "-".join(text[start : start + 4] for start in range(0, _RECOVERY_CHARACTERS, 4))


def _totp(secret: bytes) -> TOTP:
    # SHA-1 is RFC 6238's default and what the apps do; HMAC needs no resistance to collisions.
    return TOTP(secret, DIGITS, SHA1(), STEP_SECONDS)
