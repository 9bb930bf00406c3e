"""What one rollout asks its approvers to sign, as a value and as its file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from repo_signing.errors import RepositoryDamaged
from repo_signing.offline import Part, part_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A version of ``waves-<product>`` for each wave, each following from the one before.

    ``id`` is the rollout's, ``waves`` the number of each part's wave, ``documents`` what each changes (text by path; of
    one made before they were kept: nothing), ``keys`` the approvers' public keys by keyid.
    """

    id: str
    product: str
    waves: tuple[int, ...]
    parts: tuple[Part, ...]
    documents: tuple[Mapping[str, str], ...]
    keys: Mapping[str, Mapping[str, Any]]
    made_at: datetime

    def first(self, count: int) -> Proposal:
        """The first waves of it alone."""
        return replace(self, waves=self.waves[:count], parts=self.parts[:count], documents=self.documents[:count])

    def after(self, version: int) -> Proposal | None:
        """What is left of it when this version is in place; None when nothing is."""
        left = [number for number, part in enumerate(self.parts) if part.version > version]
        if not left:
            return None
        rest = slice(left[0], None)
        return replace(self, waves=self.waves[rest], parts=self.parts[rest], documents=self.documents[rest])


def stored(proposal: Proposal) -> bytes:
    """A proposal as its file."""
    told = {
        "id": proposal.id,
        "product": proposal.product,
        "made_at": proposal.made_at.isoformat(),
        "keys": {keyid: dict(key) for keyid, key in proposal.keys.items()},
        "waves": [
            {
                "wave": number,
                "role": part.role,
                "version": part.version,
                "base_version": part.base_version,
                "payload": base64.b64encode(part.payload).decode(),
                "requirements": [
                    {"by": one.by, "keyids": list(one.keyids), "threshold": one.threshold} for one in part.requirements
                ],
                "signatures": dict(part.signatures),
                "documents": dict(documents),
            }
            for number, part, documents in zip(proposal.waves, proposal.parts, proposal.documents, strict=True)
        ],
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def read(content: bytes, where: str) -> Proposal:
    """Read a proposal's file back; raises RepositoryDamaged."""
    try:
        told = orjson.loads(content)
        return Proposal(
            id=told["id"],
            product=told["product"],
            waves=tuple(int(one["wave"]) for one in told["waves"]),
            parts=tuple(part_of({**one, "base": None}, one["signatures"]) for one in told["waves"]),
            documents=tuple(dict(one.get("documents", {})) for one in told["waves"]),
            keys=told["keys"],
            made_at=datetime.fromisoformat(told["made_at"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RepositoryDamaged(
            f"the proposal {where} is garbled: {error!r}; remove its file in approvals/, approvers then sign anew"
        ) from error
