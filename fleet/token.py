"""The text of an enrolment token: ``wge_<root sha256>_<secret>``.

A device that holds it needs nothing else to trust the right repository: it compares the root it is handed at enrolment
with the digest in the token, so there is no trust on first use. Only the SHA-256 of the whole text is kept.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass
from typing import Final

from fleet.errors import EnrolmentRefused, InvalidFleetInput

PREFIX: Final = "wge"
_BASE62: Final = string.digits + string.ascii_letters
_SECRET_LENGTH: Final = 43  # base62 characters: 256 bits
_TEXT: Final = re.compile(rf"{PREFIX}_([0-9a-f]{{64}})_([0-9A-Za-z]{{{_SECRET_LENGTH}}})")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as given to a device; ``root_sha256`` is public, the rest is not, so the text is kept out of ``repr``."""

    text: str
    root_sha256: str

    @property
    def sha256(self) -> str:
        """What is stored and looked up: lower-case hex SHA-256 of the whole text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"TokenText(root_sha256={self.root_sha256!r})"


def new_token_text(root_sha256: str) -> TokenText:
    """Make the text of a new token for the repository whose current root has this digest.

    Raises:
        InvalidFleetInput: ``root_sha256`` is not 64 lower-case hex digits.
    """
    if _DIGEST.fullmatch(root_sha256) is None:
        raise InvalidFleetInput("the root's SHA-256 is not 64 lower-case hex digits")
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    return TokenText(f"{PREFIX}_{root_sha256}_{secret}", root_sha256)


def parse_token_text(text: str) -> TokenText:
    """Read a token as a device sends it.

    Raises:
        EnrolmentRefused: Not of the form; the text itself is never in the message.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise EnrolmentRefused(
            f"the enrolment token is not of the form {PREFIX}_<64 hex digits>_<{_SECRET_LENGTH} characters>; "
            "copy it whole, or ask for a new one"
        )
    return TokenText(text, found.group(1))
