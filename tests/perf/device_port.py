"""What a device's call costs the server, over an open channel, beside a gRPC server that only echoes.

A real ``publish serve`` on SQLite; seconds of CPU of all its processes, background jobs too. Pairs run in turn.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from api.device import device_pb2
from api.settings import read_settings
from api.wiring import open_wavegate
from evidence.ids import new_id
from tests.perf.load import a_home, open_rollout, put_devices
from tests.perf.measure import Result, cpu_of_session, paired
from tests.simulators.devices import new_key, private_pem, request_for, stub

DEVICES: Final = 8  # with a channel each
CALLS: Final = 1_600  # in one measurement
PAIRS: Final = 5
DEADLINE: Final = 60  # seconds

CHECK_IN_GOAL: Final = 2.0

SAID: Final = device_pb2.CheckInRequest(agent_version="0.1.0", hostname="gw", os_family="linux", state="idle")


def measure(folder: Path) -> list[Result]:
    with ExitStack() as stack:
        home = stack.enter_context(a_home(folder))
        server = home.serve(WAVEGATE_SCHEDULER_SECONDS="1")  # as it is without a setting
        wiring = open_wavegate(read_settings(home.environ))
        stack.callback(wiring.close)
        key, trusted = new_key(), wiring.device_ca.certificate_pem.encode()
        chains = put_devices(wiring, DEVICES, request_for(key))
        rollout = open_rollout(home)
        port = int(server.device_endpoint.rpartition(":")[2])
        shown = wiring.device_ca.server_certificate(("localhost",), now=datetime.now(UTC))
        for name, pem in (("key", shown.private_key_pem), ("chain", shown.chain_pem), ("ca", trusted)):
            (folder / f"{name}.pem").write_bytes(pem)
        echo, echo_port = stack.enter_context(_echo(folder))

        def channels(to: int) -> list[Any]:
            return [stack.enter_context(stub(to, trusted, private_pem(key), chain)) for chain in chains]

        ours, theirs = channels(port), channels(echo_port)

        def report(device: Any, turn: int) -> None:
            # Each one is new, so each is written: the attempt begins, then it is over.
            progress = device_pb2.PROGRESS_INSTALLING if turn % 2 == 0 else device_pb2.PROGRESS_SUCCEEDED
            device.Report(_report(rollout, progress), timeout=DEADLINE)

        def cpu(leader: int, devices: Sequence[Any], call: Callable[[Any, int], object]) -> float:
            before = cpu_of_session(leader)
            _all(devices, call)
            return (cpu_of_session(leader) - before) / CALLS

        for devices in (ours, theirs):
            _all(devices, _check_in)
        check_in, checked, echoed = paired(
            lambda: cpu(server.process.pid, ours, _check_in), lambda: cpu(echo, theirs, _check_in), PAIRS
        )
        reported = [cpu(server.process.pid, ours, report) for _ in range(PAIRS)]
    return [
        Result(
            "check-in over gRPC mTLS, open channel / gRPC echo server of the same messages",
            check_in,
            CHECK_IN_GOAL,
            "x",
            f"{median(checked) * 1e6:.0f} us CPU against {median(echoed) * 1e6:.0f} us; "
            f"a report {median(reported) * 1e6:.0f} us",
        )
    ]


def _check_in(device: Any, _turn: int) -> None:
    device.CheckIn(SAID, timeout=DEADLINE)


def _report(rollout: str, progress: Any) -> device_pb2.ReportRequest:
    return device_pb2.ReportRequest(report_id=new_id("rep"), rollout_id=rollout, attempt=1, progress=progress)


def _all(devices: Sequence[Any], call: Callable[[Any, int], object]) -> None:
    def one(device: Any) -> None:
        for turn in range(CALLS // len(devices)):
            call(device, turn)

    with ThreadPoolExecutor(len(devices)) as threads:
        list(threads.map(one, devices))


@contextmanager
def _echo(folder: Path) -> Iterator[tuple[int, int]]:
    """Process id and port of the yardstick."""
    command = [sys.executable, "-m", "tests.perf.echo", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()
