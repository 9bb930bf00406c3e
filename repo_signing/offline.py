"""Drafts: what holders of offline keys are asked to sign, and what they have signed so far.

A draft has a part for each role that one change touches; all parts take effect in one commit. A part carries the exact
bytes to sign and the file that it was made from, so that a signer without a network sees for himself what changes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature

from evidence.model import Actor
from repo_signing.canonical import as_json
from repo_signing.differences import difference
from repo_signing.errors import RepositoryDamaged, SignatureRefused
from repo_signing.signing import envelope

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """``threshold`` of ``keyids`` must sign, because ``by`` (e.g. ``root 2``) says so."""

    by: str
    keyids: tuple[str, ...]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One role of a draft: the bytes to sign, and what is signed.

    ``base`` is the file of ``base_version`` (0: there is none). ``signatures`` are hex by keyid; every one was verified
    when it came.
    """

    role: str
    version: int
    base_version: int
    payload: bytes
    requirements: tuple[Requirement, ...]
    base: bytes | None = None
    signatures: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The signed part."""
        body: dict[str, Any] = orjson.loads(as_json(self.payload))
        return body

    @property
    def keyids(self) -> frozenset[str]:
        """Keys whose signature counts for something."""
        return frozenset(keyid for one in self.requirements for keyid in one.keyids)

    @property
    def is_signed(self) -> bool:
        """Whether every threshold is met."""
        return all(len(self.signatures.keys() & set(one.keyids)) >= one.threshold for one in self.requirements)

    @property
    def file(self) -> bytes:
        """The role's file with the signatures that are there."""
        return envelope(self.payload, [{"keyid": keyid, "sig": sig} for keyid, sig in sorted(self.signatures.items())])

    @property
    def difference(self) -> list[str]:
        """What it changes, a line for each change."""
        return difference(self.role, None if self.base is None else orjson.loads(self.base)["signed"], self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineDraft:
    """One change that waits for signatures.

    ``change`` is the request it was made from, so that it can be made anew; ``basis`` the versions of the roles it
    stands on; ``keys`` the public halves of all keys that may sign, by keyid.
    """

    id: str
    title: str
    change: Mapping[str, Any]
    basis: Mapping[str, int]
    parts: tuple[Part, ...]
    keys: Mapping[str, Mapping[str, Any]]
    created_by: Actor
    created_at: datetime
    deadline: datetime

    @property
    def is_signed(self) -> bool:
        """Whether every part has all it needs."""
        return all(part.is_signed for part in self.parts)

    def check(self, part: Part, keyid: str, sig: str) -> None:
        """Raise SignatureRefused unless this is a signature of a key that is asked for, over the exact bytes."""
        check_signature(part, keyid, sig, self.keys)

    def described(self, *, whole: bool) -> dict[str, Any]:
        """JSON for people and programs; ``whole`` adds the bytes to sign and those they were made from, as base64."""
        return {
            "format": FORMAT,
            "id": self.id,
            "title": self.title,
            "state": "signed" if self.is_signed else "open",
            "created_by": self.created_by.to_dict(),
            "created_at": self.created_at.isoformat().replace("+00:00", "Z"),
            "deadline": self.deadline.isoformat().replace("+00:00", "Z"),
            "parts": [_described(part, whole=whole) for part in self.parts],
            "keys": {keyid: dict(key) for keyid, key in self.keys.items()},
        }


def check_signature(part: Part, keyid: str, sig: str, keys: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SignatureRefused unless this is a signature of a key that the part asks for, over its exact bytes.

    ``keys`` are public keys by keyid, without it.
    """
    if keyid not in part.keyids:
        raise SignatureRefused(f"the key {keyid} is not one that signs {part.role}; nothing was taken")
    try:
        public = Key.from_dict(keyid, {**keys[keyid]})
        public.verify_signature(Signature(keyid, sig), part.payload)
    except (UnverifiedSignatureError, VerificationError, ValueError, KeyError, TypeError) as error:
        raise SignatureRefused(
            f"the signature of {keyid} over {part.role} is not valid; sign what is asked for now"
        ) from error


def stored(draft: OfflineDraft) -> bytes:
    """A draft as its file."""
    more = {"change": dict(draft.change), "basis": dict(draft.basis)}
    signatures = {part.role: dict(part.signatures) for part in draft.parts}
    return orjson.dumps(draft.described(whole=True) | more | {"signatures": signatures}, option=orjson.OPT_INDENT_2)


def read(content: bytes, where: str) -> OfflineDraft:
    """Read a draft's file back; raises RepositoryDamaged."""
    try:
        told = orjson.loads(content)
        return OfflineDraft(
            id=told["id"],
            title=told["title"],
            change=told["change"],
            basis=told["basis"],
            parts=tuple(part_of(one, told["signatures"][one["role"]]) for one in told["parts"]),
            keys=told["keys"],
            created_by=Actor.from_dict(told["created_by"]),
            created_at=datetime.fromisoformat(told["created_at"]),
            deadline=datetime.fromisoformat(told["deadline"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RepositoryDamaged(f"the draft in {where} is garbled: {error!r}; drop it and make it anew") from error


def _described(part: Part, *, whole: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "role": part.role,
        "version": part.version,
        "base_version": part.base_version,
        "payload_sha256": hashlib.sha256(part.payload).hexdigest(),
        "difference": part.difference,
        "requirements": [
            {
                "by": one.by,
                "keyids": list(one.keyids),
                "threshold": one.threshold,
                "signed": sorted(part.signatures.keys() & set(one.keyids)),
            }
            for one in part.requirements
        ],
    }
    if whole:
        told["payload"] = base64.b64encode(part.payload).decode()
        told["base"] = None if part.base is None else base64.b64encode(part.base).decode()
    return told


def part_of(told: Mapping[str, Any], signatures: Mapping[str, str]) -> Part:
    """A part as it was described whole; raises KeyError, TypeError, ValueError for what is garbled."""
    base = told["base"]
    return Part(
        role=told["role"],
        version=told["version"],
        base_version=told["base_version"],
        payload=base64.b64decode(told["payload"], validate=True),
        requirements=tuple(
            Requirement(by=one["by"], keyids=tuple(one["keyids"]), threshold=one["threshold"])
            for one in told["requirements"]
        ),
        base=None if base is None else base64.b64decode(base, validate=True),
        signatures=dict(signatures),
    )
