"""One row by key, permission and database over HTTP, against a Flask hello on the same server with the same settings.

Seconds of CPU of the process that answers, with connections kept open; what PostgreSQL itself uses is not counted. Then
eight uploaders that send slowly, and how long ``/healthz`` takes beside them: of that no CPU tells, so it is the
clock's, and another load on the machine shows.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from tests.acceptance.conftest import Home
from tests.databases import POSTGRESQL, SQLITE, Databases, private_postgresql
from tests.perf.load import a_home
from tests.perf.measure import Result, cpu_of, paired, session_members
from tests.simulators.listening import free_port

THREADS: Final = 16  # as ``http_threads`` is without a setting
CONNECTIONS: Final = 4
READS: Final = 2_000
PAIRS: Final = 5
GOAL: Final = 3.0
POSTGRESQL_GOAL: Final = 6.0
UPLOADERS: Final = 8
PIECE_SECONDS: Final = 0.25
PROBES: Final = 400
SLOW_GOAL: Final = 3.0
FREE: Final = "1000000000"  # requests are counted, and none is too many


def measure(folder: Path) -> list[Result]:
    with ExitStack() as stack:
        hello_port = free_port()
        hello = (hello_port, _worker(stack.enter_context(_hello(hello_port))))
        home = stack.enter_context(a_home(folder / SQLITE))
        sqlite, port = _one_row(home, hello, "SQLite", GOAL)
        quiet = _p99(port)
        with _slow_uploads(home, port):
            beside = _p99(port)
        home.end()
        server = stack.enter_context(private_postgresql())
        home = stack.enter_context(a_home(folder / POSTGRESQL, Databases(server.url)))
        postgresql, _ = _one_row(home, hello, "PostgreSQL", POSTGRESQL_GOAL)
    slow = f"{beside * 1000:.2f} ms against {quiet * 1000:.2f} ms quiet, p99 of {PROBES}"
    return [
        sqlite,
        postgresql,
        Result(f"/healthz beside {UPLOADERS} slow uploads / quiet", beside / quiet, SLOW_GOAL, "x", slow),
    ]


def _one_row(home: Home, hello: tuple[int, int], database: str, goal: float) -> tuple[Result, int]:
    """What a row costs against ``hello``, a port and the process that answers there; and the port of the home."""
    server = home.serve(WAVEGATE_RATE_LIMIT_READS=FREE, WAVEGATE_RATE_LIMIT_UPLOADS=FREE)
    made = home.publish("group", "create", "bench")
    ours, port = _worker(server.process.pid), int(server.url.rpartition(":")[2])
    request = _get(f"/api/v1/groups/{made['id']}", f"Authorization: Bearer {home.made['api_key']}\r\n")

    def one_row() -> float:
        before = cpu_of(ours)
        _reads(port, request)
        return (cpu_of(ours) - before) / READS

    def said_hello() -> float:
        before = cpu_of(hello[1])
        _reads(hello[0], _get("/hello"))
        return (cpu_of(hello[1]) - before) / READS

    one_row(), said_hello()
    ratio, read, said = paired(one_row, said_hello, PAIRS)
    told = f"{median(read) * 1e6:.0f} us CPU against {median(said) * 1e6:.0f} us, {PAIRS} pairs"
    return Result(f"GET of one row with key, permission, {database} / Flask hello", ratio, goal, "x", told), port


@contextmanager
def _hello(port: int) -> Iterator[int]:
    """Process id of the server that says hello."""
    command = [sys.executable, "-m", "tests.perf.hello", str(port), str(THREADS)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        _wait_for(port)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _worker(leader: int) -> int:
    """The process of a session that answers HTTP."""
    return next(
        pid for pid in session_members(leader) if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )


def _get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n".encode()


def _reads(port: int, request: bytes) -> None:
    def some(_: int) -> None:
        # Bytes alone: a client library would use the cores more than what is measured.
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _turn in range(READS // CONNECTIONS):
                line.sendall(request)
                _take_answer(line)

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(some, range(CONNECTIONS)))


def _take_answer(line: socket.socket) -> None:
    got = line.recv(65_536)
    while b"\r\n\r\n" not in got:
        got += line.recv(65_536)
    assert got.startswith(b"HTTP/1.1 200 "), got
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += line.recv(65_536)


def _p99(port: int) -> float:
    """Seconds that the slowest but one in a hundred took, one after the other."""
    took = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(PROBES):
            began = time.perf_counter()
            line.sendall(_get("/healthz"))
            _take_answer(line)
            took.append(time.perf_counter() - began)
    return sorted(took)[PROBES * 99 // 100]


@contextmanager
def _slow_uploads(home: Home, port: int) -> Iterator[None]:
    stop = threading.Event()
    head = (
        f"PUT /api/v1/artifacts/content HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {home.made['api_key']}\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 1000000000\r\n\r\n"
    ).encode()

    def upload() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.sendall(head)
            while not stop.wait(PIECE_SECONDS):
                line.sendall(b"x" * 1024)

    threads = [threading.Thread(target=upload) for _ in range(UPLOADERS)]
    for thread in threads:
        thread.start()
    time.sleep(4 * PIECE_SECONDS)  # all are at it
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
