"""Drafts that a product's team signs: what is published of a claimed product, and every change of it afterwards.

A change is kept as what was asked for, not as what came out: when the product has moved on meanwhile it is made anew
from what stands then, and takes nobody else's change back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from evidence.model import Actor
from repo_signing import edits, roles
from repo_signing.blobs import Blobs
from repo_signing.commit import Committer
from repo_signing.draft import Draft
from repo_signing.draft_box import DraftBox
from repo_signing.errors import CommitFailed, InvalidDraft
from repo_signing.making import Change, made, parts_of
from repo_signing.model import ArtifactRecord, AttestationUpload, NewArtifact, SbomUpload, StagedBlob
from repo_signing.offline import OfflineDraft
from repo_signing.paths import artifact_path
from repo_signing.records import Entry, artifact_entry, read_artifact, sha256_of
from repo_signing.view import View


class TeamDrafts:
    """The drafts of one repository, and those of claimed products among them."""

    def __init__(self, folder: Path, committer: Committer, blobs: Blobs) -> None:
        self._committer: Final = committer
        self._blobs: Final = blobs
        self._box: Final = DraftBox(folder, committer.storage)
        self._name: Final = folder.parent.name  # <home>/orgs/<org>/repository

    def all(self) -> list[OfflineDraft]:
        """All drafts, oldest first."""
        return self._box.all()

    def get(self, draft_id: str) -> OfflineDraft:
        """One draft; raises UnknownDraft."""
        return self._box.get(draft_id)

    def named_blobs(self) -> set[str]:
        """Digests of all targets in what waits to be signed."""
        return self._box.named_blobs()

    def claims(self) -> dict[str, roles.Rule]:
        """Claimed products and the rule for each, by name."""
        view = self._committer.view()
        found = {product: view.rule(f"{roles.PRODUCT_PREFIX}{product}") for product in sorted(view.claims)}
        return {product: rule for product, rule in found.items() if rule is not None}

    def draft_publish(
        self, new: NewArtifact, *, now: datetime, deadline: datetime | None = None
    ) -> tuple[ArtifactRecord, OfflineDraft | None]:
        """Draft an artifact of a claimed product, for its team to sign.

        The same bytes again return the draft that waits already, or no draft when they are signed; so it is safe to
        repeat. SBOMs and attestations that the waiting draft lacks are added to it, and its signatures are gone then.

        Raises:
            What :meth:`SignedRepository.publish` raises.
        """
        path = artifact_path(new.product, new.version, new.platform, new.file_name)
        for upload in (new.staged, *new.companions()):
            self._blobs.keep(upload)
        role = f"{roles.PRODUCT_PREFIX}{new.product}"
        with self._committer.lock:
            view = self._committer.view()
            trial = Draft(view, self._committer.next_serial(view), now, own=role)
            for waiting in self.all():
                entry = waiting.change.get("entries", {}).get(path)
                if entry is not None and sha256_of(entry) == new.staged.sha256:
                    return self._completed(waiting, trial, path, new, now)
            record, _ = edits.publish(trial, path, new, now)
            if trial.is_empty():
                return record, None
            change = {
                "kind": "product",
                "product": new.product,
                "entries": dict(trial.changes()),
                "title": f"publish {path}",
            }
            return record, self._draft(change, new.publisher, now, deadline)

    def draft_edit(
        self, path: str, edit: Mapping[str, Any], *, by: Actor, now: datetime, deadline: datetime | None = None
    ) -> tuple[ArtifactRecord, OfflineDraft | None]:
        """Draft a change of a claimed product's artifact, for its team to sign.

        Args:
            path: Of the artifact.
            edit: One of :func:`yank`, :func:`amend`, :func:`attach`, :func:`take_out`.
            by: Who asks.
            now: Of the change.
            deadline: No signature is taken after it; by default 30 days ahead.

        Returns:
            The record as it would be, and the draft; the one that waits already for the same change; none when there is
            nothing to change.

        Raises:
            UnknownTarget, ArtifactWithdrawn, InvalidRecord, UnknownUpload: As without a claim.
            InvalidDraft: The product is not claimed.
        """
        product = path.partition("/")[0]
        asked = {**edit, "path": path}
        if "upload" in edit:
            self._blobs.keep(StagedBlob(**edit["upload"]["staged"]))
        with self._committer.lock:
            view = self._committer.view()
            if product not in view.claims:
                raise InvalidDraft(f"{product!r} is not claimed; the server signs the change itself")
            trial = Draft(view, self._committer.next_serial(view), now, own=f"{roles.PRODUCT_PREFIX}{product}")
            stamped = {**asked, "by": by.to_dict(), "at": now.isoformat()}
            record = edits.edit(trial, stamped)
            if trial.is_empty():
                return record, None
            same = [one for one in self.all() if _what(one.change.get("edit", {})) == _what(asked)]
            if same:
                draft = same[0]
            else:
                title = f"{edit['verb']} {path}"
                change = {"kind": "product", "product": product, "edit": stamped, "title": title}
                draft = self._draft(change, by, now, deadline)
            # As it is to be signed: ids were given once more when the draft was made.
            entry = draft.parts[0].body["targets"].get(path)
            return record if entry is None else read_artifact(path, entry), draft

    def _completed(
        self, waiting: OfflineDraft, trial: Draft, path: str, new: NewArtifact, now: datetime
    ) -> tuple[ArtifactRecord, OfflineDraft]:
        """The draft that waits, with the SBOMs and attestations that came only now."""
        entries: dict[str, Entry] = waiting.change["entries"]
        for at, entry in entries.items():
            trial.put(at, entry)
        edits.publish(trial, path, new, now)
        before, record = read_artifact(path, entries[path]), trial.artifact(path)
        if (record.sboms, record.attestations) == (before.sboms, before.attestations):
            return before, waiting
        # Nothing of it is signed yet, so there is no change to tell of.
        whole = {at: entry for at, entry in trial.changes().items() if entry is not None}
        change = {**waiting.change, "entries": whole | {path: artifact_entry(record, [])}}
        after = self._build(change, waiting.created_by, now, None, waiting.id)
        self._box.replace(after)
        return record, after

    def _draft(self, change: Change, by: Actor, now: datetime, deadline: datetime | None) -> OfflineDraft:
        with self._committer.lock:
            draft = self._build(change, by, now, deadline, None)
            self._box.add(draft)
            return draft

    def _build(
        self, change: Change, by: Actor, now: datetime, deadline: datetime | None, draft_id: str | None
    ) -> OfflineDraft:
        if deadline is not None and deadline <= now:
            raise InvalidDraft(f"the deadline {deadline} has passed; choose one ahead")
        view = self._committer.view()
        version = self._committer.next_serial(view)
        title, parts, basis = parts_of(change, view, version, now)
        if any(part.role != roles.ROOT for part in parts):
            try:
                self._committer.burn(version)  # the number stands in what is signed and must name nothing else
            except OSError as error:
                raise CommitFailed(f"the draft could not be written: {error.strerror or error}; try again") from error
        known = [*self._public_keys(view)]
        draft = made(
            {**change, "known_keys": known}, title, parts, basis, by=by, now=now, deadline=deadline, draft_id=draft_id
        )
        return replace(draft, change=change)

    def _public_keys(self, view: View) -> list[dict[str, Any]]:
        bodies = (view.root_body, view.role(roles.TARGETS).body.get("delegations") or {})
        return [{"keyid": keyid, **key} for body in bodies for keyid, key in body.get("keys", {}).items()]


def _what(edit: Mapping[str, Any]) -> dict[str, Any]:
    """An edit without who asked for it, when, and by which upload."""
    what = {name: value for name, value in edit.items() if name not in ("by", "at")}
    if "upload" in what:
        signers = list(what["upload"].get("verified_by", ()))  # a tuple until it was stored
        what["upload"] = {**what["upload"], "staged": what["upload"]["staged"]["sha256"], "verified_by": signers}
    return what


def yank(reason: str) -> dict[str, Any]:
    """Mark it as not to be installed."""
    return {"verb": "yank", "reason": reason}


def amend(notes: str | None, labels: Mapping[str, str] | None) -> dict[str, Any]:
    """Replace notes and labels; None leaves them."""
    return {"verb": "amend", "notes": notes, "labels": None if labels is None else dict(labels)}


def attach(upload: SbomUpload | AttestationUpload) -> dict[str, Any]:
    """Put an SBOM or attestation beside it."""
    return {"verb": "attach-sbom" if isinstance(upload, SbomUpload) else "attest", "upload": asdict(upload)}


def take_out(reason: str, *, revoke: bool) -> dict[str, Any]:
    """Withdraw or revoke it. The team signs it away; its record is kept by the server's own keys."""
    return {"verb": "revoke" if revoke else "withdraw", "reason": reason}
