"""Secrets that programs carry: API keys, login tokens, session ids, invitations, and passwords made for people.

A secret is ``<prefix>_<43 base62 characters><6 base62 characters>``: 256 random bits, then the CRC32 of all before
it. The checksum lets a typing error or a secret scanner's false alarm be told apart without asking the database;
it protects nothing. Only the SHA-256 of the whole text is ever stored. A plain hash is right here and wrong for
passwords: nobody can guess 256 random bits, so slowness would buy nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import Final, NamedTuple

API_KEY: Final = "wgk"
LOGIN_TOKEN: Final = "wgl"
SESSION: Final = "wgs"
INVITATION: Final = "wgi"
PUBLISH_TOKEN: Final = "wgp"
SETUP_CODE: Final = "wgr"  # who registers the first organisation

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_BODY_CHARACTERS: Final = 43  # the fewest base62 digits that hold 256 bits
_CHECKSUM_CHARACTERS: Final = 6  # the fewest that hold the 32 bits of a CRC32
_PREFIX: Final = re.compile(r"[a-z]{3}")
_BODY: Final = re.compile(r"[0-9A-Za-z]+")
# No 0/O, 1/I/l: a first password is read from a screen and typed.
_READABLE: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PASSWORD_CHARACTERS: Final = 22  # 22 * log2(57) = 128 bits
# What a list may show of a secret: enough to find the key in a vault, 36 of 256 bits.
_SHOWN_CHARACTERS: Final = 6


class NewSecret(NamedTuple):
    """A secret just made. ``text`` is shown once and then forgotten; ``sha256`` (lower-case hex) is what to store."""

    text: str
    sha256: str


def new_secret(prefix: str) -> NewSecret:
    """Make a secret of 256 random bits.

    Args:
        prefix: Three lower-case letters that name its kind, e.g. :data:`API_KEY`.

    Raises:
        ValueError: ``prefix`` is something else.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"prefix {prefix!r} is not three lower-case letters")
    unsigned = f"{prefix}_{random_base62()}"
    text = unsigned + _checksum(unsigned)
    return NewSecret(text, digest(text))


def random_base62() -> str:
    """Make 43 base62 characters (0-9A-Za-z) that hold 256 random bits."""
    return _base62(secrets.randbits(256), _BODY_CHARACTERS)


def check_form(text: str, prefix: str) -> bool:
    """Say whether ``text`` is a well-formed secret of this kind, its checksum included.

    True says nothing about whether it was ever issued: look up its :func:`digest` for that.
    """
    head = f"{prefix}_"
    body = text[len(head) :]
    if not text.startswith(head) or len(body) != _BODY_CHARACTERS + _CHECKSUM_CHARACTERS:
        return False
    if _BODY.fullmatch(body) is None:
        return False
    return text[-_CHECKSUM_CHARACTERS:] == _checksum(text[:-_CHECKSUM_CHARACTERS])


def digest(text: str) -> str:
    """The SHA-256 to store or to look up, as 64 lower-case hex digits; any text has one, also with lone surrogates."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def same_digest(one: str, other: str) -> bool:
    """Compare two hex digests in a time that tells nothing about where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def shown_prefix(text: str) -> str:
    """The beginning of a secret that lists and logs may show, e.g. ``wgk_4fT0aZ``: its kind and six characters."""
    return text[: text.index("_") + 1 + _SHOWN_CHARACTERS]


def random_password() -> str:
    """Make a first password for a person: 22 characters, 128 bits, none that look alike (no 0 O 1 I l)."""
    return "".join(secrets.choice(_READABLE) for _ in range(_PASSWORD_CHARACTERS))


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, width: int) -> str:
    characters = []
    for _ in range(width):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(reversed(characters))
