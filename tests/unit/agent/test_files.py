"""What the agent keeps in its home, and the commands it runs."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from pathlib import Path

import pytest

from agent.config import AgentConfig, read_config, this_platform, write_config
from agent.durable import write_durably
from agent.errors import AgentError, BadConfig, HomeInUse, StateUnreadable
from agent.home import Home
from agent.hooks import INSTALL, ROLLBACK, CommandHooks
from agent.main import default_home
from agent.state import MAX_OUTBOX, Ended, PendingReport, Progress, Release, State, StateFile, Step, Work

RELEASE = Release(
    product="app",
    version="1.0",
    path="app/1.0/any/app.bin",
    length=3,
    sha256="ab" * 32,
    rollout="rol_1",
    group="canary",
    wave=1,
    attempt=1,
)


def report(number: int, progress: Progress) -> PendingReport:
    return PendingReport(id=f"rep_{number}", rollout="rol_1", attempt=1, progress=progress)


def test_the_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    state = State(
        groups=("canary",),
        products=("app",),
        running={"app": RELEASE},
        previous={"app": RELEASE},
        work=Work(step=Step.ROLLING_BACK, release=RELEASE, before=RELEASE, tries=2, ending=Progress.FAILED, code="x"),
        ended={"rol_1": Ended(attempt=1, progress=Progress.FAILED, version="1.0", code="x", detail="y")},
        outbox=(report(1, Progress.DOWNLOADING),),
        words={"app": "why"},
        repository_trouble="r",
        server_trouble="s",
        refreshed_at="2026-11-21T12:00:00Z",
    )
    StateFile(tmp_path / "state.json").save(state)

    assert StateFile(tmp_path / "state.json").load() == state
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


def test_a_home_without_a_state_begins_afresh(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "state.json").load() == State()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"format": 1}'])
def test_a_damaged_state_is_not_guessed(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(StateUnreadable, match=r"state\.json cannot be read"):
        StateFile(tmp_path / "state.json").load()


def test_of_too_many_reports_those_that_tell_no_result_go_first() -> None:
    state = State().with_report(report(0, Progress.FAILED)).with_report(report(1, Progress.DOWNLOADING))
    for number in range(2, MAX_OUTBOX + 1):
        state = state.with_report(report(number, Progress.SUCCEEDED))

    kept = [waiting.id for waiting in state.outbox]
    assert (len(kept), kept[:2]) == (MAX_OUTBOX, ["rep_0", "rep_2"])


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    target.mkdir()
    (target / "inside").touch()

    with pytest.raises(OSError, match=r"state\.json"):
        write_durably(target, b"new")

    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_one_agent_per_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked(), pytest.raises(HomeInUse), home.locked():
        pass
    with home.locked():
        assert (tmp_path / "lock").exists()


def test_settings_come_back_as_written_and_show_what_there_is(tmp_path: Path) -> None:
    config = AgentConfig(
        platform="linux-x86_64", products=("app", "web"), install_command='sh -c "cp {file} \\x"', interval_seconds=5
    )
    write_config(tmp_path / "agent.toml", config)

    assert read_config(tmp_path / "agent.toml") == config
    assert "least_bytes_per_second = 1024.0" in (tmp_path / "agent.toml").read_text()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('platform = "linux"\ninstal_command = "x"', "no setting 'instal_command'"),
        ('platform = "linux"\ninterval_seconds = "5"', "expected a number"),
        ('platform = "linux"\nhealth_tries = 1.5', "expected a whole number"),
        ('platform = "linux"\nproducts = "app"', "expected a list of texts"),
        ('platform = "linux"\nhealth_tries = 0', "expected at least 1"),
        ('platform = "linux"\ninterval_seconds = nan', "interval_seconds is nan, expected at least 0.1"),
        (
            'platform = "linux"\ndownload_seconds = inf',
            "download_seconds is inf, expected at least 1, and no more than",
        ),
        ('platform = "linux"\nkeep_free_bytes = -1', "expected at least 0"),
        (
            'platform = "linux"\ndownload_bytes_per_second = 2000',
            "at least twice least_bytes_per_second, which is 1024",
        ),
        ('platform = "Linux 64"', "is not 1 to 100 of"),
        ("interval_seconds = 5", "'platform' is missing"),
        ("platform =", "is no TOML"),
    ],
)
def test_a_setting_that_does_not_do_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "agent.toml").write_text(text)
    with pytest.raises(BadConfig, match=complaint):
        read_config(tmp_path / "agent.toml")


def test_this_machine_has_a_platform_that_artifacts_may_name() -> None:
    assert AgentConfig(platform=this_platform()).platform == this_platform()


def test_the_home_is_the_variables_else_the_usual_place() -> None:
    usual = "/var/lib/wavegate-agent" if os.geteuid() == 0 else "/home/ada/.local/share/wavegate-agent"
    assert default_home({"WAVEGATE_AGENT_HOME": "/srv/agent"}) == Path("/srv/agent")
    assert default_home({"HOME": "/home/ada"}) == Path(usual)


def hooks(tmp_path: Path, install: str = "", health: str = "", seconds: float = 20) -> CommandHooks:
    return CommandHooks(
        install_command=install,
        health_command=health,
        install_timeout_seconds=seconds,
        health_timeout_seconds=seconds,
        platform="linux",
        log=tmp_path / "hook.log",
    )


def test_the_install_command_gets_the_file_and_what_it_is(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    program = "import json,os,sys; json.dump([sys.argv[1], dict(os.environ)], open(sys.argv[2], 'w'))"
    command = f'{sys.executable} -c "{program}" {{file}} {told}'

    outcome = hooks(tmp_path, command).install(RELEASE, tmp_path / "a b", ROLLBACK)

    assert outcome.ok
    file, environment = json.loads(told.read_text())
    assert file == str(tmp_path / "a b")
    assert {
        name: value for name, value in environment.items() if name.startswith("WAVEGATE_") and name not in os.environ
    } == {
        "WAVEGATE_FILE": str(tmp_path / "a b"),
        "WAVEGATE_FILE_NAME": "app.bin",
        "WAVEGATE_ACTION": "rollback",
        "WAVEGATE_PRODUCT": "app",
        "WAVEGATE_VERSION": "1.0",
        "WAVEGATE_SHA256": "ab" * 32,
        "WAVEGATE_PLATFORM": "linux",
        "WAVEGATE_ROLLOUT": "rol_1",
    }


def test_a_command_that_fails_says_how_and_what_it_printed_last(tmp_path: Path) -> None:
    outcome = hooks(tmp_path, "sh -c 'echo no space; exit 3'").install(RELEASE, tmp_path, INSTALL)

    assert (outcome.ok, outcome.timed_out) == (False, False)
    assert outcome.detail == "the install command ended with 3; no space"


def test_a_command_that_is_not_there_is_a_failure_not_a_crash(tmp_path: Path) -> None:
    outcome = hooks(tmp_path, health="no-such-program").healthy(RELEASE, tmp_path)

    assert outcome.detail == "the health command cannot be run: No such file or directory"


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    left = tmp_path / "left"
    began = time.monotonic()

    outcome = hooks(tmp_path, f"sh -c '(sleep 1; touch {left}) & sleep 60'", seconds=0.3).install(
        RELEASE, tmp_path, INSTALL
    )

    assert outcome.timed_out
    assert time.monotonic() - began < 10
    time.sleep(1.1)
    assert not left.exists()


def test_without_commands_everything_is_well(tmp_path: Path) -> None:
    assert hooks(tmp_path).install(RELEASE, tmp_path, INSTALL).ok
    assert hooks(tmp_path).healthy(RELEASE, tmp_path).ok


def test_every_error_of_the_room_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in AgentError.__subclasses__()]
    assert len(codes) == len(set(codes)) == 15
