"""Keeping a repository well: renewal before expiry, recovery after a crash, and the check of everything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from evidence.model import Actor, AuditEvent
from keys.errors import CustodyError
from repo_signing import roles
from repo_signing.blobs import CHUNK, Blobs
from repo_signing.commit import Committer
from repo_signing.draft import Draft
from repo_signing.errors import RepositoryDamaged, RepositoryError
from repo_signing.model import Finding, RepositoryStatus, RoleStatus
from repo_signing.paths import versioned_name
from repo_signing.ports import CountedProjection
from repo_signing.records import sha256_of
from repo_signing.role_cache import Role
from repo_signing.storage import TEMPORARY
from repo_signing.view import View, read_root

_FIRST_NAMED: Final = (roles.ROOT, roles.TIMESTAMP, roles.SNAPSHOT, roles.TARGETS)


def renew_due(draft: Draft, now: datetime, *, force: bool) -> list[str]:
    """Mark the online roles that are due, with ``force`` timestamp and snapshot anyway; returns their names."""
    view = draft.view
    due = [name for name in view.standing() if roles.is_due(name, view.versions[name], view.facts(name).expires, now)]
    snapshot, timestamp = view.snapshot, view.timestamp
    if due or force or roles.is_due(roles.SNAPSHOT, snapshot.version, snapshot.expires, now):
        due.append(roles.SNAPSHOT)
    if due or roles.is_due(roles.TIMESTAMP, timestamp.version, timestamp.expires, now):
        due.append(roles.TIMESTAMP)
    for name in due:
        draft.renew(name)
    return due


def renew_everything(draft: Draft) -> None:
    """Mark every role whose key is online."""
    for name in (*draft.view.standing(), roles.SNAPSHOT, roles.TIMESTAMP):
        if not roles.is_offline(name):
            draft.renew(name)


def fence_off(committer: Committer, now: datetime) -> None:
    """Where other servers write: make sure that what a dead one left can never become visible, and take it away.

    To be called under the lock. What cannot be signed now is left for the next time.
    """
    serial = committer.view().serial
    if committer.storage.survey(committer.metadata, serial):
        with suppress(RepositoryError, CustodyError):
            committer.submit(lambda draft: draft.renew(roles.TIMESTAMP), now)


def status_of(view: View, projected_serial: int) -> RepositoryStatus:
    """Describe a state; the first time in a process it reads every role."""
    described = [
        RoleStatus(name=roles.ROOT, version=view.root.version, expires=view.root.expires, targets=None),
        _status(view.timestamp),
        _status(view.snapshot),
        _status(view.role(roles.TARGETS)),
    ]
    facts = {name: view.facts(name) for name in view.standing() if name not in _FIRST_NAMED}
    described += [
        RoleStatus(name=name, version=one.version, expires=one.expires, targets=one.targets)
        for name, one in facts.items()
    ]
    return RepositoryStatus(
        serial=view.serial,
        projected_serial=projected_serial,
        root_version=view.root.version,
        root_sha256=view.root_sha256,
        artifacts=sum(view.facts(name).artifacts for name in view.holders()),
        roles=tuple(described),
    )


class Inspection:
    """One check of a repository, run under its lock; :meth:`blob_faults` alone needs none.

    Args:
        committer: Whose folder is looked at.
        blobs: Of the same folder.
        repair: Mend what can be mended from what is signed.
        now: Uploads older than a day are stale, roles past their expiry are told.
    """

    def __init__(self, committer: Committer, blobs: Blobs, *, repair: bool, now: datetime) -> None:
        self._committer: Final = committer
        self._blobs: Final = blobs
        self._repair: Final = repair
        self._now: Final = now

    def recover(self) -> list[Finding]:
        """What a crash leaves behind: orphans above the chain, unfinished files, an index behind. And old uploads."""
        view = self._committer.view()
        return [*self._leftovers(view), *self._stale_uploads(), *self._index_behind(view)]

    def full(self) -> list[Finding]:
        """Signatures and expiry of every role, leftovers, uploads and the index."""
        try:
            # From nothing, so that what this process has in memory does not vouch for what is on disk.
            view = View.load(self._committer.metadata)
        except RepositoryDamaged as error:
            return [Finding(kind="damaged_metadata", what=str(error))]
        damaged = list(self._damaged(view))
        if damaged:
            return damaged  # repairing an index or sweeping files after metadata that lies would make it worse
        return [
            *self._expired(view),
            *self._leftovers(view),
            *self._stale_uploads(),
            *self._index_behind(view),
            *self._index_differs(view),
        ]

    def _damaged(self, view: View) -> Iterator[Finding]:
        try:
            names = view.standing()
        except RepositoryDamaged:
            names = sorted(view.versions)  # targets or releases, which tell what stands, is itself damaged
        for name in names:
            try:
                view.role(name)
            except RepositoryDamaged as error:
                yield Finding(kind="damaged_metadata", what=str(error))
        try:
            read_root(self._committer.metadata)
        except RepositoryDamaged as error:
            yield Finding(kind="damaged_metadata", what=str(error))
        if not all(self._committer.can_sign(view, name) for name in (roles.TIMESTAMP, roles.SNAPSHOT)):
            yield Finding(
                kind="damaged_metadata",
                what="root.json names other keys than the keyring has; one of the two is from another repository",
            )

    def _expired(self, view: View) -> Iterator[Finding]:
        for role in status_of(view, 0).roles:
            if role.expires <= self._now:
                how = (
                    "needs its offline keys: `publish repo draft new`"
                    if roles.is_offline(role.name)
                    else "run `publish repo refresh`"
                )
                yield Finding(kind="expired_role", what=f"{role.name} expired on {roles.time_out(role.expires)}; {how}")

    def _leftovers(self, view: View) -> Iterator[Finding]:
        metadata = self._committer.metadata
        versions = ((path, versioned_name(path.name)) for path in sorted(metadata.iterdir()))
        above = [
            (path, named[0])
            for path, named in versions
            if named is not None and named[1] != roles.ROOT and named[0] > view.serial
        ]
        if above and self._repair:
            self._committer.burn(max(version for _, version in above))
        for path, _ in above:
            yield self._removed(path, "orphan_metadata", "was written by a commit that never became visible")
        folder = metadata.parent
        unfinished = [
            *sorted(metadata.glob(f"{TEMPORARY}*")),
            *sorted(folder.glob(f"{TEMPORARY}*")),
            *sorted((folder / "drafts").glob(f"{TEMPORARY}*")),
            *self._blobs.temporary(),
        ]
        for path in unfinished:
            yield self._removed(path, "temporary_file", "is unfinished")

    def _stale_uploads(self) -> Iterator[Finding]:
        for path in self._blobs.stale(self._now):
            yield self._removed(path, "stale_upload", "was uploaded more than a day ago and never signed")

    def blob_faults(self, view: View, *, deep: bool) -> Iterator[Finding]:
        """Blobs that are missing or of another length; with ``deep`` also those with other bytes."""
        for name in view.standing():
            for path, entry in sorted(view.role(name).body["targets"].items()):
                fault = self._blob_fault(entry, deep=deep)
                if fault is not None:
                    yield Finding(
                        kind=fault, what=f"the bytes of {path} ({sha256_of(entry)}); restore them from a mirror"
                    )

    def _blob_fault(self, entry: dict[str, Any], *, deep: bool) -> str | None:
        path, storage = self._blobs.path(sha256_of(entry)), self._committer.storage
        length = storage.length(path)
        if length is None:
            return "missing_blob"
        try:
            is_damaged = length != entry["length"] or (
                deep and storage.fetch(path) and _digest(path) != sha256_of(entry)
            )
        except RepositoryDamaged:
            is_damaged = True
        return "damaged_blob" if is_damaged else None

    def _index_behind(self, view: View) -> Iterator[Finding]:
        projected = self._committer.projected_serial()
        what = f"the index has serial {projected}, signed is {view.serial}"
        if projected > view.serial:
            yield Finding(
                kind="index_ahead", what=f"{what}: the folder is from an older copy; see `publish repo rebuild-db`"
            )
        elif projected < view.serial:
            if self._repair:
                self._committer.catch_up()
            if projected == 0 and next(view.artifacts(), None) is None:
                return  # new, and never asked for anything yet
            yield Finding(kind="index_behind", what=what, repaired=self._repair)

    def _index_differs(self, view: View) -> Iterator[Finding]:
        projection = self._committer.projection
        if not isinstance(projection, CountedProjection) or projection.projected_serial() != view.serial:
            return
        signed, indexed = sum(1 for _ in view.artifacts()), projection.artifact_count()
        if signed != indexed:
            if self._repair:
                rebuild(self._committer)
            yield Finding(
                kind="index_differs",
                what=f"the index has {indexed} artifacts, signed are {signed}",
                repaired=self._repair,
            )

    def _removed(self, path: Path, kind: str, why: str) -> Finding:
        if self._repair:
            self._committer.storage.remove(path)
        return Finding(kind=kind, what=f"{path.name} {why}", repaired=self._repair)


def named_blobs(view: View) -> set[str]:
    """Digests of everything that is signed as a target now; reads every role."""
    return {sha256_of(entry) for name in view.standing() for entry in view.role(name).body["targets"].values()}


def tell_repairs(committer: Committer, findings: list[Finding], *, by: Actor, subject: str, now: datetime) -> None:
    """Write one audit event over what was repaired, if anything was."""
    repaired = [{"kind": one.kind, "what": one.what} for one in findings if one.repaired]
    if repaired:
        event = AuditEvent("repository.repaired", subject, by, now, {"findings": repaired})
        committer.projection.project(committer.view().serial, [], [event])


def rebuild(committer: Committer) -> int:
    """Forget the index and make it anew from signed metadata, under the lock; returns the number of artifacts.

    Serials that only the index knew of stay burned: clients may have seen them.
    """
    view = committer.view()
    committer.burn(committer.projected_serial())
    committer.projection.clear()
    records = list(view.artifacts())
    committer.projection.project(view.serial, records, [])
    return len(records)


def _status(role: Role) -> RoleStatus:
    targets = role.body.get("targets")
    return RoleStatus(
        name=role.name,
        version=role.version,
        expires=role.expires,
        targets=None if targets is None else len(targets),
    )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
