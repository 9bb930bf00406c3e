"""Two servers over one home, ten operators and devices at once; servers are killed while they work."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent.config import AgentConfig
from agent.enrol import Enrolment, enroll
from agent.errors import AgentError
from agent.home import Home as AgentHome
from agent.link import Facts, GrpcLink
from agent.state import PendingReport, Progress
from tests.acceptance.conftest import Home, Server
from tests.acceptance.operators import Operator, check_everything, hire

Wait = Callable[[Callable[[], Any]], Any]
FACTS = Facts(agent_version="1", hostname="h", os_family="linux", os_name="x", platform="linux-amd64")
FAST = {"WAVEGATE_LEASE_SECONDS": "2"}
GATE = {"max_failures": 3, "max_failure_rate_percent": None, "success_percent": 50}
WAVES = [
    {"group": "canary", "gate": {**GATE, "approvals": 1}},
    {"group": "everyone", "percent": 50, "gate": GATE},
    {"group": "everyone", "gate": GATE},
]


class Device:
    """An enrolled device that says what it likes, through either server."""

    def __init__(self, folder: Path, name: str, token: str, url: str) -> None:
        self._home = AgentHome(folder / name)
        asked = Enrolment(url=url, token=token, name=name, allow_http=True)
        enroll(self._home, asked, AgentConfig(platform="linux-amd64"), FACTS, now=datetime.now(UTC))
        self._numbers = itertools.count(1)
        self.name = name

    def report(self, endpoint: str, rollout: str, attempt: int, progress: Progress, *, times: int) -> bool:
        """Say it so often; whether any of it counted. A server that is away hears nothing."""
        link = GrpcLink(self._home, endpoint)
        told = PendingReport(
            id=f"{self.name}-{next(self._numbers)}", rollout=rollout, attempt=attempt, progress=progress
        )
        try:
            return any(link.report(told) for _ in range(times))
        except AgentError:
            return False
        finally:
            link.close()


def prepare(home: Home, folder: Path, devices: int) -> list[Device]:
    """Three releases, two groups, and devices of which every other one is a canary."""
    home.log_in()
    for group in ("canary", "everyone"):
        home.publish("group", "create", group)
    for number in (1, 2, 3):
        (folder / f"{number}.bin").write_bytes(b"release %d" % number)
        home.publish(
            *("push", folder / f"{number}.bin", "--product", "fw", "--version", f"{number}.0"),
            *("--platform", "linux-amd64", "--file-name", "fw.bin"),
        )
    made = []
    for name, groups in (("both", ("--group", "canary", "--group", "everyone")), ("rest", ("--group", "everyone"))):
        token = home.publish("enroll-token", "create", name, *groups, "--max-uses", "50")["token"]
        made += [Device(folder, f"{name}-{number}", token, home.url) for number in range(devices // 2)]
    return made


def quiet(home: Home) -> bool:
    """Whether no rollout has moved for a moment that is long for a scheduler."""
    before = home.publish("rollout", "list")["items"]
    time.sleep(2)
    after = home.publish("rollout", "list")["items"]
    return [one["revision"] for one in before] == [one["revision"] for one in after]


class Fleet:
    """The servers as they are now, and the rollouts that operators know of."""

    def __init__(self, home: Home, servers: list[Server]) -> None:
        self.home, self.servers = home, servers
        self.known: list[str] = []
        self.last = ""  # the rollout that all devices make succeed in the end
        self.over = threading.Event()

    def url(self) -> str:
        return random.choice(self.servers).url

    def operate(self, operator: Operator, seed: int, commands: int) -> None:
        """One operator's day: makes rollouts now and then, else does this and that to any of them."""
        dice = random.Random(seed)
        for step in range(commands):
            time.sleep(dice.random() * 0.5)
            if not self.known or dice.random() < 0.05:
                body: dict[str, object] = {"product": "fw", "version": f"{dice.randint(1, 3)}.0", "waves": WAVES}
                body |= {"priority": "security"} if dice.random() < 0.25 else {}
                status, made = operator.ask("POST", "/rollouts", body)
                assert status in {0, 201, 409, 503}, made
                if status == 201:
                    self.known.append(made["id"])
                continue
            rollout = dice.choice(self.known[-4:])
            verb = dice.choice(
                ["approve", "approve", "approve", "pause", "resume", "resume", "retry", "abort", "roll-back"]
            )
            if verb == "abort" and dice.random() < 0.8:
                verb = "approve"
            words: dict[str, object] = {"reason": f"{operator.id} {step}"}
            said = {"approve": {"wave": 1}, "retry": {}}.get(verb, words)
            status = operator.say(rollout, verb, **said)
            assert status in {0, 200, 400, 403, 409, 503}, operator.said[-1]

    def report(self, device: Device, seed: int) -> int:
        """What a device says until the day is over: anything, early, late and again; how much of it counted."""
        dice, counted = random.Random(seed), 0
        places = [Progress.DOWNLOADING, Progress.INSTALLING, Progress.FAILED, Progress.ROLLED_BACK]
        while not self.over.is_set():
            if self.known:
                endpoint = dice.choice(self.servers).device_endpoint
                progress = Progress.SUCCEEDED if self.last or dice.random() < 0.6 else dice.choice(places)
                rollout, attempt = self.last or dice.choice(self.known[-3:]), 1 if self.last else dice.choice([1, 1, 2])
                counted += device.report(endpoint, rollout, attempt, progress, times=dice.randint(1, 2))
            time.sleep(0.05)
        return counted


