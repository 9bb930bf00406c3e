"""The installed commands against a running server; every process started here is ended here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.databases import SQLITE, Databases
from tests.simulators.listening import free_port
from tests.simulators.plain_install import without_extras

BIN = Path(sys.executable).parent
START_SECONDS = 60


class Home:
    """A home by `publish init`, or copied from one, and the servers over it; without extras, as most are."""

    def __init__(self, databases: Databases, folder: Path, *options: str | Path, like: Home | None = None) -> None:
        self.folder = folder
        self.database_url = databases.url(folder)
        self.config = folder.parent / "cli-config"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WAVEGATE_")},
            "WAVEGATE_HOME": str(folder),
            "WAVEGATE_PASSWORD_MEMORY_KIB": "8192",
            "WAVEGATE_SCHEDULER_SECONDS": "0.2",
            "WAVEGATE_CONFIG_DIR": str(self.config),
            **databases.environ(folder),
            **without_extras(folder.parent / "plain"),
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = ""
        self.made: dict[str, Any]
        if like is not None:
            shutil.copytree(like.folder, folder, symlinks=True)
            self.made = json.loads(json.dumps(like.made).replace(str(like.folder), str(folder)))
            return
        made = subprocess.run(
            [BIN / "publish", "init", "-o", "json", *map(str, options)],
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        self.made = json.loads(made.stdout)

    def serve(self, **settings: str) -> Server:
        """Start one more server process on ports of its own; the first one's URL becomes the home's."""
        server = Server(self, settings)
        self._processes.append(server.process)
        if not self.url:
            self.url = server.url
        return server

    def publish(self, *arguments: str | Path, stdin: str = "", key: bool = True, check: bool = True) -> Any:
        """Run `publish`; the JSON it prints, or the finished process when ``check`` is False."""
        environ = {**self.environ, "WAVEGATE_URL": self.url}
        if key:
            environ["WAVEGATE_API_KEY"] = self.made["api_key"]
        done = subprocess.run(
            [BIN / "publish", *map(str, arguments)], env=environ, input=stdin, capture_output=True, text=True
        )
        if not check:
            return done
        assert done.returncode == 0, f"publish {arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def log_in(self) -> None:
        """Log the admin in; commands that need a person use it from then on."""
        admin = self.made["admin"]
        self.publish("login", "--email", admin["email"], "--password-stdin", stdin=admin["password"], key=False)

    def running(self) -> list[subprocess.Popen[bytes]]:
        """The servers that have not ended."""
        return [process for process in self._processes if process.poll() is None]

    def end(self) -> None:
        """End what still runs."""
        for process in self.running():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Server:
    """One `publish serve`, answering when the constructor returns."""

    def __init__(self, home: Home, settings: dict[str, str]) -> None:
        port, device_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.device_endpoint = f"127.0.0.1:{device_port}"
        environ = {
            **home.environ,
            "WAVEGATE_LISTEN": f"127.0.0.1:{port}",
            "WAVEGATE_DEVICE_LISTEN": self.device_endpoint,
            **settings,
        }
        self.log = home.folder.parent / f"serve-{port}.log"
        with self.log.open("wb") as log:
            # A session of its own, so that a test can kill the server with all its processes at once.
            self.process = subprocess.Popen(
                [BIN / "publish", "serve"], env=environ, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether the API answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """Kill all of it at once, as a power cut does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        """Ask it to end and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Home]:
    """A home on SQLite to copy: making it takes longer than most of what is done with it."""

    @cache
    def make() -> Home:
        return Home(Databases(None), tmp_path_factory.mktemp("first") / "wavegate")

    return make


@pytest.fixture
def make_home(databases: Databases, first_home: Callable[[], Home], tmp_path: Path) -> Iterator[Callable[..., Home]]:
    """Makes homes, by `publish init` where that is what matters; their servers end with the test."""
    with ExitStack() as stack:

        def make(*options: str | Path, fresh: bool = False) -> Home:
            folder = tmp_path / f"home-{time.monotonic_ns()}" / "wavegate"
            copied = databases.kind == SQLITE and not options and not fresh
            home = Home(databases, folder, *options, like=first_home() if copied else None)
            stack.callback(home.end)
            return home

        yield make


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    """A home with one server running."""
    made = make_home()
    made.serve()
    return made


@pytest.fixture
def wait_until() -> Callable[[Callable[[], Any]], Any]:
    """Asks again and again until the answer is true, for at most two minutes."""

    def wait(ask: Callable[[], Any], seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            answer = ask()
            if answer:
                return answer
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)

    return wait
