"""A simple model of rollouts, written from the design alone, and a hypothesis machine that holds the service to it.

The model knows nothing of the table, the guards or the documents: it keeps a few plain fields and says what must be
possible and what must be served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from evidence.model import Actor
from rollout.cohort import bucket
from rollout.decision import Decision, decode_brake, decode_decision
from rollout.errors import ReleaseBlocked, ReportRefused, RolloutChanged, RolloutError
from rollout.machine import replay
from rollout.model import AbortMode, Gate, Progress, Report, Rollout, WavePlan
from tests.simulators.rollouts import Stopped, carry_on
from tests.unit.rollout.world import ANN, ANN_BY_KEY, BOB, CANARY, CREATOR, ORG, ROBOT, World, request

EARLY = ["dev_f17", "dev_f31", "dev_f34"]  # below bucket 300
LATE = ["dev_f02", "dev_f13"]  # below 1,300
OUTSIDE = ["dev_f00"]  # 9,816
VERSIONS = ["1.0", "2.0", "3.0"]
GROUPS = ["fleet", "canary", "fleet"]
PERCENTS = [5, 100, 20]
SOAK_SECONDS = 2
LIMIT = 2
FINAL = {"completed", "aborted", "superseded"}
UNDER_WAY = {"waiting", "running", "paused"}
ADMIN = Actor(ANN.kind, "usr_admin", "Ada", "ses_7")
PEOPLE = [CREATOR, ANN, ANN_BY_KEY, BOB, ROBOT, ADMIN]
STEPS = ["propose:before", "propose:after", "commit:before", "commit:after", "settle:before", "save:before"]
MATRIX = {
    "submit": {"draft"},
    "edit": {"draft", "waiting"},
    "approve": {"waiting"},
    "refuse": {"waiting"},
    "pause": {"waiting", "running"},
    "resume": {"paused"},
    "retry": {"running", "paused"},
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


class RolloutLife(RuleBasedStateMachine):
    """Operators, devices, a scheduler, crashes and yanks against the service; the model says what must come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.groups.devices = {"canary": list(CANARY), "fleet": EARLY + LATE + OUTSIDE}
        self.all: list[Expected] = []
        self.seen: dict[str, dict[str, int]] = {}  # rollout → group → widest cohort ever served
        self.ended: dict[str, Rollout] = {}
        self.yanked_at: dict[str, dict[str, tuple[int, int]]] = {}

    @initialize(needs=st.sampled_from([0, 1, 2]), steps=st.integers(0, 9))
    def begin_somewhere(self, needs: int, steps: int) -> None:
        """Lives begin anywhere along the way, or the late waves would hardly be seen."""
        self.create(needs, 0)
        for _ in range(steps):
            self.go_forward(0, SOAK_SECONDS)

    # What operators do

    @precondition(lambda self: len(self.all) < 3)
    @rule(needs=st.sampled_from([0, 1, 2]), sure=st.integers(0, 4))
    def create(self, needs: int, sure: int) -> None:
        if sure and any(one.state not in FINAL for one in self.all):
            return
        version = VERSIONS[len(self.all)]
        ask = request(version, waves(needs))
        try:
            made = self.world.service.create(ORG, ask, by=CREATOR, now=self.world.now)
        except ReleaseBlocked:
            assert self.blocked(version)
            return
        assert not self.blocked(version)
        self.all.append(Expected(made.id, version, needs, made.plan_hash))

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3))
    def submit(self, which: int) -> None:
        self.submit_it(self.pick(which))

    def submit_it(self, one: Expected) -> None:
        if self.attempt_it(one, "submit", lambda: self.service("submit", one, by=CREATOR), widening=True):
            one.state, one.wave, one.submitted = "waiting", 1, self.world.now
            self.make_way(one)

    @precondition(lambda self: self.all)
    @rule(
        which=st.integers(0, 3), by=st.sampled_from([CREATOR, ADMIN, ANN]), needs=st.integers(0, 2), admin=st.booleans()
    )
    def edit(self, which: int, by: Actor, needs: int, admin: bool) -> None:
        one = self.pick(which)
        ask = request(one.version, waves(needs))
        may = not one.open and (by.id == CREATOR.id or admin)
        edit = self.world.service.edit
        if self.attempt_it(
            one,
            "edit",
            lambda: edit(ORG, one.id, ask, by=by, now=self.world.now, as_admin=admin),
            guard=may,
            widening=True,
        ):
            one.state, one.wave, one.yes, one.needs = "draft", 0, {}, needs
            one.hash = self.world.rollouts.stored[one.id].plan_hash
            one.wrote.add(by.id)

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3), by=st.sampled_from(PEOPLE), wave=st.integers(0, 4), right=st.integers(0, 3))
    def approve(self, which: int, by: Actor, wave: int, right: int) -> None:
        one = self.pick(which)
        self.say_yes(one, by, wave or one.wave or 1, one.hash if right else "0" * 64)

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3), by=st.sampled_from([ANN, BOB, ROBOT]))
    def refuse(self, which: int, by: Actor) -> None:
        one = self.pick(which)
        if self.attempt_it(
            one, "refuse", lambda: self.service("refuse", one, by=by, reason="no"), guard=by is not ROBOT
        ):
            one.no.add((by.id, one.hash))
            if one.open:
                self.stop(one, "waiting", approver=True)
            else:
                one.state, one.wave, one.yes = "draft", 0, {}

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3))
    def pause(self, which: int) -> None:
        one = self.pick(which)
        if self.attempt_it(one, "pause", lambda: self.service("pause", one, by=BOB, reason="look")):
            self.stop(one, one.state, approver=False)

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3), by=st.sampled_from([CREATOR, ANN, BOB]), approver=st.booleans())
    def resume(self, which: int, by: Actor, approver: bool) -> None:
        one = self.pick(which)
        may = not one.approver_needed or (approver and (not one.needs or by.id not in one.wrote))
        if self.attempt_it(
            one,
            "resume",
            lambda: self.service("resume", one, by=by, reason="go", as_approver=approver),
            guard=may,
            widening=True,
        ):
            self.go_on(one)

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3), named=st.booleans(), device=st.sampled_from(EARLY + CANARY))
    def retry(self, which: int, named: bool, device: str) -> None:
        one = self.pick(which)
        devices = [device] if named else []
        if self.attempt_it(
            one,
            "retry",
            lambda: self.service("retry", one, by=BOB, devices=devices),
            guard=bool(one.open),
            widening=True,
        ):
            self.offer_again(one, devices)

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3), mode=st.sampled_from(AbortMode), sure=st.integers(0, 3))
    def abort(self, which: int, mode: AbortMode, sure: int) -> None:
        one = self.pick(which)
        if sure and one.state not in FINAL:
            return  # Most lives should not end here.
        if self.attempt_it(one, "abort", lambda: self.service("abort", one, by=BOB, reason="bad", mode=mode)):
            one.state, one.mode = "aborted", mode.value

    # What the scheduler, time and publishers do

    @rule()
    def tick(self) -> None:
        self.world.tick()
        self.model_tick()

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule(version=st.sampled_from(VERSIONS), sure=st.integers(0, 3))
    def yank(self, version: str, sure: int) -> None:
        artifact = f"art_{version}_linux-amd64"
        if self.blocked(version):
            del self.world.releases.yanked[artifact]
            self.yanked_at.pop(version, None)
        elif not sure:
            self.world.releases.yanked[artifact] = "bad"
            self.yanked_at[version] = self.offered(version)

    # What devices do

    @precondition(lambda self: any(one.open for one in self.all))
    @rule(
        which=st.integers(0, 3),
        device=st.sampled_from(EARLY + LATE + CANARY + OUTSIDE + ["dev_stranger"]),
        progress=st.sampled_from(Progress),
        attempt=st.integers(0, 4),
        again=st.booleans(),
    )
    def report(self, which: int, device: str, progress: Progress, attempt: int, again: bool) -> None:
        one = self.pick(which)
        self.say(one, device, progress, attempt or one.attempt, again=again)

    # Guided: without these, random steps hardly leave the first wave

    @precondition(lambda self: any(one.state in {"draft", "waiting", "running"} for one in self.all))
    @rule(which=st.integers(0, 3), wait=st.sampled_from([0, 1, 3]))
    def go_forward(self, which: int, wait: int) -> None:
        one = self.pick(which)
        if one.state == "draft" and not any(other.state in UNDER_WAY for other in self.all):
            self.submit(which)
        elif one.state == "waiting":
            for person in (ANN, BOB, ADMIN):
                if not one.enough() and person.id not in one.wrote:
                    self.say_yes(one, person, one.wave, one.hash)
        elif one.state == "running":
            for device in self.reached(one.wave):
                if device not in one.rows or one.rows[device].wave == one.wave:
                    self.say(one, device, Progress.SUCCEEDED, self.offer(one, device))
        self.world.wait(wait)
        self.tick()

    @precondition(lambda self: any(one.state == "running" for one in self.all))
    @rule(which=st.integers(0, 3))
    def go_wrong(self, which: int) -> None:
        one = self.pick(which)
        if one.state == "running":
            for device in self.reached(one.wave)[:LIMIT]:
                self.say(one, device, Progress.FAILED, self.offer(one, device))
            self.tick()

    @precondition(lambda self: any(one.state == "paused" for one in self.all))
    @rule(which=st.integers(0, 3), retry=st.booleans())
    def go_on_after_a_pause(self, which: int, retry: bool) -> None:
        if retry:
            self.retry(which, False, "")
        self.resume(which, ANN, True)

    @precondition(lambda self: self.all)
    @rule(
        which=st.integers(0, 3),
        step=st.sampled_from(STEPS),
        verb=st.sampled_from(["pause", "resume", "tick", "tick", "pause", "abort"]),
    )
    def crash(self, which: int, step: str, verb: str) -> None:
        one = self.pick(which)
        before = self.world.rollouts.told[:]
        signed_before = self.world.decisions.serial

        def stop(reached: str) -> None:
            if reached == step:
                raise Stopped(reached)

        self.world.rollouts.on_step = self.world.decisions.on_step = stop
        try:
            if verb == "tick":
                self.world.tick()
            else:
                more: dict[str, Any] = {"as_approver": True} if verb == "resume" else {}
                self.service(verb, one, by=ANN, reason="boom", **more)
        except (Stopped, RolloutError):
            pass
        finally:
            self.world.rollouts.on_step = self.world.decisions.on_step = carry_on
        if self.world.rollouts.open_intents and self.world.decisions.serial == signed_before:
            assert self.world.rollouts.told == before or verb == "tick"
        self.world.service.recover(ORG, self.world.now)
        self.believe()

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3))
    def a_writer_who_looked_too_early_loses(self, which: int) -> None:
        one = self.pick(which)
        stored = self.world.rollouts.stored[one.id]
        if stored.revision < 2:
            return
        try:
            self.world.rollouts.save(stored, (), seen=stored.revision - 1)
        except RolloutChanged:
            return
        raise AssertionError("a stale writer was let in")

    # What must always hold

    @invariant()
    def the_state_is_the_model_s(self) -> None:
        for one in self.all:
            stored = self.world.rollouts.stored[one.id]
            assert (stored.state, stored.wave) == (one.state, one.wave), f"{one.id}: {stored.state} is not {one.state}"
            assert sum(wave.opened_at is not None for wave in stored.waves) == len(one.open)
            assert stored.revision >= one.revision
            one.revision = stored.revision
            if one.id in self.ended:
                assert stored == self.ended[one.id]
            elif one.state in FINAL:
                self.ended[one.id] = stored

    @invariant()
    def served_is_what_the_state_says(self) -> None:
        for group in ("fleet", "canary"):
            document = self.world.decisions.documents.get(f"decisions/firmware/{group}.json")
            owners = [one for one in self.all if self.waves_open(one, group)]
            if not owners:
                assert document is None
                continue
            owner = max(owners, key=lambda one: self.last_opened(one, group))
            assert document is not None
            decision = decode_decision(document)
            widest = max(PERCENTS[wave - 1] for wave in self.waves_open(owner, group))
            assert (decision.rollout, decision.plan_hash, decision.cohort_from, decision.cohort_to) == (
                owner.id,
                owner.hash,
                0,
                widest * 100,
            )
            assert decision.wave == max(self.waves_open(owner, group))
            assert (decision.attempt, dict(decision.device_attempts)) == (owner.attempt, owner.attempts)
            self.check_brake(owner, group, decision)
            before = self.seen.setdefault(owner.id, {}).get(group, 0)
            assert decision.cohort_to >= before
            self.seen[owner.id][group] = decision.cohort_to

    @invariant()
    def no_wave_is_open_without_its_approvers(self) -> None:
        for one in self.all:
            stored = self.world.rollouts.stored[one.id]
            for number, wave in enumerate(stored.waves, start=1):
                if wave.opened_at is not None:
                    people = one.yes.get(number, set())
                    assert len(people - {CREATOR.id, ROBOT.id}) >= one.needs

    @invariant()
    def a_yanked_artifact_is_never_newly_offered(self) -> None:
        for version, then in self.yanked_at.items():
            for group, (cohort, attempts) in self.offered(version).items():
                assert group in then
                assert cohort <= then[group][0]
                assert attempts <= then[group][1]

    @invariant()
    def counters_equal_a_recount(self) -> None:
        for one in self.all:
            kept = self.world.rollouts.counters(one.id)
            for wave in (1, 2, 3):
                found = kept.get(wave)
                told = (
                    (0,) * 6
                    if found is None
                    else (
                        found.acting,
                        found.succeeded,
                        found.failed,
                        found.rolled_back,
                        found.failures,
                        found.finishes,
                    )
                )
                assert told == one.tally(wave)

    @invariant()
    def history_is_gapless_and_replays(self) -> None:
        assert not self.world.rollouts.open_intents
        for one in self.all:
            events = self.world.rollouts.events(ORG, one.id)
            revisions = [event.data["revision"] for event in events if event.tag != "rollout.completed"]
            assert revisions == list(range(1, len(revisions) + 1))
            if one.replayed != len(events):
                assert replay(events) == self.world.rollouts.stored[one.id]
                one.replayed = len(events)

    def teardown(self) -> None:
        for one in self.all:
            for event in self.world.rollouts.events(ORG, one.id):
                if "from" in event.data:
                    transitions[str(event.data["from"]), event.tag] += 1

    # The model

    def pick(self, which: int) -> Expected:
        live = [one for one in self.all if one.state not in FINAL]
        return live[which % len(live)] if live and which < 3 else self.all[which % len(self.all)]

    def service(self, verb: str, one: Expected, **more: Any) -> Rollout:
        done: Rollout = getattr(self.world.service, verb)(ORG, one.id, now=self.world.now, **more)
        return done

    def blocked(self, version: str) -> bool:
        return f"art_{version}_linux-amd64" in self.world.releases.yanked

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
        if devices:
            one.attempts[devices[0]] = self.offer(one, devices[0]) + 1
        else:
            one.attempt, one.attempts = max([one.attempt, *one.attempts.values()]) + 1, {}

    def make_way(self, newest: Expected) -> None:
        for other in self.all:
            if other is not newest and other.state in UNDER_WAY:
                older = min(other, newest, key=lambda one: (one.submitted or self.world.now, one.id))
                if older is other:
                    older.state = "superseded"

    def model_tick(self) -> None:
        for one in sorted(self.all, key=lambda one: one.id):
            if one.state not in {"waiting", "running"}:
                continue
            if self.blocked(one.version):
                self.stop(one, one.state, approver=False)
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
        self.world.numbers.__next__()
        report_id = f"rep_{len(self.world.rollouts.told)}_{next(self.world.numbers)}"
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
        asked_to = one.state in {"paused", "aborted", "superseded"}
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
        if owner.state in {"paused", "aborted", "superseded"}:
            assert mine is not None, f"{owner.id} is {owner.state} and nothing stops its devices"
            assert mine.stance == ("roll_back" if owner.mode == "roll_back" else "halted")
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
