"""Permits in memory: the rows as the database keeps them, and the answers that a device port gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rollout.budget import Budget
from rollout.model import DeviceProgress, Rollout
from rollout.permits import Census, Permit, PermitAnswer


@dataclass
class PermitRowsSimulator:
    """Fulfils ``rollout.permits.PermitRows``; ``labels`` by device, ``members`` by group, ``inactive`` devices."""

    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inactive: set[str] = field(default_factory=set)
    rows: Mapping[tuple[str, str], DeviceProgress] = field(default_factory=dict)
    kept: dict[tuple[str, str], Permit] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(
        self,
        rollout: Rollout,
        budget: Budget,
        device: str,
        choose: Callable[[Census], Permit | None],
        *,
        now: datetime,
    ) -> Permit | None:
        with self.lock:
            self.kept = {key: one for key, one in self.kept.items() if one.expires_at > now}
            mine = self.kept.get((rollout.id, device))
            value = self._value(device, budget.label) if mine is None else mine.value
            others = {
                one.device
                for one in self.kept.values()
                if (one.label, one.value) == (budget.label, value) and one.device not in {device, *self.inactive}
            }
            reached = {member for wave in rollout.plan.waves for member in self.members.get(wave.group, ())}
            alike = [one for one in reached - self.inactive if self._value(one, budget.label) == value]
            permit = choose(
                Census(
                    value=value,
                    updating=len(others),
                    devices=0 if budget.min_available is None else len(alike),
                    mine=mine,
                    row=self.rows.get((rollout.id, device)),
                )
            )
            if permit is not None:
                self.kept[rollout.id, device] = permit
            return permit

    def give_back(self, org: str, rollout_id: str, device: str) -> bool:
        return self.kept.pop((rollout_id, device), None) is not None

    def updating(self, org: str, label: str, *, now: datetime) -> Mapping[str, int]:
        found: dict[str, set[str]] = {}
        for one in self.held(org, label, now=now, after=None, limit=len(self.kept)):
            found.setdefault(one.value, set()).add(one.device)
        return {value: len(devices) for value, devices in found.items()}

    def held(
        self, org: str, label: str, *, now: datetime, after: tuple[str, str, str] | None, limit: int
    ) -> Sequence[Permit]:
        standing = [
            one
            for one in self.kept.values()
            if one.label == label and one.expires_at > now and one.device not in self.inactive
        ]
        placed = sorted(standing, key=_place)
        return [one for one in placed if after is None or _place(one) > after][:limit]

    def _value(self, device: str, label: str) -> str:
        return self.labels.get(device, {}).get(label, "")


@dataclass
class DevicePermitsSimulator:
    """Fulfils ``api.device.service.DevicePermits``: what was asked, and one answer to all of it."""

    answer: PermitAnswer = field(default_factory=lambda: PermitAnswer(granted=False, reason="not today"))
    asked: list[tuple[str, str, str, int]] = field(default_factory=list)
    back: list[tuple[str, str, str]] = field(default_factory=list)

    def ask(self, org: str, device: str, rollout_id: str, attempt: int, *, now: datetime) -> PermitAnswer:
        self.asked.append((org, device, rollout_id, attempt))
        return self.answer

    def give_back(self, org: str, device: str, rollout_id: str) -> None:
        self.back.append((org, device, rollout_id))


def _place(permit: Permit) -> tuple[str, str, str]:
    return permit.value, permit.device, permit.rollout
