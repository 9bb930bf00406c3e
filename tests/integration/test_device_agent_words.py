"""Every reason that a device can give, made to happen, and said as the docs say it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.link import PermitAnswer
from agent.reason import TOLD, Reason, table
from agent.state import StateFile
from rollout.budget import Budget
from rollout.decision import Stance
from rollout.exclusion import Entry, Kind, encode_exclusions, exclusions_path
from rollout.model import Requirement
from rollout.windows import Window
from tests.simulators.agents import BUCKET, DEVICE, NOON, DeviceBench, Power, device_bench

DOCS = Path(__file__).resolve().parents[2] / "docs/devices.md"


def offered(**changes: object) -> Callable[[DeviceBench], None]:
    return lambda bench: _offer(bench, **changes)


def _offer(bench: DeviceBench, **changes: object) -> None:
    bench.offer("2.0", "rol_2", minutes=1, **changes)


def no_decision(bench: DeviceBench) -> None:
    bench.tree.put_document("decisions/app/canary.json", None)


def installing(bench: DeviceBench) -> None:
    _offer(bench)
    moments = Power()
    bench.copy_to(bench.home.folder.parent / "count").poll(moments)
    bench.commands.before_health = lambda: (_ for _ in ()).throw(KeyboardInterrupt)


def stopped(bench: DeviceBench) -> None:
    bench.brake(bench.offer("2.0", "rol_2", minutes=1), Stance.HALTED)


def failed(bench: DeviceBench) -> None:
    _offer(bench)
    bench.commands.ill = {"2.0"}


def failed_before(bench: DeviceBench) -> None:
    failed(bench)
    bench.poll()


def clock(bench: DeviceBench) -> None:
    _offer(bench)
    bench.clock.now = datetime(1970, 1, 1, tzinfo=UTC)


def platform(bench: DeviceBench) -> None:
    decision = bench.offer("2.0", "rol_2", minutes=1)
    bench.put(replace(decision, artifacts={"linux-aarch64": decision.artifacts["linux-x86_64"]}))


def revoked(bench: DeviceBench) -> None:
    _offer(bench)
    entry = {"sha256": hashlib.sha256(b"2.0" * 1000).hexdigest(), "reason": "leaks keys"}
    document = {"_type": "wavegate-revocations", "format": 1, "product": "app", "revoked": [entry]}
    bench.tree.put_document("revocations/app/all.json", json.dumps(document).encode())


def excluded(bench: DeviceBench) -> None:
    _offer(bench)
    whom = {"device": DEVICE, "group": None, "version": None, "sha256": None, "until": None}
    entry = Entry(id="exc_1", kind=Kind.EXCLUDE, reason="on the test bench", **whom)  # type: ignore[arg-type]
    bench.tree.put_document(exclusions_path("app"), encode_exclusions("acme", "app", [entry]))


def pinned(bench: DeviceBench) -> None:
    _offer(bench)
    bench.config = replace(bench.config, pins=("app=1.0",))


def older(bench: DeviceBench) -> None:
    bench.offer("3.0", "rol_3", minutes=1)
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=2)


def permit(bench: DeviceBench) -> None:
    _offer(bench, budget=Budget(label="site", max_updating=5, min_available=None, lease_seconds=600))
    bench.server.permit_answer = PermitAnswer(granted=False, reason="5 of 5 are updating", ask_again_seconds=60)


def yanked(bench: DeviceBench) -> None:
    _offer(bench)
    bench.tree.add_artifact("app/2.0/linux-x86_64/app.bin", b"2.0" * 1000, yanked={"reason": "leaks"})


def not_there(bench: DeviceBench) -> None:
    _offer(bench)
    bench.mirror.answer = lambda path, content: None if path.startswith("targets/app/2.0") else content


def no_room(bench: DeviceBench) -> None:
    _offer(bench)
    bench.terms = replace(bench.terms, keep_free_bytes=10**15)


def leaving(bench: DeviceBench) -> None:
    decision = bench.offer("2.0", "rol_2", minutes=1)
    bench.poll()
    bench.brake(decision, Stance.ROLL_BACK)
    bench.commands.install = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]


def no_way_back(bench: DeviceBench) -> None:
    failed(bench)
    bench.commands.refuse = {"1.0"}


SUNDAY_NIGHT = Window(days=("sun",), start="02:00", minutes=120, zone="UTC")
SCENES: dict[Reason, Callable[[DeviceBench], None]] = {
    Reason.UP_TO_DATE: offered(),
    Reason.INSTALLING: installing,
    Reason.NO_DECISION: no_decision,
    Reason.NOT_IN_COHORT: offered(cohort_to=BUCKET),
    Reason.STOPPED: stopped,
    Reason.ENDED_HERE: failed_before,
    Reason.CLOCK: clock,
    Reason.NOT_BEFORE: offered(not_before=NOON + timedelta(hours=2)),
    Reason.TOO_LATE: offered(expires=NOON),
    Reason.PLATFORM: platform,
    Reason.REVOKED: revoked,
    Reason.EXCLUDED: excluded,
    Reason.PINNED: pinned,
    Reason.FROM_VERSIONS: offered(from_versions=(">=1.5",)),
    Reason.OLDER: older,
    Reason.REQUIRES: offered(requires=(Requirement(product="bios", at_least="7.0"),)),
    Reason.WAITS: offered(window=SUNDAY_NIGHT),
    Reason.PERMIT: permit,
    Reason.YANKED: yanked,
    Reason.FETCHING: not_there,
    Reason.FETCHING_AGAIN: no_room,
    Reason.LEAVING: leaving,
    Reason.WENT_BACK: failed,
    Reason.NO_WAY_BACK: no_way_back,
}


@pytest.mark.parametrize("reason", Reason)
def test_a_device_says_why_as_the_docs_show_it(tmp_path: Path, reason: Reason) -> None:
    with device_bench(tmp_path) as bench:
        bench.offer("1.0", "rol_1")
        bench.poll()
        SCENES[reason](bench)

        with suppress(KeyboardInterrupt):
            bench.poll()

        state = StateFile(bench.home.state).load()
    numbers = "16777216 kept free, 1000 are free in downloads;"
    said = re.sub(r"\d+ kept free, \d+ are free in \S+;", numbers, state.words["app"])
    assert (state.reasons["app"], said) == (reason.value, TOLD[reason].says)


def test_the_docs_have_the_table() -> None:
    assert table() in DOCS.read_text(), "write what `python -m agent.reason` prints into docs/devices.md"
    assert set(TOLD) == set(Reason)
