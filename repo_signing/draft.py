"""The changes that one commit will make, before anything is signed.

Each request works on a trial of its own; only a trial that was not refused is absorbed, so one request's refusal leaves
no trace in the commit of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from evidence.model import AuditEvent
from repo_signing import roles
from repo_signing.errors import ApproversSign, ArtifactWithdrawn, ProductClaimed, UnknownTarget
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


class Placed(NamedTuple):
    """A role that was signed elsewhere: the file and its signed part."""

    raw: bytes
    body: Mapping[str, Any]

    @property
    def version(self) -> int:
        """The version in the signed part."""
        return int(self.body["version"])


class Draft:
    """Targets as they will be: what the view has, overlaid with changes.

    Args:
        view: The state the commit starts from.
        serial: The number the commit will have.
        now: The commit's moment.
        under: The draft that this is a trial of.
        own: The role of a claimed product that this is to be a draft of; its changes are signed elsewhere.
    """

    def __init__(
        self, view: View, serial: int, now: datetime, under: Draft | None = None, *, own: str | None = None
    ) -> None:
        self.view: Final = view
        self.serial: Final = serial
        self.now: Final = now
        self._under: Final = under
        # Held while the draft lives: a batch asks for its bins twice, and the view forgets more than it keeps.
        self._held: Final[dict[str, Role]] = {} if under is None else under._held
        self._own = own
        self._changes: Final[dict[str, Entry | None]] = {}
        self._renewals: Final[set[str]] = set()
        self._placed: Final[dict[str, Placed]] = {}
        self._opened: Final[set[str]] = set()
        self.sheds_signers = False

    def trial(self) -> Draft:
        """A draft on top of this one, to be absorbed or forgotten."""
        return Draft(self.view, self.serial, self.now, under=self)

    def absorb(self, trial: Draft) -> None:
        """Take over what a trial changed."""
        self._changes.update(trial._changes)
        self._renewals.update(trial._renewals)
        self._placed.update(trial._placed)
        self._opened.update(trial._opened)
        self.sheds_signers = self.sheds_signers or trial.sheds_signers

    def target(self, path: str) -> Entry | None:
        """The entry as it would be after the commit."""
        if path in self._changes:
            return self._changes[path]
        if (opened := self._opened_role(path)) is not None:
            return self._standing(path, opened)
        if self._placed and roles.is_waves(name := self.view.holder(path)) and name in self._placed:
            entry: Entry | None = self._placed[name].body["targets"].get(path)
            return entry
        return self._standing(path, self.view.holder(path)) if self._under is None else self._under.target(path)

    def _standing(self, path: str, name: str) -> Entry | None:
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
        """Set an entry (None removes it); one that stands as asked is no change.

        Raises:
            ProductClaimed: The path belongs to a product that is signed by its team's own keys.
        """
        if self.target(path) == entry:
            return
        holder = self.holder(path)
        if roles.is_product(holder) and holder != self._own:
            product = holder.removeprefix(roles.PRODUCT_PREFIX)
            raise ProductClaimed(
                f"{product} is claimed: its artifacts are signed by its team's own keys, which this server does not "
                "hold; sign with one of them (`publish push … --key URI`)"
            )
        if roles.is_waves(holder):
            product = holder.removeprefix(roles.WAVES_PREFIX)
            raise ApproversSign(
                f"the decisions of {product} are signed by its approvers' own keys, which this server does not hold: "
                "`publish rollout approve … --key URI`"
            )
        self._changes[path] = entry

    def changes(self) -> Mapping[str, Entry | None]:
        """What this draft itself sets, by path."""
        return self._changes

    def open_claim(self, product: str) -> None:
        """Let this draft set entries of a claimed product, in the bins: they are not claimed any more, or not yet.

        ``decisions/<product>`` does the same for decisions that approvers sign no longer, or not yet.
        """
        self._opened.add(product)

    def sign_elsewhere(self, role: str) -> None:
        """Let this draft change targets of a claimed product whose role, so changed, is placed in it."""
        self._own = role

    def holder(self, path: str) -> str:
        """Name of the role that will hold a path."""
        return self._opened_role(path) or self.view.holder(path)

    def _opened_role(self, path: str) -> str | None:
        opened = self._opened if self._under is None else self._opened | self._under._opened
        first, _, rest = path.partition("/")
        if first == roles.DECISIONS:
            return first if f"{first}/{rest.partition('/')[0]}" in opened else None
        return self.view.bin_of(path) if first in opened else None

    def is_placed(self, name: str) -> bool:
        """Say whether this draft, or the one it is a trial of, takes over the role as it was signed elsewhere."""
        return name in self._placed or (self._under is not None and self._under.is_placed(name))

    def place(self, name: str, raw: bytes, body: Mapping[str, Any]) -> None:
        """Take over a role as it was signed elsewhere: the next root, targets, or the role of a claimed product."""
        self._placed[name] = Placed(raw, body)

    def placed(self) -> Mapping[str, Placed]:
        """Roles that were signed elsewhere, by name."""
        return self._placed

    def shed_signers(self) -> None:
        """Sign snapshot and timestamp with the keys that root names and no other: an overlap ends here."""
        self.sheds_signers = True
        self._renewals.update((roles.SNAPSHOT, roles.TIMESTAMP))

    def renew(self, role: str) -> None:
        """Have an online role signed anew, also when nothing in it changes."""
        self._renewals.add(role)

    def is_empty(self) -> bool:
        """Say whether there is nothing to commit."""
        return not self._changes and not self._renewals and not self._placed

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
        entries: dict[str, Entry | None] = dict(self._changes)
        for name, placed in self._placed.items():
            if roles.is_product(name):
                targets = placed.body["targets"]
                entries |= {path: entry for path, entry in targets.items() if self.view.target(path) != entry}
        return [
            (read_artifact(path, entry), read_changes(entry))
            for path, entry in sorted(entries.items())
            if entry is not None and is_record(entry) and self._is_news(path, entry)
        ]

    def _is_news(self, path: str, entry: Entry) -> bool:
        # What only moves between a bin and a product's role keeps its record, and the index has it already.
        serial = int(entry["custom"]["serial"])
        standing = None if serial == self.serial else self._standing(path, self.view.holder(path))
        return standing is None or not is_artifact(standing) or serial > int(standing["custom"]["serial"])

    def bodies(self) -> dict[str, dict[str, Any]]:
        """By name the delegated roles to be signed anew, each with version and expiry of this commit.

        A delegator comes before what it delegates to.
        """
        changed: defaultdict[str, dict[str, Entry | None]] = defaultdict(dict)
        for path, entry in self._changes.items():
            holder = self.holder(path)
            if holder in self._placed:
                standing = self._placed[holder].body["targets"].get(path)
                assert standing == entry, f"{holder} was signed elsewhere with another {path}"
            else:
                changed[holder][path] = entry
        for path, entry in self._moved_lists():
            changed[roles.REVOCATIONS][path] = entry
            changed[self.view.bin_of(path)][path] = None
        names = changed.keys() | (self._renewals - {roles.TIMESTAMP, roles.SNAPSHOT}) | self._of_other_keys()
        releases = self.view.role(roles.RELEASES)
        if releases.expires <= self.now and any(roles.delegator(name) == roles.RELEASES for name in names):
            names |= {roles.RELEASES}  # a server that slept for months can publish before its first refresh
        opened = [
            name for name in sorted(names) if name not in self.view.versions and roles.delegator(name) == roles.RELEASES
        ]
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
        else:  # the first of its product, in the layout of paths; or the role of revocations, delegated just now
            body = roles.holder_body(name, {}, self.serial, self.now)
        targets = dict(body["targets"])
        for path, entry in entries.items():
            if entry is None:
                targets.pop(path, None)
            else:
                targets[path] = entry
        after = dict(body) | {"targets": targets}
        if name == roles.RELEASES and roles.TARGETS in self._placed:
            above = self._placed[roles.TARGETS].body
            rule = roles.rule_of(above, roles.RELEASES)
            assert rule is not None, "targets that do not delegate to releases are refused when they are drafted"
            after["delegations"] = roles.with_keys(body["delegations"], rule, above["delegations"]["keys"])
        return roles.renewed_body(name, after, self.serial, self.now)

    def _moved_lists(self) -> list[tuple[str, Entry]]:
        """The lists of revoked artifacts, when a placed targets gives them a role and they lie in bins; reads all."""
        placed = self._placed.get(roles.TARGETS)
        if placed is None or self.view.pins_revocations or roles.rule_of(placed.body, roles.REVOCATIONS) is None:
            return []
        return [
            (path, entry)
            for role in self.view.bins()
            if not roles.is_product(role.name)
            for path, entry in role.body["targets"].items()
            if roles.is_revocation_list(path)
        ]

    def _of_other_keys(self) -> set[str]:
        """Roles that a placed targets gives to other keys; all below the snapshot, so one commit changes them."""
        if roles.TARGETS not in self._placed:
            return set()
        body = self._placed[roles.TARGETS].body
        names = {
            name for name in (*roles.DOCUMENTS, roles.RELEASES) if roles.rule_of(body, name) != self.view.rule(name)
        }
        if roles.RELEASES in names:
            names.update(name for name in self.view.standing() if roles.delegator(name) == roles.RELEASES)
        return names
