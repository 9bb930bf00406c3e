"""The changes that one commit will make, before anything is signed.

Each request works on a trial of its own; only a trial that was not refused is absorbed, so one request's refusal leaves
no trace in the commit of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from evidence.model import AuditEvent
from repo_signing import roles
from repo_signing.errors import ArtifactWithdrawn, UnknownTarget
from repo_signing.model import ArtifactRecord
from repo_signing.records import (
    Entry,
    artifact_entry,
    is_artifact,
    is_record,
    read_artifact,
    read_changes,
    withdrawn_entry,
    withdrawn_path,
)
from repo_signing.role_cache import Role
from repo_signing.view import View


class Draft:
    """Targets as they will be: what the view has, overlaid with changes.

    Args:
        view: The state the commit starts from.
        serial: The number the commit will have.
        now: The commit's moment.
        under: The draft that this is a trial of.
    """

    def __init__(self, view: View, serial: int, now: datetime, under: Draft | None = None) -> None:
        self.view: Final = view
        self.serial: Final = serial
        self.now: Final = now
        self._under: Final = under
        # Held while the draft lives: a batch asks for its bins twice, and the view forgets more than it keeps.
        self._held: Final[dict[str, Role]] = {} if under is None else under._held
        self._changes: Final[dict[str, Entry | None]] = {}
        self._renewals: Final[set[str]] = set()

    def trial(self) -> Draft:
        """A draft on top of this one, to be absorbed or forgotten."""
        return Draft(self.view, self.serial, self.now, under=self)

    def absorb(self, trial: Draft) -> None:
        """Take over what a trial changed."""
        self._changes.update(trial._changes)
        self._renewals.update(trial._renewals)

    def target(self, path: str) -> Entry | None:
        """The entry as it would be after the commit."""
        if path in self._changes:
            return self._changes[path]
        return self._standing(path) if self._under is None else self._under.target(path)

    def _standing(self, path: str) -> Entry | None:
        name = self.view.holder(path)
        if name not in self.view.versions:
            return None
        entry: Entry | None = self._role(name).body["targets"].get(path)
        return entry

    def _role(self, name: str) -> Role:
        found = self._held.get(name)
        if found is None:
            found = self._held[name] = self.view.role(name)
        return found

    def put(self, path: str, entry: Entry | None) -> None:
        """Set an entry (None removes it); one that stands as asked is no change."""
        if self.target(path) != entry:
            self._changes[path] = entry

    def renew(self, role: str) -> None:
        """Have an online role signed anew, also when nothing in it changes."""
        self._renewals.add(role)

    def is_empty(self) -> bool:
        """Say whether there is nothing to commit."""
        return not self._changes and not self._renewals

    def is_renewed(self, role: str) -> bool:
        """Say whether :meth:`renew` was asked for this role."""
        return role in self._renewals

    def artifact(self, path: str) -> ArtifactRecord:
        """The record of a signed artifact; raises UnknownTarget, ArtifactWithdrawn."""
        entry = self.target(path)
        if entry is None or not is_artifact(entry):
            self.refuse_withdrawn(path)
            raise UnknownTarget(f"no artifact is signed at {path!r}; look it up in the list of artifacts")
        return read_artifact(path, entry)

    def put_artifact(self, record: ArtifactRecord, event: AuditEvent | None) -> None:
        """Set an artifact's record; ``event`` tells what changed, None that it is new."""
        told = self._told(record.path)  # this commit may have changed it already
        if event is not None:
            told.append(event)
        self.put(record.path, artifact_entry(record, told))

    def withdrawn(self, path: str) -> ArtifactRecord | None:
        """The record of the artifact that was withdrawn from this path, if one was."""
        entry = self.target(withdrawn_path(path))
        return None if entry is None else read_artifact(path, entry)

    def refuse_withdrawn(self, path: str) -> None:
        """Raises ArtifactWithdrawn when the path is closed."""
        record = self.withdrawn(path)
        if record is not None and record.withdrawn is not None:
            raise ArtifactWithdrawn(
                f"{path} was withdrawn by {record.withdrawn.by.name} ({record.withdrawn.reason}) and its path is never "
                "used again; publish a new version"
            )

    def put_withdrawn(self, record: ArtifactRecord, event: AuditEvent, notice: bytes) -> None:
        """Take an artifact out of its place and keep its record; ``notice`` must be among the blobs."""
        place = withdrawn_path(record.path)
        told = [*self._told(record.path), *self._told(place), event]
        self.put(record.path, None)
        self.put(place, withdrawn_entry(record, told, notice))

    def _told(self, path: str) -> list[AuditEvent]:
        before = self.target(path)
        return read_changes(before) if before is not None and before["custom"]["serial"] == self.serial else []

    def artifacts(self) -> list[tuple[ArtifactRecord, list[AuditEvent]]]:
        """Records that this draft sets, by path, each with the events of its change."""
        return [
            (read_artifact(path, entry), read_changes(entry))
            for path, entry in sorted(self._changes.items())
            if entry is not None and is_record(entry)
        ]

    def bodies(self) -> dict[str, dict[str, Any]]:
        """By name the delegated roles to be signed anew, each with version and expiry of this commit.

        A delegator comes before what it delegates to.
        """
        changed: defaultdict[str, dict[str, Entry | None]] = defaultdict(dict)
        for path, entry in self._changes.items():
            changed[self.view.holder(path)][path] = entry
        names = changed.keys() | (self._renewals - {roles.TIMESTAMP, roles.SNAPSHOT})
        releases = self.view.role(roles.RELEASES)
        if releases.expires <= self.now and any(roles.delegator(name) == roles.RELEASES for name in names):
            names |= {roles.RELEASES}  # a server that slept for months can publish before its first refresh
        opened = [name for name in sorted(names) if name not in self.view.versions]
        if opened:
            names |= {roles.RELEASES}
        ordered = sorted(names, key=lambda name: (roles.delegator(name) == roles.RELEASES, name))
        bodies = {name: self._body(name, changed[name]) for name in ordered}
        for name in opened:
            product = name.removeprefix(f"{roles.RELEASES}-")
            bodies[roles.RELEASES] = roles.with_product(bodies[roles.RELEASES], product)
        return bodies

    def _body(self, name: str, entries: Mapping[str, Entry | None]) -> dict[str, Any]:
        if name in self.view.versions:
            body = self._role(name).body
        else:  # the first of its product, in the layout of paths
            body = roles.holder_body(name, {}, self.serial, self.now)
        targets = dict(body["targets"])
        for path, entry in entries.items():
            if entry is None:
                targets.pop(path, None)
            else:
                targets[path] = entry
        return roles.renewed_body(name, dict(body) | {"targets": targets}, self.serial, self.now)
