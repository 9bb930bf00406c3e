"""From token to running release with the real command, the real device port and a real repository on loopback."""

from __future__ import annotations

import base64
import json
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.main import cli
from fleet import service
from fleet.provision import renew_code
from rollout.cohort import bucket
from rollout.decision import DecisionArtifact, encode_decision
from tests.simulators.agents import a_decision
from tests.simulators.devices import utc_now
from tests.simulators.gate import ADMIN, Gate, open_gate
from tests.simulators.signed_tree import SignedTree


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with open_gate(tmp_path) as gate:
        yield gate


def agent(*arguments: str, home: Path) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home)])


def enroll(gate: Gate, home: Path, *more: str, token: str | None = None) -> Result:
    text = token or gate.token()
    return agent(
        *(
            "enroll",
            "--url",
            gate.mirror.url,
            "--token",
            text,
            "--name",
            "press-1",
            "--platform",
            "linux-x86_64",
            *more,
        ),
        home=home,
    )


def test_a_device_enrols_installs_and_is_seen(gate: Gate, tmp_path: Path) -> None:
    home, installed = tmp_path / "home", tmp_path / "installed"
    content = b"the release" * 50_000
    gate.offer(content)

    enrolled = enroll(gate, home, "--install-command", f"cp {{file}} {installed}", "-o", "json")
    assert enrolled.exit_code == 0, enrolled.output
    told = json.loads(enrolled.stdout)
    assert (told["name"], told["org"], told["root_sha256"]) == ("press-1", "acme", gate.tree.root_sha256)
    ran = agent("run", "--once", home=home)

    assert ran.exit_code == 0, ran.output
    assert installed.read_bytes() == content
    device = gate.fleet.device("acme", "press-1")
    assert (device.running["app"].version, device.state) == ("1.0", "app: runs 1.0; up to date")
    assert [(who, report.progress.value) for who, report in gate.reports] == [
        (told["device_id"], "downloading"),
        (told["device_id"], "installing"),
        (told["device_id"], "succeeded"),
    ]

    status = json.loads(agent("status", "-o", "json", home=home).stdout)
    assert (status["running"]["app"]["version"], status["step"], status["reports_waiting"]) == ("1.0", "idle", 0)
    assert "app: runs 1.0; up to date" in agent("status", home=home).stdout


def test_a_device_that_was_made_before_enrols_by_its_code_under_its_own_name(gate: Gate, tmp_path: Path) -> None:
    home, code = tmp_path / "home", gate.code("lathe-7")
    gate.offer(b"the release")

    enrolled = enroll(gate, home, "-o", "json", token=code)

    assert enrolled.exit_code == 0, enrolled.output
    assert json.loads(enrolled.stdout)["name"] == "lathe-7"
    assert agent("run", "--once", home=home).exit_code == 0
    assert gate.fleet.device("acme", "lathe-7").running["app"].version == "1.0"

    refused = enroll(gate, tmp_path / "other", token=code)
    assert (refused.exit_code, (tmp_path / "other").exists()) == (1, False)
    assert "the code of device lathe-7 was used at" in refused.stderr


