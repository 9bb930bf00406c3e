"""Honest second implementations of the rollout room's ports, in memory.

Each can stop where a process could: ``on_step`` is called with names such as ``"propose:before"`` and may raise.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from evidence.model import AuditEvent
from rollout.errors import RolloutChanged, SignaturesNeeded, UnknownRollout
from rollout.model import ArtifactRef, Counters, DeviceProgress, Progress, Rollout, State
from rollout.ports import DeviceFacts, Intent, Kind, ProgressChange
from rollout.progress import moved

Step = Callable[[str], None]


class Stopped(BaseException):
    """The process is gone: nothing after this runs, not even what catches Exception."""


def carry_on(step: str) -> None:
    """Stop nowhere."""


@dataclass
class RolloutsSimulator:
    """Fulfils ``rollout.ports.Rollouts``; one lock stands for the database's transactions."""

    on_step: Step = carry_on
    stored: dict[str, Rollout] = field(default_factory=dict)
    told: list[tuple[str, AuditEvent]] = field(default_factory=list)
    open_intents: dict[str, Intent] = field(default_factory=dict)
    rows: dict[tuple[str, str], DeviceProgress] = field(default_factory=dict)
    kept_counters: dict[str, dict[int, Counters]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def get(self, org: str, rollout_id: str) -> Rollout:
        found = self.stored.get(rollout_id)
        if found is None or found.org != org:
            raise UnknownRollout(f"no rollout {rollout_id}")
        return found

    def add(self, rollout: Rollout, event: AuditEvent) -> None:
        with self.lock:
            self.stored[rollout.id] = rollout
            self.told.append((rollout.org, event))

    def save(self, after: Rollout, events: Sequence[AuditEvent], *, seen: int) -> None:
        self.on_step("save:before")
        with self.lock:
            self._claim(after, seen)
            self._keep(after, events)
        self.on_step("save:after")

    def propose(self, intent: Intent) -> None:
        self.on_step("propose:before")
        with self.lock:
            self._claim(intent.after, intent.seen)
            self.open_intents[intent.after.id] = intent
        self.on_step("propose:after")

    def standing(self, intent: Intent) -> bool:
        found = self.open_intents.get(intent.after.id)
        return found is not None and found.id == intent.id

    def settle(self, intent: Intent) -> None:
        self.on_step("settle:before")
        with self.lock:
            if self.standing(intent):
                del self.open_intents[intent.after.id]
                self._keep(intent.after, intent.events)
        self.on_step("settle:after")

    def drop(self, intent: Intent) -> None:
        with self.lock:
            if self.standing(intent):
                del self.open_intents[intent.after.id]

    def intents(self, org: str) -> Sequence[Intent]:
        standing = [intent for intent in self.open_intents.values() if intent.after.org == org]
        return sorted(standing, key=lambda intent: (intent.proposed_at, intent.id))

    def moving(self, org: str) -> Sequence[str]:
        going = {State.WAITING, State.RUNNING}
        return sorted(one.id for one in self.stored.values() if one.org == org and one.state in going)

    def overlapping(self, org: str, product: str, groups: Sequence[str]) -> Sequence[Rollout]:
        under_way = {State.WAITING, State.RUNNING, State.PAUSED}
        return [
            one
            for _, one in sorted(self.stored.items())
            if one.org == org
            and one.plan.product == product
            and one.state in under_way
            and any(wave.group in groups for wave in one.plan.waves)
        ]

    def counters(self, rollout_id: str) -> Mapping[int, Counters]:
        return dict(self.kept_counters.get(rollout_id, {}))

    def counters_of(self, rollout_ids: Sequence[str]) -> Mapping[str, Mapping[int, Counters]]:
        return {one: dict(self.kept_counters[one]) for one in rollout_ids if one in self.kept_counters}

    def stalled(self, rollout_id: str, wave: int, *, before: datetime) -> int:
        under_way = {Progress.DOWNLOADING, Progress.INSTALLING}
        return sum(
            owner == rollout_id and row.wave == wave and row.progress in under_way and row.at <= before
            for (owner, _), row in self.rows.items()
        )

    def update_progress(self, org: str, rollout_id: str, device: str, change: ProgressChange) -> bool:
        with self.lock:
            rollout = self.get(org, rollout_id)
            before = self.rows.get((rollout_id, device))
            after = change(rollout, before)
            if after is None:
                return False
            self.rows[rollout_id, device] = after
            counters = self.kept_counters.setdefault(rollout_id, {})
            counters[after.wave] = moved(counters.get(after.wave, Counters()), before, after)
            return True

    def events(self, org: str, rollout_id: str) -> Sequence[AuditEvent]:
        return [event for owner, event in self.told if owner == org and event.subject == rollout_id]

    def _claim(self, after: Rollout, seen: int) -> None:
        found = self.get(after.org, after.id)
        if found.revision != seen:
            raise RolloutChanged(f"{after.id} is at revision {found.revision}, you saw {seen}; look again")
        if after.id in self.open_intents:
            raise RolloutChanged(f"{after.id} is being changed; look again")

    def _keep(self, after: Rollout, events: Sequence[AuditEvent]) -> None:
        self.stored[after.id] = after
        self.told.extend((after.org, event) for event in events)


@dataclass
class DecisionsSimulator:
    """Fulfils ``rollout.ports.Decisions``; a commit is one step, as the rename of timestamp.json is."""

    on_step: Step = carry_on
    documents: dict[str, bytes] = field(default_factory=dict)
    serial: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    signed_products: set[str] = field(default_factory=set)
    approved: list[dict[str, bytes]] = field(default_factory=list)  # changes that enough approvers have signed
    asked: dict[str, dict[int, dict[str, bytes]]] = field(default_factory=dict)  # by rollout and wave

    def approvers_sign(self, product: str) -> bool:
        return product in self.signed_products

    def lacking(self, changes: Mapping[str, bytes | None]) -> str:
        theirs = {
            path: document
            for path, document in changes.items()
            if path.startswith("decisions/") and path.split("/")[1] in self.signed_products
        }
        if all(self.documents.get(path) == document for path, document in theirs.items()) or theirs in self.approved:
            return ""
        return "0 of 2 signatures given"

    def proposed(self, rollout_id: str) -> Mapping[int, Mapping[str, bytes]]:
        return self.asked.get(rollout_id, {})

    def commit(self, changes: Mapping[str, bytes | None], *, only_if: Callable[[], bool], now: datetime) -> int:
        self.on_step("commit:before")
        with self.lock:
            if not only_if():
                raise RolloutChanged("the change was given up before it was signed; look again")
            if lacking := self.lacking(changes):
                raise SignaturesNeeded(lacking)
            if any(self.documents.get(path) != document for path, document in changes.items()):
                kept = {path: document for path, document in self.documents.items() if path not in changes}
                self.documents = kept | {path: new for path, new in changes.items() if new is not None}
                self.serial += 1
        self.on_step("commit:after")
        return self.serial

    def served(self, path: str) -> bytes | None:
        return self.documents.get(path)

    def exclusively(self, action: Callable[[], None]) -> None:
        with self.lock:
            action()


@dataclass
class ReleasesSimulator:
    """Fulfils ``rollout.ports.Releases``: releases by (org, product, version, channel), and what was yanked."""

    signed: dict[tuple[str, str, str, str], dict[str, ArtifactRef]] = field(default_factory=dict)
    yanked: dict[str, str] = field(default_factory=dict)

    def artifacts(self, org: str, product: str, version: str, channel: str | None) -> Mapping[str, ArtifactRef]:
        found: dict[str, ArtifactRef] = {}
        for key, artifacts in self.signed.items():
            if key[:3] == (org, product, version) and channel in {None, key[3]}:
                found |= artifacts
        return found

    def blocked(self, org: str, artifact_ids: Sequence[str]) -> Mapping[str, str]:
        return {artifact: self.yanked[artifact] for artifact in artifact_ids if artifact in self.yanked}


@dataclass
class GroupsSimulator:
    """Fulfils ``rollout.ports.Groups``: active devices by group name, of the organisation ``org``."""

    org: str
    devices: dict[str, list[str]] = field(default_factory=dict)

    def missing(self, org: str, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if org != self.org or name not in self.devices]

    def size(self, org: str, name: str) -> int:
        return len(self.members(org, name))

    def members(self, org: str, name: str) -> Sequence[str]:
        return sorted(self.devices.get(name, [])) if org == self.org else []

    def of_device(self, org: str, device: str) -> frozenset[str]:
        if org != self.org:
            return frozenset()
        return frozenset(name for name, members in self.devices.items() if device in members)


@dataclass
class InventorySimulator:
    """Fulfils ``rollout.ports.Inventory`` over the groups; every device is linux-amd64 and runs nothing unless told."""

    groups: GroupsSimulator
    platforms: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)

    def held_back(self, org: str, group: str) -> int:
        return self.waiting.get(group, 0)

    def facts(self, org: str, group: str, product: str, *, limit: int) -> Sequence[DeviceFacts]:
        return [
            DeviceFacts(
                device=device,
                name=f"name of {device}",
                platform=self.platforms.get(device, "linux-amd64"),
                version=self.versions.get(device),
            )
            for device in self.groups.members(org, group)[:limit]
        ]

    def kinds(self, org: str, group: str, product: str) -> Sequence[Kind]:
        every = Counter((one.platform, one.version) for one in self.facts(org, group, product, limit=10**9))
        return [Kind(platform, version, count) for (platform, version), count in every.items()]
