"""What the rollout room needs from outside; ``store`` and ``repo_signing`` fulfil it, a simulator in the tests too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from evidence.model import AuditEvent
from rollout.model import ArtifactRef, Counters, DeviceProgress, Plan, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A transition that changes what is served, written before it is signed.

    ``seen`` is the revision it was decided on, ``after`` the rollout once settled (revision ``seen + 1``),
    ``decision_hash`` the lower-case hex SHA-256 over ``changes``: target path to the document's text, or None for one
    that is to be removed.
    """

    id: str
    seen: int
    after: Rollout
    events: tuple[AuditEvent, ...]
    decision_hash: str
    changes: Mapping[str, str | None]
    proposed_at: datetime


ProgressChange = Callable[[Rollout, DeviceProgress | None], DeviceProgress | None]


class Rollouts(Protocol):
    """Rollouts at rest. Every method is one transaction; nothing is left behind on an error."""

    def get(self, org: str, rollout_id: str) -> Rollout:
        """Raises UnknownRollout, also for another organisation's."""

    def add(self, rollout: Rollout, event: AuditEvent) -> None:
        """Store a new rollout together with its first event."""

    def save(self, after: Rollout, events: Sequence[AuditEvent], *, seen: int) -> None:
        """Store state and events; raises RolloutChanged unless the stored revision is ``seen`` and no intent stands."""

    def propose(self, intent: Intent) -> None:
        """Write the intent; raises RolloutChanged unless the stored revision is ``intent.seen`` and none stands."""

    def standing(self, intent: Intent) -> bool:
        """Whether this very intent still stands (asked under the repository lock, just before signing)."""

    def settle(self, intent: Intent) -> None:
        """Save ``after`` and the events and remove the intent; does nothing when it was settled before."""

    def drop(self, intent: Intent) -> None:
        """Remove the intent; the rollout stays as it was."""

    def intents(self, org: str) -> Sequence[Intent]:
        """All standing intents, oldest first."""

    def moving(self, org: str) -> Sequence[str]:
        """Ids of rollouts that are waiting or running, oldest first."""

    def overlapping(self, org: str, product: str, groups: Sequence[str]) -> Sequence[Rollout]:
        """Rollouts of this product that are waiting, running or paused and have a wave in one of the groups."""

    def counters(self, rollout_id: str) -> Mapping[int, Counters]:
        """Counters by wave number; a wave nobody reported in is absent."""

    def counters_of(self, rollout_ids: Sequence[str]) -> Mapping[str, Mapping[int, Counters]]:
        """As :meth:`counters`, for several rollouts at once; one without any counters is absent."""

    def stalled(self, rollout_id: str, wave: int, *, before: datetime) -> int:
        """How many devices of the wave are downloading or installing, and said so at ``before`` or earlier."""

    def update_progress(
        self,
        org: str,
        rollout_id: str,
        device: str,
        change: ProgressChange,
    ) -> bool:
        """Read the device's row, ask ``change`` for the new one, write row and counters in one transaction.

        ``change`` gets ``None`` for a device that has not reported, and answers ``None`` when nothing moves (the
        return is then False). The counters of the row's wave move by the difference of the two rows.
        """

    def events(self, org: str, rollout_id: str) -> Sequence[AuditEvent]:
        """The rollout's audit events, in order."""


class Decisions(Protocol):
    """The signed documents devices read: target paths under ``decisions/`` and ``brakes/``."""

    def approvers_sign(self, product: str) -> bool:
        """Whether the product's decisions are signed by its approvers' own keys, which nobody here holds."""

    def lacking(self, changes: Mapping[str, bytes | None]) -> str:
        """Which approvers' signatures these documents wait for, in one line; empty when none is missing."""

    def proposed(self, rollout_id: str) -> Mapping[int, Mapping[str, bytes]]:
        """The documents by path that approvers were last asked to sign, by wave; empty when they never were."""

    def commit(self, changes: Mapping[str, bytes | None], *, only_if: Callable[[], bool], now: datetime) -> int:
        """Sign the documents (``None`` removes one) in one repository commit and return its serial.

        ``only_if`` is asked under the repository lock before anything is written; False raises RolloutChanged and
        nothing has changed. Documents that already stand as asked make no commit: the current serial is returned.
        Raises SignaturesNeeded when approvers have to sign and have not signed just these; nothing has changed then.
        """

    def served(self, path: str) -> bytes | None:
        """The bytes that clients get for ``path`` now, read from the signed metadata; None when there are none."""

    def exclusively(self, action: Callable[[], None]) -> None:
        """Run ``action`` under the repository lock: no commit is halfway while it runs."""


class Releases(Protocol):
    """Artifacts as the rollout room sees them."""

    def artifacts(self, org: str, product: str, version: str, channel: str | None) -> Mapping[str, ArtifactRef]:
        """Signed artifacts of a release by platform; empty when there is none."""

    def blocked(self, org: str, artifact_ids: Sequence[str]) -> Mapping[str, str]:
        """Of these artifacts, those that may not be offered (yanked, withdrawn), each with the reason."""


class Groups(Protocol):
    """Groups as the rollout room sees them. A group is named by its slug."""

    def missing(self, org: str, names: Sequence[str]) -> Sequence[str]:
        """Those of the names that are no group of the organisation."""

    def size(self, org: str, name: str) -> int:
        """How many active devices are in the group."""

    def members(self, org: str, name: str) -> Sequence[str]:
        """Ids of the group's active devices, ascending; asked only for groups small enough to count one by one."""

    def of_device(self, org: str, device: str) -> frozenset[str]:
        """Names of the groups the device is in."""


class HouseRules(Protocol):
    """What the organisation says beside every plan: exclusions and freeze windows."""

    def blocking(self, org: str, plan: Plan, now: datetime) -> str:
        """Why the plan's release may be offered to nobody, in one line; empty when it may be."""

    def left_out(self, org: str, plan: Plan, now: datetime) -> tuple[frozenset[str], frozenset[str]]:
        """Devices (ids) and groups (names) that are not to take the plan's release."""

    def frozen(self, org: str, plan: Plan, now: datetime) -> str:
        """Why no wave opens now and until when, in one line; empty when waves may open."""

    def prepare(self, org: str, plan: Plan, now: datetime) -> None:
        """Called before anything of the plan is offered: what must be signed first is signed when this returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What is known of a device that a rollout may reach: ``version`` of the product it runs, None when it has none."""

    device: str
    name: str
    platform: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Kind:
    """So many devices of one platform that run one version of a product (None: they have none)."""

    platform: str
    version: str | None
    devices: int


class Inventory(Protocol):
    """Devices of a group as a preview counts them; active ones only, and none that is held back."""

    def facts(self, org: str, group: str, product: str, *, limit: int) -> Sequence[DeviceFacts]:
        """At most ``limit`` of the group's devices, by id."""

    def kinds(self, org: str, group: str, product: str) -> Sequence[Kind]:
        """All of the group's devices, counted by platform and version; costs with the group's size."""

    def held_back(self, org: str, group: str) -> int:
        """How many more an edit put into the group while a wave was open: they are told when the next one opens."""
