"""A device's poll when nothing is new: two requests to ``publish serve``, beside nginx that serves the same folder.

nginx is looked for on the path, or named in ``BENCH_NGINX``; without it there is no yardstick and no row. Seconds of
CPU of the process that answers HTTP alone (what runs beside it has rows of its own), with connections kept open.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from tests.acceptance.conftest import Home, free_port
from tests.perf.load import a_home
from tests.perf.measure import Result, cpu_of, cpu_of_session, paired, session_members

CONNECTIONS: Final = 4
POLLS: Final = 2_000  # in one measurement
PAIRS: Final = 5
GOAL: Final = 1.1

CONFIG: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; keepalive_requests 1000000; default_type application/octet-stream; log_not_found off;
  types {{ application/json json; }} sendfile on; etag on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ root {root}; }} }}
}}
"""


def measure(folder: Path) -> list[Result]:
    binary = os.environ.get("BENCH_NGINX") or shutil.which("nginx")
    if binary is None:
        sys.stderr.write("bench: poll has no row: no nginx on the path, and BENCH_NGINX names none\n")
        return []
    with ExitStack() as stack:
        home = stack.enter_context(a_home(folder))
        server = home.serve(WAVEGATE_SCHEDULER_SECONDS="1")  # as it is without a setting
        org = _push(home)
        root = home.folder / "orgs" / org / "repository" / "metadata"
        nginx, port = stack.enter_context(_nginx(binary, folder, root))
        worker = next(
            pid
            for pid in session_members(server.process.pid)
            if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        own = int(server.url.rpartition(":")[2])

        def ours() -> float:
            before = cpu_of(worker)
            _polls(own, f"/tuf/{org}/metadata")
            return (cpu_of(worker) - before) / POLLS

        def theirs() -> float:
            before = cpu_of_session(nginx)
            _polls(port, "")
            return (cpu_of_session(nginx) - before) / POLLS

        ours(), theirs()
        ratio, served, static = paired(ours, theirs, PAIRS)
    detail = f"{median(served) * 1e6:.0f} us CPU against {median(static) * 1e6:.0f} us, for two requests"
    return [Result("a poll with nothing new / nginx serving the same files", ratio, GOAL, "x", detail)]


def _push(home: Home) -> str:
    artifact = home.folder.parent / "app.bin"
    artifact.write_bytes(b"app")
    home.publish("push", artifact, "--product", "app", "--version", "1.0.0", "--platform", "any")
    return str(home.made["org"])


def _polls(port: int, prefix: str) -> None:
    def some(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _turn in range(POLLS // CONNECTIONS):
            for name, expected in (("2.root.json", 404), ("timestamp.json", 200)):
                connection.request("GET", f"{prefix}/{name}")
                answer = connection.getresponse()
                answer.read()
                assert answer.status == expected, (name, answer.status)
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(some, range(CONNECTIONS)))


@contextmanager
def _nginx(binary: str, folder: Path, root: Path) -> Iterator[tuple[int, int]]:
    """Process id and port."""
    port, config = free_port(), folder / "nginx.conf"
    # Its worker gives up root, and the bench's folders are their owner's alone.
    user = "user root; " if os.geteuid() == 0 else ""
    config.write_text(user + CONFIG.format(folder=folder, port=port, root=root))
    command = [binary, "-p", str(folder), "-c", str(config)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield process.pid, port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=1).connect()
            return
        except OSError:
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.05)
