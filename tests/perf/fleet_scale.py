"""Rollouts over a million devices: starting, opening a wave and judging cost the same as over a few; heartbeats, lists.

SQLite and a real signed repository; CPU seconds of this process. The few are 10,001 devices, where numbers are
estimated as they are for a million (below, each device is placed by its bucket).
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

from sqlalchemy import select, update

from api.wiring import SignedDecisions
from repo_signing.repository import SignedRepository
from rollout.audience import EXACT_UP_TO
from rollout.cohort import bucket
from rollout.model import ArtifactRef, Progress, Report, Rollout, State, WavePlan
from rollout.plan import PlanRequest
from rollout.service import RolloutService
from store.database import Database
from store.fleet import SqlFleet
from store.models import devices
from store.rollouts import SqlRollouts
from tests.perf.measure import Result, paired
from tests.perf.million import ADA, ORG, a_million, device_id, heartbeats, sqlite_url
from tests.perf.synthetic import opened, synthetic
from tests.simulators.rollouts import ReleasesSimulator

MANY: Final = 1_000_000
FEW: Final = EXACT_UP_TO + 1
WAVES: Final = 9
JUDGED: Final = 200  # times in one measurement
BEATS: Final = 3_333  # devices in one batch: those of a second, when a million call every 5 minutes
PAIRS: Final = 7

START_GOAL_MS: Final = 50.0
OPEN_GOAL: Final = 5.0
JUDGE_GOAL: Final = 3.0
FLAT_GOAL: Final = 1.5  # the same work over a hundred times the devices, with what else the machine does
BEAT_GOAL_US: Final = 15.0


@dataclass
class Scene:
    """An engine over a fleet of some size."""

    database: Database
    fleet: SqlFleet
    rollouts: SqlRollouts
    repository: SignedRepository
    engine: RolloutService
    now: datetime

    def later(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def start(self) -> Rollout:
        """Create, submit and open the first of nine waves; the last one's rollout is superseded by it."""
        waves = tuple(WavePlan(group="field", percent=percent) for percent in range(1, WAVES + 1))
        request = PlanRequest(product="app", version="1.3.0", waves=waves)
        made = self.engine.create(ORG, request, by=ADA, now=self.later())
        self.engine.submit(ORG, made.id, by=ADA, now=self.later())
        self.engine.tick(ORG, self.later())
        begun = self.rollouts.get(ORG, made.id)
        assert begun.state is State.RUNNING, begun.state
        return begun

    def pass_wave(self, rollout: Rollout) -> None:
        """One device that the wave newly reaches succeeds, which is all that the plan asks."""
        lowest, below = (rollout.wave - 1) * 100, rollout.wave * 100
        number = next(n for n in range(FEW) if lowest <= bucket(rollout.salt, device_id(n)) < below)
        report = Report(
            id=f"rep_{rollout.wave}",
            rollout=rollout.id,
            attempt=1,
            progress=Progress.SUCCEEDED,
            at=self.later(),
        )
        self.engine.record_report(ORG, device_id(number), report)
        self.engine.tick(ORG, self.later())
        assert self.rollouts.get(ORG, rollout.id).state is State.WAITING

    def open_next(self, rollout: Rollout) -> Rollout:
        self.engine.tick(ORG, self.later())
        after = self.rollouts.get(ORG, rollout.id)
        assert (after.state, after.wave) == (State.RUNNING, rollout.wave + 1)
        return after


