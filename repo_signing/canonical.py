"""The bytes that are signed: OLPC canonical JSON, encoded by orjson.

orjson with sorted keys gives the very bytes of securesystemslib's ``encode_canonical``, 20 times faster, as long as a
few values never occur. Those are refused here before anything is signed; a property test holds the two together.

One of them cannot be refused: the PEM of a public key (EC, RSA) has line breaks. OLPC writes them as they are, so such
bytes are no JSON; :func:`as_json` makes them that.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from repo_signing.errors import InvalidRecord

# Clients in JavaScript read every number as a double; past this they would canonicalise something else than we signed.
MAX_INTEGER: Final = 2**53 - 1

# Control characters are escaped by orjson and not by OLPC; lone surrogates have no UTF-8.
_UNSIGNABLE: Final = re.compile("[\x00-\x1f\ud800-\udfff]")
_ESCAPED: Final = re.compile(rb"\\[\\n]")  # a backslash that stands for itself takes the one behind it along
# Some clients sort keys by UTF-16 units, which is another order beyond the basic plane.
_UNSORTABLE: Final = re.compile("[\x00-\x1f\ud800-\udfff\U00010000-\U0010ffff]")


def canonical(value: Any) -> bytes:
    """Encode a JSON value in canonical form, refusing what cannot be signed (see :func:`check_signable`)."""
    check_signable(value)
    return encode(value)


def encode(value: Any) -> bytes:
    """Encode a value of which every part has passed :func:`check_signable`, for large roles piece by piece."""
    return canonical_bytes(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def canonical_bytes(encoded: bytes) -> bytes:
    """What was signed, of what :func:`as_json` made of it."""
    if b"\\n" not in encoded:
        return encoded
    return _ESCAPED.sub(lambda found: b"\n" if found[0] == b"\\n" else found[0], encoded)


def as_json(payload: bytes) -> bytes:
    """Canonical bytes as JSON: between its tokens there are no line breaks, so all that there are belong to texts."""
    return payload.replace(b"\n", b"\\n")


def check_signable(value: Any, where: str = "the document") -> None:
    """Refuse what clients would canonicalise differently or not at all.

    Args:
        value: Built of dict with text keys, list, str, int, bool and None.
        where: What the message calls it, e.g. ``"labels"``.

    Raises:
        InvalidRecord: A control character or lone surrogate in a text (but for line breaks in a ``keyval``'s
            ``public``), a float, an integer beyond 53 bits (or its negative), a key beyond Unicode's basic plane, or a
            value of another type.
    """
    kind = type(value)
    if kind is str:
        if (found := _UNSIGNABLE.search(value)) is not None:
            raise InvalidRecord(f"{where} holds the character U+{ord(found[0]):04X}; only printable text can be signed")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str or _UNSORTABLE.search(key) is not None:
                raise InvalidRecord(f"{where} has the key {key!r}; keys are text within Unicode's basic plane")
            # The text of a public key, see above.
            is_pem = key == "public" and type(item) is str and where.endswith(".keyval")
            check_signable(item.replace("\n", "") if is_pem else item, f"{where}.{key}")
    elif kind is list:
        for position, item in enumerate(value):
            check_signable(item, f"{where}[{position}]")
    elif kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise InvalidRecord(f"{where} is {value}; whole numbers up to {MAX_INTEGER} can be signed")
    elif kind is not bool and value is not None:
        raise InvalidRecord(f"{where} is a {kind.__name__}; text, whole numbers, lists and objects can be signed")
