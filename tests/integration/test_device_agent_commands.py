"""Commands on the device: taken up durably, carried out once, told until the server has taken it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.identity import load_credentials
from agent.report import status_in_words, status_of
from agent.state import Order, Step
from tests.simulators.agents import NOON, DeviceBench, Power, PowerCut, device_bench

REBOOT = Order(
    id="rbt_1", kind="reboot", not_before="2026-11-21T12:00:00Z", expires_at="2026-11-21T18:00:00Z", own_window=False
)
LOGS = Order(
    id="log_1",
    kind="logs",
    not_before="2026-11-21T12:00:00Z",
    expires_at="2026-11-22T12:00:00Z",
    max_bytes=64 * 1024**2,
)


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceBench]:
    """A device on which 1.0 runs, an hour after noon, which calls at every poll."""
    with device_bench(tmp_path_factory.mktemp("commands")) as bench:
        bench.offer("1.0", "rol_1")
        bench.poll()
        (bench.home.folder.parent / "app.log").write_text("the press began\n")
        bench.config = replace(bench.config, log_paths=(str(bench.home.folder.parent / "*.log"),))
        yield bench


@pytest.fixture
def bench(at_rest: DeviceBench, tmp_path: Path) -> DeviceBench:
    return at_rest.copy_to(tmp_path / "home")


def files_of(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
        return found


def cut_at_every_moment(bench: DeviceBench, order: Order, folder: Path) -> Iterator[tuple[DeviceBench, int]]:
    """The device after the power failed at each moment in turn, and after it came back for as long as it takes."""
    moment = 0
    while True:
        moment += 1
        device = bench.copy_to(folder / str(moment))
        device.server.orders[order.id] = order
        power = Power(moment)
        with suppress(PowerCut):
            device.poll(power)
            if power.moments < moment:
                return
        device.host.boot()  # the power came back
        for _ in range(3):
            device.clock.now += timedelta(minutes=6)
            device.poll()
        yield device, moment


def test_power_that_fails_at_any_moment_of_a_reboot_leaves_it_done_and_the_command_run_at_most_once(
    bench: DeviceBench, tmp_path: Path
) -> None:
    moments = 0
    for device, moment in cut_at_every_moment(bench, REBOOT, tmp_path):
        moments = moment
        assert device.server.came_of == {"rbt_1": "done"}, moment
        assert device.host.ran <= 1, moment
        assert (device.agent().state.orders, device.agent().state.order_results) == ((), ()), moment
    # Before and after: it is held, it is begun, the command runs, ...
    assert moments >= 6


def test_power_that_fails_at_any_moment_of_a_log_request_leaves_one_bundle_with_the_server(
    bench: DeviceBench, tmp_path: Path
) -> None:
    moments = 0
    for device, moment in cut_at_every_moment(bench, LOGS, tmp_path):
        moments = moment
        assert device.server.came_of == {"log_1": "done"}, moment
        assert [files_of(one)["manifest.json"] != b"" for one in device.server.bundles["log_1"]] == [True], moment
        assert device.agent().state.orders == (), moment
    assert moments >= 4


def test_an_answer_that_got_lost_is_given_again_and_the_reboot_runs_once(bench: DeviceBench) -> None:
    bench.server.orders["rbt_1"] = REBOOT
    bench.server.lose_check_ins = True
    bench.poll()
    assert (bench.host.ran, bench.agent().state.orders) == (0, ())

    bench.server.lose_check_ins = False
    bench.poll()
    assert bench.host.ran == 1
    bench.server.lose_check_ins = True  # that of the result, too
    bench.poll()
    bench.poll()
    assert bench.server.came_of == {"rbt_1": "done"}
    bench.server.orders["rbt_1"] = REBOOT  # a server that was restored from its backup
    bench.server.lose_check_ins = False
    for _ in range(3):
        bench.poll()

    assert bench.host.ran == 1
    assert bench.server.orders == {}


def test_a_bundle_whose_answer_got_lost_is_not_sent_again(bench: DeviceBench) -> None:
    bench.server.orders["log_1"] = LOGS
    bench.server.lose_uploads = True
    bench.poll()
    assert [held.tries for held in bench.agent().state.orders] == [1]

    other = bench.copy_to(bench.home.folder.with_name("other"))  # its server has lost what it knew
    other.server.orders["log_1"] = LOGS
    bench.server.lose_uploads = other.server.lose_uploads = False
    bench.poll()
    assert bench.agent().state.orders == ()
    assert len(bench.server.bundles["log_1"]) == 1

    other.poll()
    assert other.server.bundles == {}  # it waits for a minute
    other.clock.now += timedelta(minutes=2)
    other.poll()
    assert len(other.server.bundles["log_1"]) == 1


def test_a_reboot_waits_for_its_window_and_is_not_made_after_it(bench: DeviceBench) -> None:
    early = replace(REBOOT, not_before="2026-11-21T14:00:00Z", expires_at="2026-11-21T15:00:00Z")
    bench.server.orders["rbt_1"] = early
    bench.poll()
    late = bench.copy_to(bench.home.folder.with_name("late"))
    late.server.orders["rbt_1"] = early
    assert (bench.host.ran, [held.id for held in bench.agent().state.orders]) == (0, ["rbt_1"])

    bench.clock.now = NOON + timedelta(hours=2)
    bench.poll()
    assert bench.host.ran == 1
    bench.poll()
    assert bench.server.came_of == {"rbt_1": "done"}

    late.clock.now = NOON + timedelta(hours=3)
    late.poll()
    assert late.host.ran == 0
    assert late.server.came_of == {"rbt_1": "expired"}


def test_the_status_tells_what_the_device_was_asked_to_do(bench: DeviceBench) -> None:
    bench.server.orders["rbt_1"] = replace(REBOOT, not_before="2026-11-21T14:00:00Z", own_window=True)
    bench.server.orders["log_1"] = LOGS
    bench.server.lose_uploads = True
    bench.poll()
    state, now = bench.agent().state, bench.clock()
    credentials = load_credentials(bench.home)

    words = status_in_words(bench.identity, credentials, bench.config, state, now=now)
    told = status_of(bench.identity, credentials, bench.config, state)

    assert [line for line in words if "rbt_1" in line or "log_1" in line] == [
        "A reboot is scheduled (rbt_1) from 2026-11-21T14:00:00Z to 2026-11-21T18:00:00Z, in its own maintenance "
        "window.",
        "Its logs are asked for (log_1), by 2026-11-22T12:00:00Z at the latest.",
    ]
    assert "rbt_1" in json.dumps(told["commands"])
    bench.host.obeys = False
    bench.clock.now = NOON + timedelta(hours=2)
    state = bench.poll()
    words = status_in_words(bench.identity, credentials, bench.config, state, now=now)
    assert any("ran the reboot command at 2026-11-21 14:00 UTC." in line for line in words)


def test_a_reboot_in_the_device_s_own_window_waits_for_that(bench: DeviceBench) -> None:
    bench.config = replace(bench.config, maintenance_window="daily 15:00 1h UTC")
    bench.server.orders["rbt_1"] = replace(REBOOT, own_window=True)
    bench.poll()
    assert bench.host.ran == 0

    bench.clock.now = NOON + timedelta(hours=3)
    bench.poll()

    assert bench.host.ran == 1


def test_a_command_that_was_taken_back_is_dropped_unless_it_was_begun(bench: DeviceBench) -> None:
    bench.server.orders["rbt_1"] = replace(REBOOT, not_before="2026-11-21T14:00:00Z")
    bench.poll()
    del bench.server.orders["rbt_1"]
    bench.poll()
    assert bench.agent().state.orders == ()

    bench.host.obeys = False  # the system takes its time
    bench.server.orders["rbt_2"] = replace(REBOOT, id="rbt_2")
    bench.poll()
    del bench.server.orders["rbt_2"]
    bench.poll()
    assert [held.id for held in bench.agent().state.orders] == ["rbt_2"]
    bench.host.boot()
    bench.poll()

    assert bench.server.said[-1].results[0].boot_id == "boot-2"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"has_command": False}, "no_reboot_command"),
        ({"works": False}, "reboot_failed"),
    ],
)
def test_a_device_that_cannot_reboot_says_why_at_once(bench: DeviceBench, change: dict[str, bool], code: str) -> None:
    bench.host = replace(bench.host, **change)  # type: ignore[arg-type]
    bench.server.orders["rbt_1"] = REBOOT
    bench.poll()

    assert bench.server.came_of == {"rbt_1": code}


def test_a_reboot_that_never_comes_is_told_after_a_while_and_not_tried_again(bench: DeviceBench) -> None:
    bench.host.obeys = False
    bench.server.orders["rbt_1"] = REBOOT
    bench.poll()
    bench.clock.now += timedelta(minutes=14)
    bench.poll()
    assert bench.server.came_of == {}

    bench.clock.now += timedelta(minutes=1)
    bench.poll()

    assert (bench.server.came_of, bench.host.ran) == ({"rbt_1": "reboot_did_not_happen"}, 1)


def test_what_this_agent_does_not_know_is_refused_and_not_asked_again(bench: DeviceBench) -> None:
    bench.server.orders["xyz_1"] = replace(REBOOT, id="xyz_1", kind="")
    bench.server.orders["rbt_1"] = replace(REBOOT, not_before="soon")
    bench.poll()

    assert bench.server.came_of == {"xyz_1": "unsupported", "rbt_1": "unreadable"}


def test_a_reboot_and_a_log_request_do_not_disturb_an_update(tmp_path: Path) -> None:
    with device_bench(tmp_path) as bench:
        bench.offer("1.0", "rol_1")
        bench.poll()
        updated_with_commands(bench)


def updated_with_commands(bench: DeviceBench) -> None:
    bench.offer("2.0", "rol_2", minutes=1)
    bench.server.orders |= {"rbt_1": REBOOT, "log_1": LOGS}
    ran_when: list[int] = []
    bench.commands.before_health = lambda: ran_when.append(bench.host.ran)

    state = bench.poll()
    bench.poll()

    assert (state.running["app"].version, state.step) == ("2.0", Step.IDLE)
    assert ran_when == [0]
    assert bench.server.came_of == {"log_1": "done", "rbt_1": "done"}


def test_nothing_is_installed_while_a_reboot_may_come_at_any_moment(tmp_path: Path) -> None:
    with device_bench(tmp_path) as bench:
        bench.offer("1.0", "rol_1")
        bench.poll()
        bench.host.obeys = False  # such as `shutdown -r +5`
        bench.server.orders["rbt_1"] = REBOOT
        bench.poll()
        bench.offer("2.0", "rol_2", minutes=1)
        assert bench.poll().running["app"].version == "1.0"

        bench.host.boot()
        assert bench.poll().running["app"].version == "2.0"
        assert bench.server.came_of == {"rbt_1": "done"}


def test_why_a_reboot_is_due_is_told_at_once(bench: DeviceBench) -> None:
    agent = bench.agent()
    agent.poll()
    bench.host.pending = "*** System restart required ***"
    agent.poll()
    agent.close()

    assert bench.server.said[-1].reboot_pending == "*** System restart required ***"


def test_the_bundle_holds_the_configured_logs_and_what_the_agent_knows_of_itself(bench: DeviceBench) -> None:
    bench.server.orders["log_1"] = LOGS
    bench.poll()

    [bundle] = bench.server.bundles["log_1"]
    files = files_of(bundle)
    name = next(one for one in files if one.endswith("app.log"))
    assert files[name] == b"the press began\n"
    assert json.loads(files["agent/state.json"])["running"]["app"]["version"] == "1.0"
    assert not any("identity" in one for one in files)
    assert b"PRIVATE KEY" not in b"".join(files.values())
