"""`publish simulate` at its largest: ten thousand agents a minute on two cores, and others who do not behave."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from api.device import device_pb2
from tests.acceptance.conftest import BIN, Home, Server
from tests.simulators.devices import new_key, private_pem, request_for, stub

DEVICES = 10_000
SILENT = 1_000
NO_LIMIT = "1000000000"
PAUSE_SECONDS = 0.1
CALL_SECONDS = 20


@pytest.mark.sqlite
@pytest.mark.nightly
@pytest.mark.timeout(3_600)  # enrolling ten thousand waits for disks, and so does removing their homes
def test_ten_thousand_agents_check_in_for_a_minute_and_silent_and_shouting_callers_do_not_disturb_them(
    make_home: Callable[..., Home], tmp_path: Path
) -> None:
    home = make_home()
    server = home.serve(
        WAVEGATE_RATE_LIMIT_ENROLMENTS=NO_LIMIT,
        WAVEGATE_RATE_LIMIT_ANONYMOUS=NO_LIMIT,
        WAVEGATE_CHECK_IN_SECONDS="45",  # spread by a fifth: due at each poll once a minute
        WAVEGATE_LOG_LEVEL="warning",
    )
    home.log_in()
    fleet = subprocess.Popen(
        [
            *(BIN / "publish", "simulate", "--devices", str(DEVICES), "--interval", "1m", "--duration", "1m"),
            *("--seed", "7", "-o", "json"),
        ],
        env={**home.environ, "WAVEGATE_URL": home.url, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert fleet.stderr is not None
        told = []
        for line in fleet.stderr:
            told.append(line)
            if line == "the time begins\n":
                break
        with silent_connections(server) as hung_up, oversized_messages(home, server) as refused:
            out, rest = fleet.communicate()
    finally:
        fleet.kill()
        fleet.wait()
    summary = json.loads(out)
    shown = json.dumps(summary)
    assert fleet.returncode == 0, [*told[-3:], rest]
    assert (summary["enrolled"], summary["errors"]) == (DEVICES, {}), shown
    assert summary["polls"] >= DEVICES, shown
    assert summary["check_ins"] >= DEVICES, shown
    assert sum(hung_up.values()) >= SILENT, "the port keeps nobody who says nothing"
    assert set(refused) <= {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}, refused
    assert refused[grpc.StatusCode.RESOURCE_EXHAUSTED] > 0


@contextmanager
def silent_connections(server: Server) -> Iterator[Counter[str]]:
    """So many connections that say nothing, whoever of them is hung up on dialling again; counts who was."""
    host, _, port = server.device_endpoint.rpartition(":")
    over, ended = threading.Event(), Counter[str]()
    open_now = {one.fileno(): one for one in (socket.create_connection((host, int(port))) for _ in range(SILENT))}

    def dial_again() -> None:
        look = select.poll()
        for number in open_now:
            look.register(number, select.POLLIN)
        while not over.is_set():
            for number, _ in look.poll(1000 * PAUSE_SECONDS):
                look.unregister(number)
                open_now.pop(number).close()
                ended["hung up"] += 1
                again = socket.create_connection((host, int(port)))
                open_now[again.fileno()] = again
                look.register(again.fileno(), select.POLLIN)

    with _running(dial_again, over):
        yield ended
    for one in open_now.values():
        one.close()


@contextmanager
def oversized_messages(home: Home, server: Server) -> Iterator[Counter[grpc.StatusCode]]:
    """A device that sends a megabyte ten times a second; counts what it is told."""
    over, refused = threading.Event(), Counter[grpc.StatusCode]()
    key = new_key()
    token = home.publish("enroll-token", "create", "shouting", "--max-uses", "1")["token"]
    asked = {
        "token": token,
        "certificate_request": request_for(key).decode(),
        "name": "shouting",
        "platform": "linux-x86_64",
    }
    headers = {"Content-Type": "application/json", "Idempotency-Key": "shouting"}
    request = urllib.request.Request(f"{server.url}/api/v1/enroll", json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        enrolled = json.loads(answer.read())
    port = int(server.device_endpoint.rpartition(":")[2])
    chain, trusted = enrolled["certificate_chain"].encode(), enrolled["device_ca"].encode()
    too_much = device_pb2.CheckInRequest(state="x" * 1_000_000)

    def shout() -> None:
        with stub(port, trusted, private_pem(key), chain) as device:
            while not over.wait(PAUSE_SECONDS):
                refused[device.CheckIn.future(too_much, timeout=CALL_SECONDS).code()] += 1

    with _running(shout, over):
        yield refused


@contextmanager
def _running(work: Callable[[], None], over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
