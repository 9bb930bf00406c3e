"""Where drafts are kept: a file each in the repository folder, and who adds signatures to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from evidence.ids import is_id
from repo_signing import roles
from repo_signing.canonical import encode
from repo_signing.errors import CommitFailed, DraftExpired, InvalidDraft, SignatureRefused, UnknownDraft
from repo_signing.offline import OfflineDraft, Part, read, stored
from repo_signing.records import sha256_of
from repo_signing.storage import LocalStorage, read_or_none

PREFIX: Final = "drf"
MAX_DRAFTS: Final = 500  # every one of them holds a whole role; nobody signs more


class DraftBox:
    """The folder ``drafts/``. Whoever writes holds the repository's lock."""

    def __init__(self, folder: Path, storage: LocalStorage) -> None:
        self._repository: Final = folder
        self._folder: Final = folder / "drafts"
        self._storage: Final = storage

    def all(self) -> list[OfflineDraft]:
        """All drafts, oldest first."""
        return [read(content, name) for name, content in self.files()]

    def get(self, draft_id: str) -> OfflineDraft:
        """One draft; raises UnknownDraft."""
        self._storage.gather(self._folder)
        content = read_or_none(self._path(draft_id)) if is_id(draft_id, PREFIX) else None
        if content is None:
            raise UnknownDraft(f"no draft {draft_id!r} waits for signatures; it was finished, dropped, or never was")
        return read(content, draft_id)

    def named_blobs(self) -> set[str]:
        """Digests of all targets in what waits to be signed; raises RepositoryDamaged."""
        bodies = (part.body for draft in self.all() for part in draft.parts)
        return {sha256_of(entry) for body in bodies for entry in body.get("targets", {}).values()}

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Names below the repository's folder and content of all drafts, for a backup; raises CommitFailed."""
        self._storage.gather(self._folder)
        for path in self._paths():
            content = read_or_none(path)
            if content is not None:  # finished meanwhile
                yield f"{self._folder.name}/{path.name}", content

    def add(self, draft: OfflineDraft) -> None:
        """Keep a new draft; raises CommitFailed, and InvalidDraft when too many wait already."""
        if len(self._paths()) >= MAX_DRAFTS:
            raise InvalidDraft(f"{MAX_DRAFTS} drafts wait for signatures already; sign or drop some of them")
        try:
            self._storage.ensure_folder(self._folder)
            self._storage.create_once(self._folder, {f"{draft.id}.json": stored(draft)})
        except OSError as error:
            raise CommitFailed(f"the draft could not be written: {error.strerror or error}; try again") from error

    def replace(self, draft: OfflineDraft) -> None:
        """Write a draft anew, whole; raises CommitFailed."""
        path = self._path(draft.id)
        try:
            self._storage.replace(path, stored(draft), base=read_or_none(path))
        except OSError as error:
            raise CommitFailed(f"the draft could not be written: {error.strerror or error}; try again") from error

    def drop(self, draft_id: str) -> None:
        """Forget a draft and its signatures; raises UnknownDraft, CommitFailed."""
        path = self._path(self.get(draft_id).id)
        try:
            self._storage.remove(path)
            self._storage.sync_folder(self._folder)
        except OSError as error:
            raise CommitFailed(f"the draft could not be removed: {error.strerror or error}; try again") from error

    def sign(self, draft_id: str, signatures: Mapping[str, Mapping[str, str]], now: datetime) -> OfflineDraft:
        """Take signatures, each verified; the same key again changes nothing. All are taken or none.

        Args:
            draft_id: Of the draft.
            signatures: Hex by keyid, by role.
            now: The deadline is held against it.

        Raises:
            UnknownDraft: There is none of that id.
            DraftExpired: Its deadline has passed.
            SignatureRefused: One of them is not valid, or not asked for, or there is none at all.
        """
        draft = self.get(draft_id)
        if now > draft.deadline:
            raise DraftExpired(f"the draft {draft_id} was to be signed until {draft.deadline}; rebase it")
        named = {part.role for part in draft.parts}
        if unknown := signatures.keys() - named:
            raise SignatureRefused(
                f"the draft has no role {', '.join(sorted(unknown))}; it has {', '.join(sorted(named))}"
            )
        if not any(signatures.values()):
            raise SignatureRefused("there is no signature in the request; sign at least one role of the draft")
        for part in draft.parts:
            for keyid, sig in signatures.get(part.role, {}).items():
                draft.check(part, keyid, sig)
        parts = tuple(_with(part, signatures.get(part.role, {})) for part in draft.parts)
        if parts != draft.parts:
            draft = replace(draft, parts=parts)
            self.replace(draft)
        return draft

    def _paths(self) -> list[Path]:
        try:
            return sorted(self._folder.glob(f"{PREFIX}_*.json"))
        except OSError as error:
            raise CommitFailed(f"the drafts could not be read: {error.strerror or error}; try again") from error

    def _path(self, draft_id: str) -> Path:
        return self._folder / f"{draft_id}.json"


def _with(part: Part, signatures: Mapping[str, str]) -> Part:
    # The first valid signature of a key stays: a scheme that is not deterministic must not change what is on its way.
    return replace(part, signatures={**signatures, **part.signatures})


def as_written(metadata: Path, part: Part) -> bytes:
    """The file of a part: what a commit that was cut short wrote of it, maybe with fewer signatures, or a new one."""
    name = "root.json" if part.role == roles.ROOT else f"{part.role}.json"
    written = read_or_none(metadata / f"{part.version}.{name}")
    return written if written is not None and encode(orjson.loads(written)["signed"]) == part.payload else part.file
