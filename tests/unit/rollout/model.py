"""A simple model of rollouts, written from the design alone.

It knows nothing of the table, the guards or the documents: it keeps a few plain fields and says what must be possible
and what must be served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from evidence.model import Actor
from rollout.cohort import bucket
from rollout.decision import Decision, decode_brake, decode_decision
from rollout.errors import ReportRefused, RolloutError
from rollout.model import Gate, Progress, Report, Rollout, WavePlan
from tests.unit.rollout.world import ANN, ANN_BY_KEY, BOB, CANARY, CREATOR, ORG, ROBOT, World, artifact

EARLY = ["dev_f17", "dev_f31", "dev_f34"]  # below bucket 300
LATE = ["dev_f02", "dev_f13"]  # below 1,300
OUTSIDE = ["dev_f00"]  # 9,816
VERSIONS = ["1.0", "2.0", "3.0", "4.0", "5.0", "6.0"]
GROUPS = ["fleet", "canary", "fleet"]
PERCENTS = [5, 100, 20]
SOAK_SECONDS = 2
LIMIT = 2
FINAL = {"completed", "aborted", "superseded"}
BRAKED = {"paused", "aborted", "superseded"}
UNDER_WAY = {"waiting", "running", "paused"}
ADMIN = Actor(ANN.kind, "usr_admin", "Ada", "ses_7")
PEOPLE = [CREATOR, ANN, ANN_BY_KEY, BOB, ROBOT, ADMIN]
STEPS = ["commit:before", "commit:after", "propose:after", "settle:before", "propose:before", "save:before"]
MATRIX = {
    "submit": {"draft"},
    "edit": {"draft", "waiting"},
    "approve": {"waiting"},
    "refuse": {"waiting"},
    "pause": {"waiting", "running"},
    "resume": {"paused"},
    "retry": {"running", "paused"},
    "retry_later": {"running", "paused"},
    "roll_back": {"completed", "aborted"},
    "abort": {"draft", "waiting", "running", "paused"},
}

transitions: Counter[tuple[str, str]] = Counter()  # (state before, event tag) over all runs, for the report


def waves(approvals: int) -> tuple[WavePlan, ...]:
    """5 % of fleet, all of canary, 20 % of fleet."""
    gate = Gate(approvals=approvals, soak_seconds=SOAK_SECONDS, max_failures=LIMIT, max_failure_rate_percent=None)
    return tuple(WavePlan(group=g, percent=p, gate=gate) for g, p in zip(GROUPS, PERCENTS, strict=True))


@dataclass
class Row:
    """One device in one rollout: the wave it counts in, attempts to the places it came to, and what it said last."""

    wave: int
    attempt: int
    progress: int
    failures: int = 0
    finishes: int = 0


@dataclass
class Expected:
    """What the model believes of one rollout."""

    id: str
    version: str
    needs: int
    hash: str
    state: str = "draft"
    wave: int = 0
    open: list[datetime] = field(default_factory=list)  # one for each wave ever opened
    passed: int = 0
    began: datetime | None = None
    yes: dict[int, set[str]] = field(default_factory=dict)
    no: set[tuple[str, str]] = field(default_factory=set)
    wrote: set[str] = field(default_factory=lambda: {CREATOR.id})
    submitted: datetime | None = None
    back_to: str = ""
    approver_needed: bool = False
    mode: str = ""
    attempt: int = 1
    attempts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    forgiven: tuple[int, int] = (0, 0)  # failures ever, devices standing failed, both at the last resume
    revision: int = 1
    replayed: int = 0
    urgent: bool = False
    rolled: bool = False
    retry_at: datetime | None = None
    retry_devices: list[str] = field(default_factory=list)

    def enough(self) -> bool:
        """Approvers of the awaited wave, without who wrote or refused this plan."""
        never = self.wrote | {person for person, hash_ in self.no if hash_ == self.hash}
        return len(self.yes.get(self.wave, set()) - never) >= self.needs

    def tally(self, wave: int) -> tuple[int, int, int, int, int, int]:
        """acting, succeeded, failed, rolled back, failures, finishes."""
        rows = [row for row in self.rows.values() if row.wave == wave]
        places = [row.progress for row in rows]
        return (
            len(rows),
            places.count(2),
            places.count(3),
            places.count(4),
            sum(row.failures for row in rows),
            sum(row.finishes for row in rows),
        )


class Believed(RuleBasedStateMachine):
    """A world and what the model believes of it; each method acts on both and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.groups.devices = {"canary": list(CANARY), "fleet": EARLY + LATE + OUTSIDE}
        for version in VERSIONS:
            self.world.releases.signed[ORG, "firmware", version, "stable"] = {"linux-amd64": artifact(version)}
        self.all: list[Expected] = []
        self.seen: dict[str, dict[str, int]] = {}  # rollout → group → widest cohort ever served
        self.ended: dict[str, Rollout] = {}
        self.yanked_at: dict[str, dict[str, tuple[int, int]]] = {}

    def pick(self, which: int) -> Expected:
        live = [one for one in self.all if one.state not in FINAL]
        return live[which % len(live)] if live and which < 3 else self.all[which % len(self.all)]

    def service(self, verb: str, one: Expected, **more: Any) -> Rollout:
        done: Rollout = getattr(self.world.service, verb)(ORG, one.id, now=self.world.now, **more)
        return done

    def blocked(self, version: str) -> bool:
        return artifact(version).id in self.world.releases.yanked

    def attempt_it(
        self, one: Expected, verb: str, act: Callable[[], Any], *, guard: bool = True, widening: bool = False
    ) -> bool:
        allowed = one.state in MATRIX[verb] and guard and not (widening and self.blocked(one.version))
        refusal = ""
        try:
            act()
        except RolloutError as error:
            refusal = str(error)
        assert allowed is not bool(refusal), f"{verb} of {one.id} while {one.state}: {refusal or 'was let through'}"
        return allowed

    def say_yes(self, one: Expected, by: Actor, wave: int, plan_hash: str) -> None:
        may = (
            plan_hash == one.hash
            and 1 <= wave <= 3
            and wave > len(one.open)
            and by is not ROBOT
            and by.id not in one.wrote
            and (by.id, one.hash) not in one.no
            and by.id not in one.yes.get(wave, set())
        )
        act = self.world.service.approve
        if self.attempt_it(
            one,
            "approve",
            lambda: act(ORG, one.id, wave=wave, plan_hash=plan_hash, by=by, now=self.world.now),
            guard=may,
        ):
            one.yes.setdefault(wave, set()).add(by.id)

    def stop(self, one: Expected, back_to: str, *, approver: bool) -> None:
        one.state, one.back_to, one.approver_needed = "paused", back_to, approver

    def go_on(self, one: Expected) -> None:
        one.state, one.approver_needed = one.back_to, False
        if one.state == "running":
            one.began = self.world.now
            _, _, failed, rolled_back, failures, _ = one.tally(one.wave)
            one.forgiven = (failures, failed + rolled_back)

    def offer_again(self, one: Expected, devices: list[str]) -> None:
        one.retry_at, one.retry_devices = None, []
        if devices:
            one.attempts[devices[0]] = self.offer(one, devices[0]) + 1
        else:
            one.attempt, one.attempts = max([one.attempt, *one.attempts.values()]) + 1, {}

    def make_way(self, newest: Expected) -> None:
        for other in self.all:
            if other.state in UNDER_WAY and self.ends(newest, other):
                other.state = "superseded"

    def ends(self, newer: Expected, older: Expected) -> bool:
        """All share their groups here: the newer one ends the older, but a normal one no security one."""
        return self.place(newer) > self.place(older) and (newer.urgent or not older.urgent)

    def has_the_word(self, one: Expected) -> bool:
        """Whether the documents of every group it reached are still its own."""
        return all(
            max(
                (other for other in self.all if self.waves_open(other, group)), key=lambda o: self.last_opened(o, group)
            )
            is one
            for group in ("fleet", "canary")
            if self.waves_open(one, group)
        )

    def place(self, one: Expected) -> tuple[datetime, str]:
        """Order of submission, by id within one moment."""
        return one.submitted or self.world.now, one.id

    def model_tick(self) -> None:
        for one in sorted(self.all, key=lambda one: (not one.urgent, one.id)):
            if one.state not in {"waiting", "running"}:
                continue
            if any(other.state in UNDER_WAY and self.ends(other, one) for other in self.all):
                one.state = "superseded"
            elif self.blocked(one.version):
                self.stop(one, one.state, approver=False)
            elif one.state == "running" and one.retry_at is not None and self.world.now >= one.retry_at:
                self.offer_again(one, one.retry_devices)
            elif one.state == "waiting" and any(
                other.urgent and not one.urgent and other.state in UNDER_WAY and self.place(other) < self.place(one)
                for other in self.all
            ):
                continue
            elif one.state == "waiting" and one.enough():
                one.state, one.began, one.forgiven = "running", self.world.now, (0, 0)
                one.open.append(self.world.now)
            elif one.state == "running":
                self.model_judge(one)

    def model_judge(self, one: Expected) -> None:
        acting, succeeded, failed, rolled_back, failures, _ = one.tally(one.wave)
        new_failures = failures - one.forgiven[0]
        if new_failures >= LIMIT:
            self.stop(one, "running", approver=True)
            return
        still = min(one.forgiven[1], max(0, failed + rolled_back - new_failures))
        assert one.began is not None
        soaked = self.world.now >= one.began + timedelta(seconds=SOAK_SECONDS)
        if succeeded and succeeded * 100 >= 90 * (acting - still) and soaked:
            one.passed += 1
            if one.wave == 3:
                one.state = "completed"
            else:
                one.state, one.wave = "waiting", one.wave + 1

    def believe(self) -> None:
        """After a crash: take over what is stored, which the invariants hold against what is served and told."""
        for one in self.all:
            stored = self.world.rollouts.stored[one.id]
            opened = [wave.opened_at for wave in stored.waves if wave.opened_at is not None]
            one.state, one.wave, one.open = stored.state.value, stored.wave, opened
            one.rolled = stored.rolled_back_because is not None
            one.retry_at, one.retry_devices = stored.retry_at, [*stored.retry_devices]
            # A retry whose tick was stopped is done once it is settled.
            one.attempt, one.attempts = stored.attempt, dict(stored.device_attempts)
            if stored.state == "paused":
                assert stored.paused_from is not None
                one.back_to, one.approver_needed = stored.paused_from.value, stored.pause_needs_approver
            if stored.abort_mode is not None:
                one.mode = stored.abort_mode.value
            if stored.state == "running":
                wave = stored.waves[stored.wave - 1]
                one.began = max(moment for moment in (wave.opened_at, wave.resumed_at) if moment is not None)
                seen = wave.judged_from
                one.forgiven = (seen.failures, seen.failed + seen.rolled_back)

    def reached(self, wave: int) -> list[str]:
        return [EARLY, CANARY, LATE][wave - 1]

    def offer(self, one: Expected, device: str) -> int:
        return max(one.attempt, one.attempts.get(device, 0))

    def wave_reaching(self, one: Expected, device: str) -> int:
        salt = self.world.rollouts.stored[one.id].salt
        for number in range(1, len(one.open) + 1):
            members = self.world.groups.devices[GROUPS[number - 1]]
            if device in members and bucket(salt, device) < PERCENTS[number - 1] * 100:
                return number
        return 0

    def say(self, one: Expected, device: str, progress: Progress, attempt: int, *, again: bool = False) -> None:
        row = one.rows.get(device)
        place = list(Progress).index(progress)
        wave = row.wave if row else self.wave_reaching(one, device)
        heard = wave > 0 and 1 <= attempt <= self.offer(one, device)
        report_id = f"rep_{next(self.world.numbers)}"
        report = Report(id=report_id, rollout=one.id, attempt=attempt, progress=progress, at=self.world.now)
        try:
            counted = self.world.service.record_report(ORG, device, report)
        except ReportRefused:
            assert not heard
            return
        assert heard
        moves = row is None or attempt > row.attempt or (attempt == row.attempt and place > row.progress)
        assert counted is moves
        if again:
            assert self.world.service.record_report(ORG, device, report) is False
        if not moves:
            return
        new_attempt = row is None or attempt > row.attempt
        old = -1 if row is None or new_attempt else row.progress
        after = row or Row(wave, attempt, place)
        after.attempt, after.progress = attempt, place
        after.finishes += place >= 2 > old
        asked_to = one.state in BRAKED or one.rolled
        after.failures += (place == 3 or (place == 4 and not asked_to)) and old != 3
        one.rows[device] = after

    def waves_open(self, one: Expected, group: str) -> list[int]:
        return [number for number in range(1, len(one.open) + 1) if GROUPS[number - 1] == group]

    def last_opened(self, one: Expected, group: str) -> tuple[datetime, str]:
        return one.open[self.waves_open(one, group)[0] - 1], one.id

    def check_brake(self, owner: Expected, group: str, decision: Decision) -> None:
        document = self.world.decisions.documents.get(f"brakes/firmware/{group}.json")
        brake = None if document is None else decode_brake(document)
        mine = brake if brake is not None and brake.rollout == owner.id else None
        if owner.state in BRAKED or owner.rolled:
            assert mine is not None, f"{owner.id} is {owner.state} and nothing stops its devices"
            assert mine.stance == ("roll_back" if owner.mode == "roll_back" or owner.rolled else "halted")
            assert mine.wave >= decision.wave
        else:
            assert mine is None, f"{owner.id} is {owner.state} and braked"

    def offered(self, version: str) -> dict[str, tuple[int, int]]:
        """For each group whose decision names the version and is not braked: cohort and highest attempt."""
        found: dict[str, tuple[int, int]] = {}
        for group in ("fleet", "canary"):
            document = self.world.decisions.documents.get(f"decisions/firmware/{group}.json")
            brake = self.world.decisions.documents.get(f"brakes/firmware/{group}.json")
            if document is None:
                continue
            decision = decode_decision(document)
            stopped = brake is not None and decode_brake(brake).rollout == decision.rollout
            if decision.version == version and not stopped:
                highest = max([decision.attempt, *decision.device_attempts.values()])
                found[group] = (decision.cohort_to, highest)
        return found