def bring_another(people: list[Operator]) -> str:
    """A security rollout, so that whatever is under way makes way for it."""
    status, made = people[0].ask(
        "POST", "/rollouts", {"product": "fw", "version": "3.0", "waves": WAVES, "priority": "security"}
    )
    assert status == 201, made
    assert people[1].say(made["id"], "approve", wave=1) == 200
    return str(made["id"])


@pytest.mark.parametrize(
    ("commands", "kills"),
    [
        pytest.param(8, 0, id="two servers stay"),
        pytest.param(8, 2, id="servers are killed"),
        pytest.param(18, 0, id="two servers stay for long", marks=pytest.mark.nightly),
        pytest.param(18, 4, id="servers are killed again and again", marks=pytest.mark.nightly),
    ],
)
def test_ten_operators_on_two_servers_leave_one_history(
    make_home: Callable[..., Home], tmp_path: Path, wait_until: Wait, commands: int, kills: int
) -> None:
    home = make_home()
    fleet = Fleet(home, [home.serve(**FAST), home.serve(**FAST)])
    devices = prepare(home, tmp_path, 2)
    people = hire(home, 10, fleet.url)
    with ThreadPoolExecutor(len(people) + len(devices)) as pool:
        reports = [pool.submit(fleet.report, device, seed) for seed, device in enumerate(devices)]
        try:
            days = [pool.submit(fleet.operate, person, seed, commands) for seed, person in enumerate(people)]
            for number in range(kills):
                time.sleep(0.7 + number * 0.3)
                fleet.servers[number % 2].kill()
                fleet.servers[number % 2] = home.serve(**FAST)
                home.url = fleet.servers[number % 2].url
            for day in days:
                day.result()
            # After all that, one more goes through: nothing is stuck.
            fleet.last = last = bring_another(people)
            wait_until(lambda: people[0].ask("GET", f"/rollouts/{last}")[1]["state"] == "completed")
        finally:
            fleet.over.set()
        counted = sum(report.result() for report in reports)
    home.url = fleet.servers[0].url
    wait_until(lambda: quiet(home))
    taken = check_everything(home, people)
    answers = [one for person in people for one in person.said]
    sys.stdout.write(f"\n{len(answers)} commands, {counted} reports counted, {sum(taken.values())} transitions\n")
    assert counted > 0
    assert sum(one.status == 200 for one in answers) > 0
    if not kills:
        assert {one.status for one in answers} <= {200, 400, 403, 409}, "nothing fails but by a refusal"


def test_when_the_leader_is_killed_the_other_server_goes_on(
    make_home: Callable[..., Home], tmp_path: Path, wait_until: Wait
) -> None:
    home = make_home()
    servers = [home.serve(**FAST), home.serve(**FAST)]
    prepare(home, tmp_path, 0)
    leads = "this process moves the rollouts"
    wait_until(lambda: any(leads in server.log.read_text() for server in servers))
    assert [leads in server.log.read_text() for server in servers].count(True) == 1, "one leads, the other stands by"
    leader, other = sorted(servers, key=lambda server: leads not in server.log.read_text())
    leader.kill()
    home.url = other.url
    made = home.publish("rollout", "create", "--product", "fw", "--version", "1.0", "--wave", "everyone")
    wait_until(lambda: home.publish("rollout", "show", made["id"])["state"] == "completed")
    assert leads in other.log.read_text()
    assert home.publish("rollout", "recount", made["id"])["items"][0]["is_sound"]


COMMANDS = st.sampled_from(["approve", "pause", "resume", "retry", "abort", "refuse", "submit", "roll-back"])
PROGRAMS = st.lists(st.lists(COMMANDS, min_size=1, max_size=5), min_size=4, max_size=4)


@pytest.mark.parametrize("examples", [10, pytest.param(25, marks=pytest.mark.nightly)])
def test_whatever_four_people_do_at_once_fits_one_order(
    make_home: Callable[..., Home], tmp_path: Path, examples: int
) -> None:
    home = make_home()
    servers = [home.serve(**FAST), home.serve(**FAST)]
    prepare(home, tmp_path, 0)
    people = hire(home, 4, lambda: random.choice(servers).url)
    body = {"product": "fw", "version": "1.0", "waves": WAVES[:1]}

    def act(rollout: str, operator: Operator, program: list[str]) -> None:
        for verb in program:
            said: dict[str, Any] = {"approve": {"wave": 1}, "retry": {}, "submit": {}}.get(verb, {"reason": "because"})
            assert operator.say(rollout, verb, **said) in {200, 400, 403, 409}, operator.said[-1]

    with ThreadPoolExecutor(4) as pool:

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(PROGRAMS)
        def at_once(programs: list[list[str]]) -> None:
            status, made = people[0].ask("POST", "/rollouts", body)
            assert status == 201, made
            list(pool.map(act, [made["id"]] * 4, people, programs))

        at_once()
    taken = check_everything(home, people)
    assert sum(taken.values()) >= 2 * examples
