"""Signing a role with the keys that whoever delegates to it names; the private halves are the keyring's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from securesystemslib.signer import Signature

from keys.errors import KeyNotHere
from keys.keyring import Keyring
from repo_signing import roles
from repo_signing.canonical import as_json, encode
from repo_signing.roles import Rule

_SIGNATURES: Final = b'{"signatures":['
_SIGNED: Final = b',"signed":'


def sign(
    keyring: Keyring, role: str, body: Mapping[str, Any], rules: Sequence[Rule], also: Iterable[str] = ()
) -> bytes:
    """Sign a role so that it meets every one of ``rules`` and return its file.

    Several rules are those of an old and a new root: what both accept, no client ever refuses. Of each rule as many
    keys sign as it asks for, the first that can be reached.

    Args:
        also: Keyids that sign, too, if the keyring has them and no rule names them: those of an overlap after a
            rotation.

    Raises:
        CustodyError: Too few of the keys that a rule names can be reached, or the signer process says no.
    """
    name = roles.key_of(role)
    payload = encode(body)
    made: dict[str, Signature] = {}

    def add(among: frozenset[str], threshold: int) -> None:
        made.update(
            (one.keyid, one) for one in keyring.sign(name, payload, role=role, among=among, threshold=threshold)
        )

    for rule in rules:
        named = frozenset(rule.keyids)
        missing = rule.threshold - len(named & made.keys())
        if missing > 0:
            if not (held := keyring.held(name, named)):
                raise KeyNotHere(
                    f"none of the {len(named)} keys that sign {role} is in the keyring; "
                    "it is of another repository, or an older copy"
                )
            add(held - made.keys(), missing)
    for keyid in keyring.held(name, set(also).difference(*(rule.keyids for rule in rules))):
        add(frozenset({keyid}), 1)
    # The file holds the very bytes that were signed, but for line breaks, so no second encoding can differ.
    return envelope(payload, [one.to_dict() for one in made.values()])


def envelope(payload: bytes, signatures: Sequence[Mapping[str, str]]) -> bytes:
    """The file of a role; ``signatures`` as ``{"keyid", "sig"}``."""
    return _SIGNATURES + b",".join(encode(dict(one)) for one in signatures) + b"]" + _SIGNED + as_json(payload) + b"}"


def signers_of(raw: bytes) -> list[str]:
    """Keyids of the signatures in a file, valid or not."""
    head, found, _ = raw.partition(_SIGNED)
    # Our files begin with the signatures; half a megabyte of snapshot need not be parsed to read them.
    told = orjson.loads(head + b"}") if found and head.startswith(_SIGNATURES) else orjson.loads(raw)
    return [str(one["keyid"]) for one in told["signatures"]]
