"""A device that gets a new identity where it is: what runs stays, and a failed try costs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding

from agent.home import Home
from agent.identity import Credentials, Keypair, load_credentials, load_identity, replace_credentials
from agent.main import cli
from fleet import service
from fleet.provision import renew_code
from tests.simulators.devices import utc_now
from tests.simulators.gate import ADMIN, Gate, open_gate


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with open_gate(tmp_path) as gate:
        yield gate


def agent(*arguments: str, home: Path) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home)])


def enroll(gate: Gate, home: Path, token: str, *more: str) -> Result:
    return agent("enroll", "--url", gate.mirror.url, "--token", token, "--name", "press-1", *more, home=home)


def code(gate: Gate, name: str = "press-1") -> str:
    root = gate.tree.root_sha256
    return renew_code(gate.fleet, "acme", name, root_sha256=root, by=ADMIN, now=utc_now()).code


def status(home: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(agent("status", "-o", "json", home=home).stdout)
    return told


def identity(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((home / "identity").iterdir())}


@pytest.fixture
def home(gate: Gate, tmp_path: Path) -> Path:
    """A device that runs 1.0 and was revoked since."""
    home = tmp_path / "home"
    gate.offer(b"the release")
    platform = ("--platform", "linux-x86_64", "--interval", "7")
    assert enroll(gate, home, gate.token(), *platform).exit_code == 0
    assert agent("run", "--once", home=home).exit_code == 0
    service.revoke_device(gate.fleet, "acme", "press-1", "lost", by=ADMIN, now=utc_now())
    agent("run", "--once", home=home)
    assert status(home)["server_trouble"].startswith("not_recognised: ")
    return home


def test_a_revoked_device_comes_back_where_it_is_and_what_runs_stays(gate: Gate, home: Path) -> None:
    before, settings = load_identity(Home(home)), (home / "agent.toml").read_bytes()
    again = enroll(gate, home, code(gate), "--again")
    assert (again.exit_code, again.stdout) == (
        0,
        f"press-1 is {before.device_id} of acme; next: wavegate-agent run\n",
    )
    assert agent("run", "--once", home=home).exit_code == 0
    told = status(home)
    assert (told["server_trouble"], told["running"]["app"]["version"]) == ("", "1.0")
    assert (home / "agent.toml").read_bytes() == settings
    device = gate.fleet.device("acme", "press-1")
    assert (device.status.value, device.running["app"].version) == ("active", "1.0")
    assert sorted(path.name for path in home.glob("*dentity*")) == ["identity"]
    assert not (home / "enrolment.json").exists()


def test_a_device_that_was_away_past_its_certificate_comes_back_with_all_that_it_knows(
    gate: Gate, tmp_path: Path
) -> None:
    home, installed = tmp_path / "home", tmp_path / "installed"
    gate.offer(b"the release")
    how = ("--install-command", f"cp {{file}} {installed}", "--product", "app", "--platform", "linux-x86_64")
    enroll(gate, home, gate.token(), *how)
    agent("run", "--once", home=home)
    reported = len(gate.reports)
    device = gate.fleet.device("acme", "press-1")
    key, old = Keypair(), load_credentials(Home(home))
    over = gate.ca.issue(key.request(Encoding.DER), device.id, now=utc_now() - timedelta(days=60), days=30)
    replace_credentials(Home(home), Credentials(key.private_pem, over.chain_pem.encode()))
    agent("run", "--once", home=home)
    said = agent("status", home=home).stdout
    assert "The server could not be told: server_away: " in said
    assert "it must be enrolled again (wavegate-agent enroll --again)." in said

    again = enroll(gate, home, f"{code(gate)}\r", "--again")  # as it comes out of a CSV

    assert again.exit_code == 0, again.output
    assert load_credentials(Home(home)).private_key != old.private_key
    gate.offer(b"the next release", "2.0", "rol_2", minutes=1)
    assert agent("run", "--once", home=home).exit_code == 0
    told = status(home)
    assert (told["device_id"], told["server_trouble"], told["products"]) == (device.id, "", ["app"])
    assert installed.read_bytes() == b"the next release"
    assert [report.rollout for _, report in gate.reports[reported:]] == ["rol_2"] * 3


def test_without_being_asked_an_identity_is_not_replaced(gate: Gate, home: Path) -> None:
    before, fresh = identity(home), code(gate)
    refused = enroll(gate, home, fresh)
    assert refused.exit_code == 5
    assert "is press-1 (dev_" in refused.stderr
    assert "publish device code press-1" in refused.stderr
    assert "--again" in refused.stderr
    assert identity(home) == before
    assert enroll(gate, home, fresh, "--again").exit_code == 0


def swapped(answer: dict[str, Any]) -> None:
    answer["root"] = "e30="


def of_another(answer: dict[str, Any]) -> None:
    answer["org"] = "rival"


@pytest.mark.parametrize("change", [swapped, of_another])
def test_an_answer_that_does_not_fit_leaves_the_old_identity(
    gate: Gate, home: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    before, gate.change = identity(home), change
    refused = enroll(gate, home, code(gate), "--again")
    assert refused.exit_code in {1, 8}
    assert identity(home) == before
    assert not (home / "enrolment.json").exists()


def test_a_code_that_was_used_leaves_the_old_identity(gate: Gate, home: Path, tmp_path: Path) -> None:
    before, used = identity(home), code(gate)
    assert enroll(gate, tmp_path / "other", used).exit_code == 0
    refused = enroll(gate, home, used, "--again")
    assert (refused.exit_code, identity(home)) == (1, before)
    assert "was used at" in refused.stderr


def test_an_answer_that_got_lost_is_asked_for_again(gate: Gate, home: Path) -> None:
    """The server has used the code up; it says the same to the same request, as its Idempotency-Key has it."""
    before, fresh = identity(home), code(gate)
    answers: dict[str, tuple[int, dict[str, Any]]] = {}

    def once(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked = json.dumps(body)
        if asked not in answers:
            answers[asked] = gate.enrol(body)
        return answers[asked]

    def lost(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        once(body)
        return 502, {"error": {"code": "bad_gateway", "message": "the line broke", "request_id": "req_1"}}

    gate.mirror.enrol = lost
    failed = enroll(gate, home, fresh, "--again")
    assert (failed.exit_code, identity(home)) == (1, before)
    assert "the line broke; the same command again goes on with it" in failed.stderr
    assert (home / "enrolment.json").stat().st_mode & 0o777 == 0o600

    gate.mirror.enrol = once
    assert enroll(gate, home, fresh, "--again").exit_code == 0
    assert len(answers) == 1
    assert agent("run", "--once", home=home).exit_code == 0
    assert status(home)["server_trouble"] == ""
    assert not (home / "enrolment.json").exists()


def test_a_power_cut_between_two_identities_leaves_one_that_works(gate: Gate, home: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(home / "identity", old)
    assert enroll(gate, home, code(gate), "--again").exit_code == 0
    new = identity(home)
    (home / "identity").rename(home / "identity.new")
    shutil.copytree(old, home / "identity.old")
    assert agent("run", "--once", home=home).exit_code == 0
    assert (identity(home), status(home)["server_trouble"]) == (new, "")
    assert sorted(path.name for path in home.glob("identity*")) == ["identity"]


def test_a_device_that_was_deleted_comes_back_as_another_and_says_nothing_in_its_old_name(
    gate: Gate, home: Path
) -> None:
    before = load_identity(Home(home))
    service.delete_device(gate.fleet, "acme", "press-1", by=ADMIN, now=utc_now())
    assert enroll(gate, home, gate.token(), "--again").exit_code == 0
    assert load_identity(Home(home)).device_id != before.device_id
    reported = len(gate.reports)
    assert agent("run", "--once", home=home).exit_code == 0
    told = status(home)
    assert (told["server_trouble"], told["running"]["app"]["version"], told["reports_waiting"]) == ("", "1.0", 0)
    assert len(gate.reports) == reported


def test_settings_are_not_changed_in_passing(gate: Gate, home: Path) -> None:
    before, fresh = identity(home), code(gate)
    refused = enroll(gate, home, fresh, "--again", "--interval", "9")
    assert (refused.exit_code, identity(home)) == (2, before)
    assert "--interval with --again" in refused.stderr


def test_an_identity_is_not_replaced_under_a_running_agent(gate: Gate, home: Path) -> None:
    before, fresh = identity(home), code(gate)
    with Home(home).locked():
        refused = enroll(gate, home, fresh, "--again")
    assert (refused.exit_code, identity(home)) == (5, before)
    assert "another agent runs" in refused.stderr
    assert enroll(gate, home, fresh, "--again").exit_code == 0


def test_a_damaged_identity_is_replaced_too(gate: Gate, home: Path) -> None:
    (home / "identity" / "identity.json").write_text("{")
    assert enroll(gate, home, code(gate), "--again").exit_code == 0
    assert agent("run", "--once", home=home).exit_code == 0
    assert status(home)["server_trouble"] == ""
