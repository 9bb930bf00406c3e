"""A process of `publish serve` that dies at once: nothing is left behind, and what can go on goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import BIN, Home, Server
from tests.perf.measure import session_members

Wait = Callable[[Callable[[], Any]], Any]


def worker_of(server: Server) -> int:
    """The process that answers HTTP."""
    (worker,) = [
        pid
        for pid in session_members(server.process.pid)
        if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return worker


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("died_of", [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.nightly)])
def test_when_the_first_process_dies_the_others_end_and_both_ports_are_free(
    make_home: Callable[..., Home], wait_until: Wait, died_of: signal.Signals
) -> None:
    home = make_home()
    server = home.serve()
    before = session_members(server.process.pid)
    assert len(before) >= 2, before

    server.process.send_signal(died_of)

    assert server.process.wait(30) == -died_of
    assert wait_until(lambda: not session_members(server.process.pid))
    assert not listens(server.url.removeprefix("http://"))
    assert not listens(server.device_endpoint)
    again = subprocess.Popen(
        [BIN / "publish", "serve"],
        env={
            **home.environ,
            "WAVEGATE_LISTEN": server.url.removeprefix("http://"),
            "WAVEGATE_DEVICE_LISTEN": server.device_endpoint,
        },
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert wait_until(server.answers)
        again.terminate()
        assert again.wait(30) == 0
    finally:
        again.kill()


def test_when_the_process_that_answers_http_dies_another_takes_its_place(
    make_home: Callable[..., Home], wait_until: Wait
) -> None:
    server = make_home().serve()
    worker = worker_of(server)

    os.kill(worker, signal.SIGKILL)

    assert wait_until(lambda: server.answers() and worker_of(server) != worker)
    assert listens(server.device_endpoint)
    assert server.terminate() == 0
    assert wait_until(lambda: not session_members(server.process.pid))


def test_an_ordinary_end_leaves_no_process(home: Home, wait_until: Wait) -> None:
    (process,) = home.running()

    process.terminate()

    assert process.wait(30) == 0
    assert wait_until(lambda: not session_members(process.pid))