def measure(folder: Path) -> list[Result]:
    few, many = scene(folder / "few", FEW), scene(folder / "many", MANY)
    started, little, openings = _start_and_open(many)
    _, _, small_openings = _start_and_open(few)
    opening = median(a / b for a, b in zip(openings, little, strict=True))
    rollout, small = many.start(), few.start()

    def judging(of: Scene, one: Rollout) -> float:
        return cpu(lambda: [of.engine.why(one, of.now) for _ in range(JUDGED)]) / JUDGED

    judge, judged, looked = paired(lambda: judging(many, rollout), lambda: _select_one(many), PAIRS)
    flat, _, judged_few = paired(lambda: judging(many, rollout), lambda: judging(few, small), PAIRS)
    listing, listed, _ = paired(lambda: _list(many), lambda: _list(few), PAIRS)
    beats = [_beat(many, turn) for turn in range(PAIRS + 1)][1:]
    told = [_beat_told(many, turn) for turn in range(PAIRS)]
    return [
        Result(
            f"start a rollout over {MANY:,} devices", median(started) * 1000, START_GOAL_MS, "ms CPU", "and open a wave"
        ),
        Result(
            "open the next wave / one-row UPDATE, commit and publish of a small target",
            opening,
            OPEN_GOAL,
            "x",
            f"{median(openings) * 1000:.1f} ms against {median(little) * 1000:.1f} ms",
        ),
        Result(
            f"open the next wave over {MANY:,} / over {FEW:,}",
            median(openings) / median(small_openings),
            FLAT_GOAL,
            "x",
            f"{median(openings) * 1000:.1f} ms against {median(small_openings) * 1000:.1f} ms",
        ),
        Result(
            f"judge a gate at {MANY:,} / one primary-key SELECT",
            judge,
            JUDGE_GOAL,
            "x",
            f"{median(judged) * 1e6:.0f} us against {median(looked) * 1e6:.0f} us",
        ),
        Result(
            f"judge a gate at {MANY:,} / at {FEW:,}",
            flat,
            FLAT_GOAL,
            "x",
            f"{median(judged_few) * 1e6:.0f} us at {FEW:,}",
        ),
        Result(
            f"a page of 50 devices of {MANY:,} / of {FEW:,}", listing, FLAT_GOAL, "x", f"{median(listed) * 1e3:.2f} ms"
        ),
        Result(
            f"heartbeats among {MANY:,}, {BEATS:,} in a batch",
            median(beats),
            BEAT_GOAL_US,
            "us a device",
            f"nothing new said; {median(told):.1f} us where what people read changed",
        ),
    ]


def scene(folder: Path, count: int) -> Scene:
    """A fleet and an empty repository."""
    database = a_million(sqlite_url(folder), count)
    synthetic(folder / "signed", 10)
    repository = opened(folder / "signed")
    releases = ReleasesSimulator()
    artifact = ArtifactRef(id="art_1", path="app/1.3.0/any/app", length=7, sha256="cd" * 32)
    releases.signed[ORG, "app", "1.3.0", "stable"] = {"any": artifact}
    fleet, rollouts = SqlFleet(database), SqlRollouts(database)
    engine = RolloutService(rollouts=rollouts, decisions=SignedDecisions(repository), releases=releases, groups=fleet)
    return Scene(database, fleet, rollouts, repository, engine, datetime.now(UTC))


def cpu(action: Callable[[], object]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


def _start_and_open(of: Scene) -> tuple[list[float], list[float], list[float]]:
    """CPU seconds of starts, of the yardstick beside each opening, and of openings of later waves."""
    of.start()
    started = [cpu(of.start) for _ in range(3)]
    rollout = of.start()
    little, openings = [], []
    for _ in range(WAVES - 1):
        of.pass_wave(rollout)
        little.append(cpu(lambda: _one_row_and_target(of)))
        before = time.process_time()
        rollout = of.open_next(rollout)
        openings.append(time.process_time() - before)
    return started, little, openings


def _one_row_and_target(of: Scene) -> None:
    with of.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == device_id(1)).values(state=str(of.later())))
    content = hashlib.sha256(str(of.now).encode()).hexdigest().encode()
    of.repository.commit_documents({"decisions/bench/yardstick.json": content}, only_if=lambda: True, now=of.now)


def _select_one(of: Scene) -> float:
    query = select(devices).where(devices.c.id == device_id(77))

    def look() -> None:
        for _ in range(JUDGED):
            with of.database.read() as connection:
                connection.execute(query).one()

    return cpu(look) / JUDGED


def _list(of: Scene) -> float:
    def look() -> None:
        for start in range(20):
            of.fleet.devices(ORG, after=device_id(start * 400), limit=50, filters={"group": "field"})

    return cpu(look) / 20


def _beat(of: Scene, turn: int) -> float:
    at = of.later().replace(microsecond=0)
    seen = {device_id(number): at for number in random.Random(turn).sample(range(MANY), BEATS)}
    return cpu(lambda: of.fleet.seen_many(ORG, seen)) / BEATS * 1e6


def _beat_told(of: Scene, turn: int) -> float:
    numbers = random.Random(turn).sample(range(MANY), BEATS)
    at = of.later()
    said = {device: replace(what, state=f"at {at}") for device, what in heartbeats(numbers, at).items()}
    return cpu(lambda: of.fleet.check_in_many(ORG, said)) / BEATS * 1e6
