"""The product as its users meet it: the installed commands, run as processes against a home of their own."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Final

from cli.client import Client
from cli.config import Credential

READY_WITHIN_SECONDS: Final = 60.0  # a busy machine with two cores needs about three
STOP_WITHIN_SECONDS: Final = 15.0
COMMAND_WITHIN_SECONDS: Final = 300.0
ADMIN: Final = "admin"
_LAST_LINES: Final = 15


class DemoFailed(Exception):
    """Something was not as it must be; the message says what, and what the process in question printed last."""


class Product:
    """A Wavegate of its own: a home made by ``publish init``, a server on free loopback ports, a person's login.

    Everything is below ``folder``. The caller's ``WAVEGATE_*`` variables play no part. Use as a context manager: at the
    end the server is asked to stop, and killed when it does not.
    """

    def __init__(
        self, folder: Path, *, told: Callable[[str], None] = lambda _: None, layout: str = "bins", **settings: str
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        listen, device_listen = free_addresses(2)
        self.url = f"http://{listen}"
        self.org = ""
        self.root = Path()
        self.api_key = ""
        self.admin_email = ""
        self.server: subprocess.Popen[bytes] | None = None
        self._told = told
        self._layout = layout
        self._variables = {
            "WAVEGATE_HOME": str(self.home),
            "WAVEGATE_LISTEN": listen,
            "WAVEGATE_DEVICE_LISTEN": device_listen,
            "WAVEGATE_URL": self.url,
        } | settings

    def __enter__(self) -> Product:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def metadata_url(self) -> str:
        return f"{self.url}/tuf/{self.org}/metadata/"

    @property
    def targets_url(self) -> str:
        return f"{self.url}/tuf/{self.org}/targets/"

    def start(self) -> None:
        """Make the home, start the server and wait until it is ready, log in as the admin."""
        made = self.publish("init", "--admin", "admin@demo.example", "--layout", self._layout)
        self.org, self.root, self.api_key = made["org"], Path(made["root"]), made["api_key"]
        self.admin_email = made["admin"]["email"]
        self.serve()
        self.login(made["admin"]["email"], made["admin"]["password"])

    def serve(self) -> None:
        """Start ``publish serve`` and wait until ``/readyz`` says so; its words go to ``server.log``."""
        self._told("publish serve")
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                [installed("publish"), "serve"],
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that a Ctrl-C ends us first, and we end it in order
            )
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self._is_ready():
            if self.server.poll() is not None:
                raise self._no_server(f"ended with {self.server.returncode}")
            if time.monotonic() > deadline:
                raise self._no_server(f"is not ready after {READY_WITHIN_SECONDS:g} s")
            time.sleep(0.1)

    def stop(self) -> int | None:
        """End the server as an operator would, by SIGTERM; returns its exit code (None when none ran)."""
        server, self.server = self.server, None
        if server is None:
            return None
        end([server])
        return server.returncode

    def login(self, email: str, password: str, *, person: str = ADMIN) -> None:
        """Log ``person`` in with a one-time password and exchange it, as its first use demands."""
        once, own = self.folder / f"{person}-one-time-password", self.folder / f"{person}-password"
        for path, text in ((once, password), (own, f"{password}-and-mine")):
            path.touch(mode=0o600)
            path.write_text(text)
        arguments = ("--email", email, "--password-file", str(once), "--new-password-file", str(own))
        self.publish("login", *arguments, person=person)
        once.unlink()

    def publish(self, *arguments: str, person: str | None = ADMIN) -> Any:
        """Run ``publish`` with JSON output and return what it printed, parsed (None for nothing).

        Args:
            person: Whose login to use; None uses the operator's API key, as a CI job does.

        Raises:
            DemoFailed: It ended with another exit code than 0.
        """
        shown = shlex.join(argument.replace(f"{self.folder}{os.sep}", "") for argument in arguments)
        self._told(f"publish {shown}")
        ran = subprocess.run(
            [installed("publish"), *arguments, "-o", "json"],
            env=self.environment(person=person),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_WITHIN_SECONDS,
        )
        if ran.returncode != 0:
            raise DemoFailed(f"publish {shown} ended with {ran.returncode}\n{ran.stderr.strip()}")
        return json.loads(ran.stdout) if ran.stdout.strip() else None

    def client(self) -> Client:
        """The API as the operator's key sees it, for looking often without starting a command each time."""
        return Client(self.url, Credential(self.api_key, "the key of publish init"))

    def environment(self, *, person: str | None = ADMIN) -> dict[str, str]:
        """The variables for a process of this product, without any other ``WAVEGATE_*``."""
        logins = {
            "WAVEGATE_CONFIG_DIR": str(self.folder / "logins" / (person or "nobody")),
            "WAVEGATE_KEYRING": "off",  # the one of whoever runs this is not for made-up people
        }
        key = {"WAVEGATE_API_KEY": self.api_key} if person is None else {}
        return foreign_variables() | self._variables | logins | key

    def _no_server(self, what: str) -> DemoFailed:
        return DemoFailed(f"the server {what}\n{last_lines(self.folder / 'server.log')}")

    def _is_ready(self) -> bool:
        # Not urllib: it would ask the proxy of the environment for our loopback address.
        asking = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=5)
        with closing(asking), suppress(OSError, http.client.HTTPException):
            asking.request("GET", "/readyz")
            return asking.getresponse().status == 200
        return False


def foreign_variables() -> dict[str, str]:
    """The environment without what would steer Wavegate or a CI job's own files."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("WAVEGATE_", "GITHUB_"))}


def installed(command: str) -> str:
    """Path of one of our commands, as installed beside the Python that runs us."""
    beside = Path(sys.executable).parent / command
    found = str(beside) if beside.exists() else shutil.which(command)
    if found is None:
        raise DemoFailed(f"the command {command} is not installed beside {sys.executable}; run: make setup")
    return found


def free_addresses(count: int) -> list[str]:
    """Addresses ``127.0.0.1:port`` with as many different ports that nobody uses at this moment."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask processes to stop; what still runs after 15 seconds is killed. Returns when all are gone."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN_SECONDS
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def last_lines(log: Path) -> str:
    """The end of a log for an error message."""
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
    return f"(there is no {log.name})"
