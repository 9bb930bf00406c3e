"""People who hold keys that the server does not, and what they sign."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from keys.keyring import Keyring
from repo_signing.offline import OfflineDraft
from repo_signing.offline_drafts import Drafts
from repo_signing.payloads import stored_key


class Holder:
    """One key, and a person who signs whatever part of a draft asks for it."""

    def __init__(self, signer: Signer | None = None) -> None:
        self.signer: Signer = CryptoSigner.generate_ed25519() if signer is None else signer

    @classmethod
    def of_laptop(cls, folder: Path, role: str) -> Holder:
        """The holder of the offline key that a laptop's home keeps for ``role``."""
        return cls(Keyring(folder / "keys").signer(role))

    @property
    def keyid(self) -> str:
        return self.signer.public_key.keyid

    @property
    def public(self) -> dict[str, Any]:
        public = self.signer.public_key
        assert isinstance(public, SSlibKey)
        return stored_key(public)

    def signatures(self, draft: OfflineDraft) -> dict[str, dict[str, str]]:
        """Hex by keyid, by role, for the parts that ask for this key."""
        return {
            part.role: {self.keyid: self.signer.sign(part.payload).signature}
            for part in draft.parts
            if self.keyid in part.keyids
        }


def sign_all(drafts: Drafts, draft: OfflineDraft, holders: Sequence[Holder], now: datetime) -> int | None:
    """Have the holders sign one after the other; returns the serial if that finished the draft."""
    serial = None
    for holder in holders:
        _, serial = drafts.sign(draft.id, holder.signatures(draft), now=now)
    return serial
