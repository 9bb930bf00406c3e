"""Many artifacts in one commit: one sync for their bytes, one snapshot, one timestamp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from repo_signing import edits
from repo_signing.blobs import Blobs
from repo_signing.commit import Committer
from repo_signing.draft import Draft
from repo_signing.errors import (
    ArtifactWithdrawn,
    BatchRefused,
    CommitFailed,
    InvalidRecord,
    InvalidTargetPath,
    PathTaken,
    ProductClaimed,
    RepositoryError,
    UnknownUpload,
)
from repo_signing.model import ArtifactRecord, NewArtifact
from repo_signing.paths import artifact_path
from repo_signing.storage import LocalStorage

LARGEST: Final = 10_000  # artifacts of one commit
_TOLD: Final = 1000  # items that a refusal names

# What is wrong with one item and not with the repository.
OF_AN_ITEM: Final = (InvalidTargetPath, InvalidRecord, PathTaken, UnknownUpload, ArtifactWithdrawn, ProductClaimed)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an item was refused: the stable code of the error, and its message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item: a record, and whether it is new; or why it was refused."""

    record: ArtifactRecord | None
    is_new: bool = False
    refused: Refused | None = None


class Batch:
    """Artifacts to be signed together. One that was refused beforehand stands as that."""

    def __init__(
        self, items: Sequence[NewArtifact | Refused], committer: Committer, blobs: Blobs, storage: LocalStorage
    ) -> None:
        if not 1 <= len(items) <= LARGEST:
            raise InvalidRecord(f"the batch has {len(items)} items, 1 to {LARGEST} are taken at once")
        self._committer: Final = committer
        self._blobs: Final = blobs
        self._storage: Final = storage
        self._outcomes: Final[list[Outcome | None]] = [None] * len(items)
        self._paths: Final[dict[int, tuple[str, NewArtifact]]] = {}
        for place, item in enumerate(items):
            if isinstance(item, Refused):
                self._outcomes[place] = Outcome(None, refused=item)
                continue
            try:
                self._paths[place] = (artifact_path(item.product, item.version, item.platform, item.file_name), item)
            except OF_AN_ITEM as error:
                self._refuse(place, error)

    def commit(self, *, partial: bool, folder: Path, now: datetime) -> list[Outcome]:
        """Sign what can be signed; see :meth:`repo_signing.repository.SignedRepository.publish_batch`."""
        if not partial:
            self._check_none_refused()
        try:
            self._keep_blobs(folder)
        except OSError as error:
            raise CommitFailed(f"the blobs could not be written: {error.strerror or error}; try again") from error
        if not partial:
            self._check_none_refused()
        if self._paths:
            for place, outcome in self._committer.submit(lambda draft: self._sign(draft, partial, now), now).items():
                self._outcomes[place] = outcome
        done = [outcome for outcome in self._outcomes if outcome is not None]
        for place, (_, item) in self._paths.items():
            ended = self._outcomes[place]
            if ended is not None and ended.refused is None:
                for staged in (item.staged, *item.companions()):
                    self._blobs.drop(staged)
        return done

    def _keep_blobs(self, folder: Path) -> None:
        with self._storage.together(folder) as is_synced:
            for place, (_, item) in list(self._paths.items()):
                try:
                    for staged in (item.staged, *item.companions()):
                        self._blobs.keep(staged, sync=not is_synced)
                except UnknownUpload as error:
                    self._refuse(place, error)

    def _sign(self, draft: Draft, partial: bool, now: datetime) -> dict[int, Outcome]:
        # Made anew each time: a commit may have to be built again.
        outcomes: dict[int, Outcome] = {}
        for place, (path, item) in self._paths.items():
            trial = draft.trial()
            try:
                outcomes[place] = Outcome(*edits.publish(trial, path, item, now))
            except OF_AN_ITEM as error:
                outcomes[place] = Outcome(None, refused=Refused(error.code, str(error)))
            else:
                draft.absorb(trial)
        refused = {place: one.refused for place, one in outcomes.items() if one.refused is not None}
        if refused and not partial:
            raise _refusal(refused, len(self._outcomes))
        return outcomes

    def _refuse(self, place: int, error: RepositoryError) -> None:
        self._outcomes[place] = Outcome(None, refused=Refused(error.code, str(error)))
        self._paths.pop(place, None)

    def _check_none_refused(self) -> None:
        refused = {
            place: one.refused
            for place, one in enumerate(self._outcomes)
            if one is not None and one.refused is not None
        }
        if refused:
            raise _refusal(refused, len(self._outcomes))


def _refusal(refused: dict[int, Refused], total: int) -> BatchRefused:
    details = [(f"items.{place}", f"{one.code}: {one.message}") for place, one in sorted(refused.items())[:_TOLD]]
    return BatchRefused(
        f"{len(refused)} of {total} artifacts were refused, so none is signed; mend them, or ask for a partial batch",
        details,
    )