def test_a_device_with_a_new_identity_is_the_same_and_its_old_one_is_refused(gate: Gate, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    enroll(gate, old)
    first = gate.fleet.device("acme", "press-1")
    made = renew_code(gate.fleet, "acme", "press-1", root_sha256=gate.tree.root_sha256, by=ADMIN, now=utc_now())
    agent("run", "--once", home=old)
    assert json.loads(agent("status", "-o", "json", home=old).stdout)["server_trouble"] == ""

    assert enroll(gate, new, token=made.code).exit_code == 0

    agent("run", "--once", home=new)
    agent("run", "--once", home=old)
    assert gate.fleet.device("acme", "press-1").id == first.id
    assert json.loads(agent("status", "-o", "json", home=new).stdout)["server_trouble"] == ""
    trouble = json.loads(agent("status", "-o", "json", home=old).stdout)["server_trouble"]
    assert trouble.startswith("not_recognised: ")


def test_keys_stay_on_the_device_and_are_nobody_elses_to_read(gate: Gate, tmp_path: Path) -> None:
    enroll(gate, tmp_path / "home")

    credentials = tmp_path / "home" / "identity" / "credentials.pem"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_a_file_is_what_the_metadata_names_or_the_command_ends_with_8(gate: Gate, tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "app.bin"
    gate.offer(b"genuine")
    enroll(gate, home)
    agent("run", "--once", home=home)
    file.write_bytes(b"genuine")
    good = agent("verify", str(file), home=home)
    named = agent("verify", str(file), "--path", "app/1.0/linux-x86_64/app.bin", home=home)
    stored = agent("verify", home=home)
    assert [good.exit_code, named.exit_code, stored.exit_code] == [0, 0, 0]
    assert "is app/1.0/linux-x86_64/app.bin, SHA-256" in good.stdout

    file.write_bytes(b"genuinf")

    for arguments in ((), ("--path", "app/1.0/linux-x86_64/app.bin"), ("--path", "app/9/linux/x")):
        refused = agent("verify", str(file), *arguments, home=home)
        assert refused.exit_code == 8
        assert refused.stderr.startswith("verification_failed: ")


def other_root(answer: dict[str, Any]) -> None:
    answer["root"] = base64.b64encode(SignedTree().root).decode()


def other_device(answer: dict[str, Any]) -> None:
    answer["device_id"] = "dev_somebody_else"


def foreign_ca(answer: dict[str, Any]) -> None:
    answer["device_ca"] = answer["certificate_chain"].partition("-----END CERTIFICATE-----\n")[0] + (
        "-----END CERTIFICATE-----\n"
    )


def no_endpoint(answer: dict[str, Any]) -> None:
    answer["device_endpoint"] = "http://evil/"


def missing(answer: dict[str, Any]) -> None:
    del answer["targets_url"]


@pytest.mark.parametrize(
    ("change", "code", "exit_code"),
    [
        (other_root, "untrusted_root", 8),
        (other_device, "enrolment_failed", 1),
        (foreign_ca, "enrolment_failed", 1),
        (no_endpoint, "enrolment_failed", 1),
        (missing, "enrolment_failed", 1),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_nothing_is_written(
    gate: Gate, tmp_path: Path, change: Callable[[dict[str, Any]], None], code: str, exit_code: int
) -> None:
    gate.change = change

    refused = enroll(gate, tmp_path / "home")

    assert (refused.exit_code, refused.stderr.partition(":")[0]) == (exit_code, code)
    assert not (tmp_path / "home").exists()


def test_a_token_for_another_root_is_refused_before_anything_is_trusted(gate: Gate, tmp_path: Path) -> None:
    refused = enroll(gate, tmp_path / "home", token=gate.token("ab" * 32))

    assert refused.exit_code == 8
    assert "the token promises abab" in refused.stderr
    assert not (tmp_path / "home").exists()


def test_a_root_file_that_is_another_is_refused(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(SignedTree().root)
    assert enroll(gate, tmp_path / "home", "--root", str(tmp_path / "mine.json")).exit_code == 8
    assert gate.mirror.requests == []
    (tmp_path / "mine.json").write_bytes(gate.tree.root)
    assert enroll(gate, tmp_path / "home", "--root", str(tmp_path / "mine.json")).exit_code == 0


def test_the_servers_refusal_is_told_without_the_token(gate: Gate, tmp_path: Path) -> None:
    token = f"wge_{gate.tree.root_sha256}_{'a' * 43}"

    refused = enroll(gate, tmp_path / "home", token=token)

    assert refused.exit_code == 1
    assert "the server refuses (enrolment_refused)" in refused.stderr
    assert "a" * 43 not in refused.output


def test_a_second_enrolment_of_the_home_is_refused_and_uses_no_place(gate: Gate, tmp_path: Path) -> None:
    enroll(gate, tmp_path / "home")
    asked = len(gate.mirror.requests)

    refused = enroll(gate, tmp_path / "home")

    assert refused.exit_code == 5
    assert len(gate.mirror.requests) == asked


@pytest.mark.parametrize(
    ("arguments", "exit_code", "complaint"),
    [
        (("enroll", "--url", "http://gate.example.com", "--token", f"wge_{'a' * 64}_{'b' * 43}"), 2, "--allow-http"),
        (("enroll", "--url", "http://localhost:1", "--token", "nonsense"), 2, "copy it whole"),
        (("enroll", "--url", "ftp://localhost", "--token", f"wge_{'a' * 64}_{'b' * 43}"), 2, "is no http"),
        (("enroll", "--url", "http://localhost:1"), 2, "no token"),
        (("run", "--once"), 3, "wavegate-agent enroll"),
        (("status",), 3, "wavegate-agent enroll"),
        (("verify",), 3, "wavegate-agent enroll"),
    ],
)
def test_what_cannot_work_is_said_with_the_next_step(
    tmp_path: Path, arguments: tuple[str, ...], exit_code: int, complaint: str
) -> None:
    refused = agent(*arguments, home=tmp_path / "home")

    assert refused.exit_code == exit_code
    assert complaint in refused.stderr


def test_a_revoked_device_is_told_so_and_keeps_what_it_runs(gate: Gate, tmp_path: Path) -> None:
    gate.offer(b"genuine")
    enroll(gate, tmp_path / "home")
    agent("run", "--once", home=tmp_path / "home")
    service.revoke_device(gate.fleet, "acme", "press-1", "stolen", by=ADMIN, now=utc_now())

    agent("run", "--once", home=tmp_path / "home")

    status = json.loads(agent("status", "-o", "json", home=tmp_path / "home").stdout)
    assert status["server_trouble"].startswith("not_recognised: ")
    assert status["running"]["app"]["version"] == "1.0"


def test_two_devices_of_one_group_are_split_by_the_cohort(gate: Gate, tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    token = gate.token()
    for home in homes:
        assert (
            agent(
                *(
                    "enroll",
                    "--url",
                    gate.mirror.url,
                    "--token",
                    token,
                    "--platform",
                    "linux-x86_64",
                    "--name",
                    home.name,
                ),
                home=home,
            ).exit_code
            == 0
        )
    target = gate.tree.add_artifact("app/1.0/any/app.bin", b"x")
    decision = a_decision("1.0", "rol_1", target.path, target.length, target.hashes["sha256"])
    places = {name: bucket(decision.salt, gate.fleet.device("acme", name).id) for name in ("one", "two")}
    first, second = sorted(places, key=lambda name: places[name])
    decision = replace(
        decision,
        artifacts={"any": DecisionArtifact(path=target.path, length=1, sha256=target.hashes["sha256"])},
        cohort_to=places[second],
    )
    gate.tree.put_document("decisions/app/canary.json", encode_decision(decision))

    for home in homes:
        agent("run", "--once", home=home)

    assert gate.fleet.device("acme", first).running["app"].version == "1.0"
    assert gate.fleet.device("acme", second).running == {}
    # A line for people that changed is written within a second of the answer.
    deadline = time.monotonic() + 10
    while f"this device has {places[second]}" not in gate.fleet.device("acme", second).state:
        assert time.monotonic() < deadline, gate.fleet.device("acme", second).state
        time.sleep(0.05)
