"""The drafts of a home on this machine, without a server: how the ceremony begins, and for those who keep it so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from api.organisations import finish_ceremony
from api.settings import Settings
from api.wiring import keys_folder, open_database, open_wavegate, organisation_of, repository_folder, repository_storage
from evidence.model import Actor, ActorKind, AuditEvent
from keys.keyring import Keyring
from repo_signing.first_drafts import Ceremony
from repo_signing.offline_drafts import Drafts
from store.database import Database

_LOCAL = Actor(ActorKind.SYSTEM, "system:local", "publish on the server")


class LocalDrafts:
    """The same answers as the routes under ``/repository/drafts``, from the folder itself.

    Args:
        settings: Of the home.
        org: Whose drafts; needed when there are several organisations.

    Raises:
        NotInitialised: There is no home, or not the one organisation that is meant.
    """

    def __init__(self, settings: Settings, org: str | None = None) -> None:
        self._settings = settings
        self._org = organisation_of(settings, org)
        self._db: Database | None = None  # the ceremony's own
        finish_ceremony(settings, self._org, now=datetime.now(UTC))  # a crash may have left that undone
        self._drafts, self._wiring = self._open()

    def close(self) -> None:
        """Let go of the database."""
        if self._db is not None:
            self._db.close()
        if self._wiring is not None:
            self._wiring.close()

    def all(self) -> list[dict[str, Any]]:
        """All drafts, without the bytes to sign."""
        return [draft.described(whole=False) for draft in self._drafts.all()]

    def get(self, draft_id: str) -> dict[str, Any]:
        """One draft, whole."""
        return self._drafts.get(draft_id).described(whole=True)

    def sign(self, draft_id: str, signatures: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Take signatures; the last one makes the repository, or commits the change."""
        now = datetime.now(UTC)
        draft, serial = self._drafts.sign(draft_id, signatures, now=now)
        if self._wiring is None:
            finish_ceremony(self._settings, self._org, now=now)
        else:
            self._tell(
                "repository.draft.signed", draft_id, {"signers": sorted({k for s in signatures.values() for k in s})}
            )
        return {"draft": draft.described(whole=False), "serial": serial}

    def rebase(self, draft_id: str) -> dict[str, Any]:
        """Make a draft anew; its signatures are gone."""
        told = self._drafts.rebase(draft_id, now=datetime.now(UTC)).described(whole=True)
        self._tell("repository.draft.rebased", draft_id, {})
        return told

    def drop(self, draft_id: str) -> None:
        """Forget a draft."""
        self._drafts.drop(draft_id)
        self._tell("repository.draft.dropped", draft_id, {})

    def _open(self) -> tuple[Drafts | Ceremony, Any]:
        folder = repository_folder(self._settings, self._org)
        if (folder / "metadata" / "timestamp.json").exists():
            wiring = open_wavegate(self._settings, self._org)
            return wiring.repository.drafts, wiring
        self._db = open_database(self._settings)
        storage = repository_storage(self._settings, self._org, self._db)
        return Ceremony(folder, Keyring(keys_folder(self._settings, self._org)), storage=storage), None

    def _tell(self, tag: str, draft_id: str, data: Mapping[str, object]) -> None:
        if self._wiring is not None:
            event = AuditEvent(tag, draft_id, _LOCAL, datetime.now(UTC), data)
            self._wiring.audit.append(self._org, [event])
