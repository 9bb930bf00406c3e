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
from repo_signing.errors import ProductClaimed, UnknownTarget
from repo_signing.model import ArtifactRecord
from repo_signing.records import Entry, artifact_entry, is_artifact, read_artifact, read_changes
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
        self._own: Final = own
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
        if path.partition("/")[0] in self._opened:
            return self.view.role(self.view.bin_of(path)).body["targets"].get(path)  # type: ignore[no-any-return]
        return self.view.target(path) if self._under is None else self._under.target(path)

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
        self._changes[path] = entry

    def changes(self) -> Mapping[str, Entry | None]:
        """What this draft itself sets, by path."""
        return self._changes

    def open_claim(self, product: str) -> None:
        """Let this draft set entries of a claimed product, in the bins: they are not claimed any more, or not yet."""
        self._opened.add(product)

    def holder(self, path: str) -> str:
        """Name of the role that will hold a path."""
        opened = self._opened if self._under is None else self._opened | self._under._opened
        return self.view.bin_of(path) if path.partition("/")[0] in opened else self.view.holder(path)

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

    def body_of(self, name: str) -> Mapping[str, Any]:
        """The signed part that a role will have, if it is not signed anew by this commit."""
        if name in self._placed:
            return self._placed[name].body
        return self.view.root_body if name == roles.ROOT else self.view.role(name).body

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
        """The record of a signed artifact; raises UnknownTarget."""
        entry = self.target(path)
        if entry is None or not is_artifact(entry):
            raise UnknownTarget(f"no artifact is signed at {path!r}; look it up in the list of artifacts")
        return read_artifact(path, entry)

    def put_artifact(self, record: ArtifactRecord, event: AuditEvent | None) -> None:
        """Set an artifact's record; ``event`` tells what changed, None that it is new."""
        before = self.target(record.path)
        told: list[AuditEvent] = []
        if before is not None and before["custom"]["serial"] == self.serial:
            told = read_changes(before)  # this commit changed it already
        if event is not None:
            told.append(event)
        self.put(record.path, artifact_entry(record, told))

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
            if entry is not None and is_artifact(entry) and entry["custom"]["serial"] > self._known_up_to(path)
        ]

    def _known_up_to(self, path: str) -> int:
        # What only moves between a bin and a product's role keeps its record, and the index has it already.
        standing = self.view.target(path)
        return 0 if standing is None or not is_artifact(standing) else int(standing["custom"]["serial"])

    def bodies(self) -> dict[str, dict[str, Any]]:
        """By name the delegated roles to be signed anew, each with version and expiry of this commit.

        A delegator comes before what it delegates to.
        """
        changed: defaultdict[str, dict[str, Entry | None]] = defaultdict(dict)
        for path, entry in self._changes.items():
            changed[self.holder(path)][path] = entry
        names = changed.keys() | (self._renewals - {roles.TIMESTAMP, roles.SNAPSHOT}) | self._of_other_keys()
        releases = self.view.role(roles.RELEASES)
        if releases.expires <= self.now and any(roles.delegator(name) == roles.RELEASES for name in names):
            names |= {roles.RELEASES}  # a server that slept for months can publish before its first refresh
        ordered = sorted(names, key=lambda name: (roles.delegator(name) == roles.RELEASES, name))
        return {name: self._body(name, changed[name]) for name in ordered}

    def _body(self, name: str, entries: Mapping[str, Entry | None]) -> dict[str, Any]:
        body = self.view.role(name).body
        targets = dict(body["targets"])
        for path, entry in entries.items():
            if entry is None:
                targets.pop(path, None)
            else:
                targets[path] = entry
        after = dict(body) | {"targets": targets}
        if name == roles.RELEASES and roles.TARGETS in self._placed:
            after["delegations"] = self._bins_delegation(body["delegations"])
        return roles.renewed_body(name, after, self.serial, self.now)

    def _of_other_keys(self) -> set[str]:
        """Roles that a placed targets gives to other keys; all below the snapshot, so one commit changes them."""
        if roles.TARGETS not in self._placed:
            return set()
        body = self._placed[roles.TARGETS].body
        names = {
            name
            for name in (roles.DECISIONS, roles.BRAKES, roles.RELEASES)
            if roles.rule_of(body, name) != self.view.rule(name)
        }
        if roles.RELEASES in names:
            names.update(name for name in self.view.names() if roles.delegator(name) == roles.RELEASES)
        return names

    def _bins_delegation(self, before: Mapping[str, Any]) -> dict[str, Any]:
        body = self._placed[roles.TARGETS].body
        rule = roles.rule_of(body, roles.RELEASES)
        assert rule is not None, "targets that do not delegate to releases are refused when they are drafted"
        keys = {keyid: body["delegations"]["keys"][keyid] for keyid in rule.keyids}
        succinct = before["succinct_roles"] | {"keyids": list(rule.keyids), "threshold": rule.threshold}
        return dict(before) | {"keys": keys, "succinct_roles": succinct}
