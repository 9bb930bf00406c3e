"""Which rollout goes first where several of one product share a group.

One document per product and group can be served, so two rollouts that share a group never have a wave open at once.
Where groups differ and a device is in both, the device chooses, by the same order: ``agent.choice``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rollout.model import Priority, Rollout
from rollout.ports import Rollouts

Place = tuple[bool, datetime, str]


def place(rollout: Rollout) -> Place:
    """Order of submission; a draft comes last."""
    return (rollout.submitted_at is None, rollout.submitted_at or rollout.created_at, rollout.id)


def is_security(rollout: Rollout) -> bool:
    """Whether its priority is ``security``."""
    return rollout.plan.priority is Priority.SECURITY


def outranks(one: Rollout, other: Rollout) -> bool:
    """Whether a device that both reach follows ``one``: security first, then the later submission."""
    return (is_security(one), place(one)) > (is_security(other), place(other))


def supersedes(newer: Rollout, older: Rollout) -> bool:
    """Whether of two that share a group ``newer`` ends ``older``: of its channel and priority, or a security one.

    A newer normal rollout never ends a security one, nor one of another channel: it waits.
    """
    if place(newer) <= place(older):
        return False
    if is_security(newer) and not is_security(older):
        return True
    return newer.plan.priority is older.plan.priority and newer.plan.channel == older.plan.channel


@dataclass(frozen=True, slots=True)
class Precedence:
    """The same, asked of the rollouts that are under way now."""

    rollouts: Rollouts

    def ended_by(self, rollout: Rollout) -> list[Rollout]:
        """Those that this one, once submitted, supersedes; the first submitted first."""
        return sorted((one for one in self._sharing(rollout) if supersedes(rollout, one)), key=place)

    def ending(self, rollout: Rollout) -> Rollout | None:
        """The newest of those that supersede this one."""
        return max((one for one in self._sharing(rollout) if supersedes(one, rollout)), key=place, default=None)

    def waited_for(self, rollout: Rollout) -> Rollout | None:
        """One that was there first, has a group of this one's, and is not superseded by it."""
        mine = place(rollout)
        for other in self._sharing(rollout):
            if place(other) < mine and not supersedes(rollout, other):
                return other
        return None

    def _sharing(self, rollout: Rollout) -> list[Rollout]:
        groups = sorted({wave.group for wave in rollout.plan.waves})
        found = self.rollouts.overlapping(rollout.org, rollout.plan.product, groups)
        return [other for other in found if other.id != rollout.id]
