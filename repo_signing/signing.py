"""Signing a role with the keys that whoever delegates to it names; the private halves are the keyring's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from keys.errors import KeyNotHere
from keys.keyring import Keyring
from repo_signing.canonical import encode
from repo_signing.roles import Rule

_SIGNATURES: Final = b'{"signatures":['
_SIGNED: Final = b',"signed":'


def sign(
    keyring: Keyring, role: str, body: Mapping[str, Any], rules: Sequence[Rule], also: Iterable[str] = ()
) -> bytes:
    """Sign a role so that it meets every one of ``rules`` and return its file.

    Several rules are those of an old and a new root: what both accept, no client ever refuses.

    Args:
        also: Keyids that sign, too, if the keyring has them; that of an overlap after a rotation.

    Raises:
        KeyNotHere: The keyring has too few of the keys that a rule names.
    """
    wanted: dict[str, str] = {}
    for rule in rules:
        held = {keyid: name for keyid in rule.keyids if (name := keyring.name_of(keyid)) is not None}
        if len(held) < rule.threshold:
            raise KeyNotHere(
                f"{role} is signed by {rule.threshold} of {len(rule.keyids)} keys, the keyring has {len(held)}; "
                "the keyring is of another repository, or an older copy"
            )
        wanted |= held
    wanted |= {keyid: name for keyid in also if keyid not in wanted and (name := keyring.name_of(keyid)) is not None}
    payload = encode(body)
    # The file holds the very bytes that were signed, so no second encoding can differ.
    return envelope(payload, [keyring.signer(name).sign(payload).to_dict() for name in wanted.values()])


def envelope(payload: bytes, signatures: Sequence[Mapping[str, str]]) -> bytes:
    """The file of a role; ``signatures`` as ``{"keyid", "sig"}``."""
    return _SIGNATURES + b",".join(encode(dict(one)) for one in signatures) + b"]" + _SIGNED + payload + b"}"


def signers_of(raw: bytes) -> list[str]:
    """Keyids of the signatures in a file, valid or not."""
    head, found, _ = raw.partition(_SIGNED)
    # Our files begin with the signatures; half a megabyte of snapshot need not be parsed to read them.
    told = orjson.loads(head + b"}") if found and head.startswith(_SIGNATURES) else orjson.loads(raw)
    return [str(one["keyid"]) for one in told["signatures"]]
