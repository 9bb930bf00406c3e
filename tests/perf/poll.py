"""A device's poll when nothing is new, two requests: nginx as ``publish repo nginx`` says, and ``publish serve`` alone.

The yardstick is nginx over a plain folder with the same files. Seconds of CPU of the process that answers HTTP alone
(what runs beside it has rows of its own), with connections kept open. nginx comes as tests.simulators.nginx says, or is
named in ``BENCH_NGINX``; without it there is no yardstick and no row.
"""

from __future__ import annotations

import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from api.nginx import nginx_locations
from api.settings import read_settings
from tests.acceptance.conftest import Home
from tests.perf.load import a_home
from tests.perf.measure import Result, cpu_of, exact_cpu_of_session, paired, session_members
from tests.simulators.debian import NotToBeHad
from tests.simulators.nginx import running_nginx

CONNECTIONS: Final = 4
POLLS: Final = 2_000  # in one measurement of the server
NGINX_POLLS: Final = 10_000  # of nginx, which takes a tenth of the time
PAIRS: Final = 5
NGINX_PAIRS: Final = 9
GOAL: Final = 1.1
QUIET: Final = "log_not_found off;"  # a line of the log for each 404 would be its largest cost


def measure(folder: Path) -> list[Result]:
    with ExitStack() as stack:
        home = stack.enter_context(a_home(folder))
        server = home.serve(WAVEGATE_SCHEDULER_SECONDS="1")  # as it is without a setting
        org = _push(home)
        metadata = home.folder / "orgs" / org / "repository" / "metadata"
        plain = shutil.copytree(metadata, folder / "plain")
        try:
            made = nginx_locations(read_settings(home.environ), [org])
            ours = stack.enter_context(running_nginx(folder / "ours", made))
            theirs = stack.enter_context(
                running_nginx(folder / "theirs", f"location / {{ root {plain}; }}", more=QUIET)
            )
        except NotToBeHad as why:
            sys.stderr.write(f"bench: poll has no row: {why}\n")
            return []
        worker = next(
            pid
            for pid in session_members(server.process.pid)
            if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        prefix, port = f"/tuf/{org}/metadata", int(server.url.rpartition(":")[2])

        def configured() -> float:
            before = exact_cpu_of_session(ours.pid)
            _polls(ours.port, prefix, NGINX_POLLS)
            return (exact_cpu_of_session(ours.pid) - before) / NGINX_POLLS

        def yardstick(polls: int = NGINX_POLLS) -> float:
            before = exact_cpu_of_session(theirs.pid)
            _polls(theirs.port, "", polls)
            return (exact_cpu_of_session(theirs.pid) - before) / polls

        def embedded() -> float:
            before = cpu_of(worker)
            _polls(port, prefix, POLLS)
            return (cpu_of(worker) - before) / POLLS

        configured(), yardstick(), embedded()
        behind, static, whole = paired(configured, yardstick, NGINX_PAIRS)
        alone, served, beside = paired(embedded, lambda: yardstick(POLLS), PAIRS)
    return [
        Result(
            "a poll with nothing new by `publish repo nginx` / nginx, plain folder",
            behind,
            GOAL,
            "x",
            _told(static, whole),
        ),
        Result(
            "the same by `publish serve` alone (embedded) / nginx, plain folder",
            alone,
            None,
            "x",
            _told(served, beside),
        ),
    ]


def _told(ours: list[float], theirs: list[float]) -> str:
    return f"{median(ours) * 1e6:.1f} us CPU against {median(theirs) * 1e6:.1f} us, for two requests"


def _push(home: Home) -> str:
    artifact = home.folder.parent / "app.bin"
    artifact.write_bytes(b"app")
    home.publish("push", artifact, "--product", "app", "--version", "1.0.0", "--platform", "any")
    return str(home.made["org"])


def _polls(port: int, prefix: str, polls: int) -> None:
    requests = [
        (f"GET {prefix}/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(), b"HTTP/1.1 %d " % status)
        for name, status in (("2.root.json", 404), ("timestamp.json", 200))
    ]

    def some(_: int) -> None:
        # Bytes alone: a client library would use the cores more than what is measured.
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _turn in range(polls // CONNECTIONS):
                for request, start in requests:
                    line.sendall(request)
                    _take_answer(line, start)

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(some, range(CONNECTIONS)))


def _take_answer(line: socket.socket, start: bytes) -> None:
    got = line.recv(65_536)
    while b"\r\n\r\n" not in got:
        got += line.recv(65_536)
    assert got.startswith(start), got
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += line.recv(65_536)
