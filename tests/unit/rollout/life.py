"""A hypothesis machine that holds the service to the model: operators, devices, a scheduler, crashes and yanks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from evidence.model import Actor
from rollout.decision import decode_decision
from rollout.errors import ReleaseBlocked, RolloutChanged, RolloutError
from rollout.machine import replay
from rollout.model import AbortMode, Priority, Progress
from tests.simulators.rollouts import Stopped, carry_on
from tests.unit.rollout.model import (
    ADMIN,
    BRAKED,
    EARLY,
    FINAL,
    LATE,
    LIMIT,
    OUTSIDE,
    PEOPLE,
    PERCENTS,
    SOAK_SECONDS,
    STEPS,
    UNDER_WAY,
    VERSIONS,
    Believed,
    Expected,
    transitions,
    waves,
)
from tests.unit.rollout.world import ANN, ANN_BY_KEY, BOB, CANARY, CREATOR, ORG, ROBOT, artifact, request


class RolloutLife(Believed):
    """The rules that move the world, and what must hold after each."""

    @initialize(needs=st.sampled_from([0, 1, 2]), steps=st.integers(0, 9))
    def begin_somewhere(self, needs: int, steps: int) -> None:
        """Lives begin anywhere along the way, or the late waves would hardly be seen."""
        self.create(needs, 0)
        for _ in range(steps):
            self.go_forward(0, SOAK_SECONDS * (steps % 2))

    # What operators do

    @precondition(lambda self: len(self.all) < len(VERSIONS))
    @rule(needs=st.sampled_from([0, 1, 2]), sure=st.integers(0, 4))
    def create(self, needs: int, sure: int, *, urgent: bool = False) -> None:
        if sure and any(one.state not in FINAL for one in self.all):
            return
        version = VERSIONS[len(self.all)]
        ask = request(version, waves(needs), priority=Priority.SECURITY if urgent else Priority.NORMAL)
        try:
            made = self.world.service.create(ORG, ask, by=CREATOR, now=self.world.now)
        except ReleaseBlocked:
            assert self.blocked(version)
            return
        assert not self.blocked(version)
        self.all.append(Expected(made.id, version, needs, made.plan_hash, urgent=urgent))

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
        ask = request(one.version, waves(needs), priority=Priority.SECURITY if one.urgent else Priority.NORMAL)
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

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3), sure=st.integers(0, 3))
    def yank(self, which: int, sure: int) -> None:
        version = self.pick(which).version
        if self.blocked(version):
            del self.world.releases.yanked[artifact(version).id]
            self.yanked_at.pop(version, None)
        elif not sure:
            self.world.releases.yanked[artifact(version).id] = "bad"
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

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3), wait=st.sampled_from([0, 1, 3]))
    def go_forward(self, which: int, wait: int) -> None:
        if all(one.state in FINAL for one in self.all):
            self.come_with_another(wait, False)
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
    @rule(which=st.integers(0, 3), roll_back=st.booleans())
    def go_wrong(self, which: int, roll_back: bool) -> None:
        one = self.pick(which)
        if one.state == "running":
            for device in self.reached(one.wave)[:LIMIT]:
                self.say(one, device, Progress.FAILED, self.offer(one, device))
                if roll_back:
                    self.say(one, device, Progress.ROLLED_BACK, self.offer(one, device))
            self.tick()

    @precondition(lambda self: any(one.open and one.state in BRAKED for one in self.all))
    @rule(which=st.integers(0, 3), succeeded=st.booleans())
    def obey_a_brake(self, which: int, succeeded: bool) -> None:
        braked = [one for one in self.all if one.open and one.state in BRAKED]
        one = braked[which % len(braked)]
        for device in self.reached(len(one.open))[:2]:
            if succeeded:
                self.say(one, device, Progress.SUCCEEDED, self.offer(one, device))
            self.say(one, device, Progress.ROLLED_BACK, self.offer(one, device))

    @precondition(lambda self: any(one.state == "paused" for one in self.all))
    @rule(which=st.integers(0, 3), retry=st.booleans())
    def go_on_after_a_pause(self, which: int, retry: bool) -> None:
        paused = [place for place, one in enumerate(self.all) if one.state == "paused"]
        which = paused[which % len(paused)]
        if retry:
            self.retry(which, False, "")
        self.resume(which, ANN, True)
        self.tick()

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 2), choice=st.integers(0, 8), needs=st.integers(0, 2), mode=st.sampled_from(AbortMode))
    def do_something_possible(self, which: int, choice: int, needs: int, mode: AbortMode) -> None:
        """Every command of the state has its chance; left to themselves most random commands are refused."""
        one = self.pick(which)
        if choice in {0, 8} and one.state != "draft":
            self.come_with_another(needs, True)
            return
        roads: dict[str, list[Callable[[], None]]] = {
            "draft": [
                lambda: self.submit(which),
                lambda: self.edit(which, CREATOR, needs, False),
                lambda: self.abort(which, mode, 0),
            ],
            "waiting": [
                lambda: self.approve_twice(which),
                lambda: self.change_the_plan_after_an_approval(which),
                lambda: self.edit(which, ADMIN, needs, True),
                lambda: self.abort(which, mode, 0),
                lambda: self.refuse(which, BOB),
                lambda: self.pause(which),
            ],
            "running": [
                lambda: self.pause(which),
                lambda: self.retry(which, False, ""),
                lambda: self.go_wrong(which, True),
                lambda: self.abort(which, mode, 0),
            ],
            "paused": [
                lambda: self.retry(which, True, EARLY[0]),
                lambda: self.resume(which, BOB, False),
                lambda: self.abort(which, mode, 0),
            ],
        }
        if one.state in roads:
            roads[one.state][choice % len(roads[one.state])]()

    def approve_twice(self, which: int) -> None:
        for by in (ANN, ANN_BY_KEY):
            self.approve(which, by, 0, 1)

    def change_the_plan_after_an_approval(self, which: int) -> None:
        self.approve(which, ANN, 0, 1)
        self.edit(which, CREATOR, 1, False)
        self.submit(which)
        self.tick()

    @precondition(lambda self: self.all)
    @rule(needs=st.sampled_from([0, 1, 2]), hand_in=st.booleans())
    def come_with_another(self, needs: int, hand_in: bool) -> None:
        before = len(self.all)
        if before == len(VERSIONS):
            return
        self.create(min(needs, 2), 0)
        if hand_in and len(self.all) > before:
            self.submit_it(self.all[-1])

    @precondition(lambda self: self.all)
    @rule(
        which=st.integers(0, 3),
        step=st.sampled_from(STEPS),
        choice=st.integers(0, 2),
    )
    def crash(self, which: int, step: str, choice: int) -> None:
        one = self.pick(which)
        verb = ["resume" if one.state == "paused" else "pause", "tick", "abort"][choice]
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
