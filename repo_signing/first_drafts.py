"""The ceremony: a repository whose root and targets keys were never on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from evidence.model import Actor
from keys.keyring import Keyring
from repo_signing import roles
from repo_signing.ceremony import create_repository, make_folders
from repo_signing.draft import Placed
from repo_signing.draft_box import DraftBox
from repo_signing.errors import InvalidDraft, RepositoryExists, UnknownDraft
from repo_signing.making import first_parts, made
from repo_signing.offline import OfflineDraft
from repo_signing.payloads import PublicKey, public_key, stored_key
from repo_signing.storage import LocalStorage


class Ceremony:
    """The one draft of a repository that is yet to be made: root and targets, version 1.

    Args:
        folder: Of the repository to be.
        keyring: The online keys.
        storage: Changes the disk.
    """

    def __init__(self, folder: Path, keyring: Keyring, *, storage: LocalStorage | None = None) -> None:
        self._folder: Final = folder
        self._keyring: Final = keyring
        self._storage: Final = LocalStorage() if storage is None else storage
        self._box: Final = DraftBox(folder, self._storage)
        self._lock: Final = self._storage.repository_lock(folder)

    def begin(
        self,
        keys: Mapping[str, Sequence[PublicKey]],
        thresholds: Mapping[str, int],
        *,
        by: Actor,
        now: datetime,
        deadline: datetime | None = None,
        layout: str = roles.BINS,
    ) -> OfflineDraft:
        """Draft the first root and targets.

        Args:
            keys: Public keys by role, ``root`` and ``targets``.
            thresholds: How many of them must sign, by role.
            by: Who asks.
            now: Both expire a year from here.
            deadline: No signature is taken after it; by default 30 days ahead.
            layout: Of the repository to be, ``bins`` or ``paths``.

        Raises:
            RepositoryExists: The ceremony is over, or under way.
            InvalidDraft: Keys or thresholds cannot be used.
        """
        told = {role: [stored_key(public_key(key)) for key in keys[role]] for role in (roles.ROOT, roles.TARGETS)}
        change = {"kind": "first", "keys": told, "thresholds": dict(thresholds), "layout": layout}
        parts = first_parts(change, self._keyring, now)
        make_folders(self._folder, self._storage)
        with self._lock:
            if (self._folder / "metadata" / "timestamp.json").exists() or self._box.all():
                raise RepositoryExists(f"the ceremony in {self._folder} is over or under way; nothing was changed")
            draft = made(change, "the first root and targets", parts, {}, by=by, now=now, deadline=deadline)
            self._box.add(draft)
        return draft

    def all(self) -> list[OfflineDraft]:
        """The draft, in a list; empty when the ceremony is over."""
        return self._box.all()

    def get(self, draft_id: str) -> OfflineDraft:
        """The draft; raises UnknownDraft."""
        return self._box.get(draft_id)

    def sign(
        self, draft_id: str, signatures: Mapping[str, Mapping[str, str]], *, now: datetime
    ) -> tuple[OfflineDraft, int | None]:
        """Take signatures; when every threshold is met, sign all other roles and make the repository.

        Returns:
            The draft, and 1, the serial of the repository; None while signatures are missing.

        Raises:
            UnknownDraft, DraftExpired, SignatureRefused: See :meth:`DraftBox.sign`; nothing was taken.
        """
        with self._lock:
            draft = self._box.sign(draft_id, signatures, now)
        if not draft.is_signed:
            return draft, None
        placed = {part.role: Placed(part.file, part.body) for part in draft.parts}
        with suppress(RepositoryExists):  # a crash left only the draft, or somebody else was first
            layout = str(draft.change.get("layout", roles.BINS))
            create_repository(self._folder, self._keyring, now=now, storage=self._storage, layout=layout, placed=placed)
        with self._lock, suppress(UnknownDraft):
            self._box.drop(draft_id)
        return draft, 1

    def rebase(self, draft_id: str, *, now: datetime) -> OfflineDraft:
        """Make the draft anew, with a new life and deadline; its signatures are gone."""
        with self._lock:
            before = self._box.get(draft_id)
            parts = first_parts(before.change, self._keyring, now)
            after = made(
                before.change, before.title, parts, {}, by=before.created_by, now=now, deadline=None, draft_id=draft_id
            )
            self._box.replace(after)
            return after

    def drop(self, draft_id: str) -> None:
        """Refused: without it the home is of no use; raises InvalidDraft."""
        self._box.get(draft_id)
        raise InvalidDraft("the first draft cannot be dropped; to begin again remove the home and run `publish init`")
