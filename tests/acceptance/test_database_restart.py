"""PostgreSQL is stopped and started while people, devices and jobs work over it: nothing that was answered is lost."""

from __future__ import annotations

import itertools
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.state import Progress
from store.audit import AuditLog, EventFilter
from store.database import Database
from tests.acceptance.conftest import Home, Server
from tests.acceptance.test_many_at_once import Device
from tests.databases import Databases, PrivatePostgresql, private_postgresql
from tests.simulators.webhook_receiver import WebhookReceiver, webhook_receiver

Wait = Callable[[Callable[[], Any]], Any]
WRITERS = 4


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PrivatePostgresql]:
    """A server of these tests' own, for no other test would like what is done to it."""
    with private_postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def home(postgresql: PrivatePostgresql, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(Databases(postgresql.url), tmp_path_factory.mktemp("restart") / "home" / "wavegate")
    yield made
    made.end()


@dataclass
class Writers:
    """Make groups, one after the other, each asked for again until it is there; what was answered is kept."""

    home: Home
    made: list[str] = field(default_factory=list)
    refused: list[tuple[int, str | None, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def write(self, writer: int) -> None:
        for number in itertools.count():
            name, again = f"group-{writer}-{number}", False
            while not self.make(name, again=again):
                again = True
                if self.over.wait(0.1):
                    return
            self.made.append(name)
            if self.over.wait(0.02):
                return

    def make(self, name: str, *, again: bool) -> bool:
        headers = {"Authorization": f"Bearer {self.home.made['api_key']}", "Content-Type": "application/json"}
        body = json.dumps({"name": name}).encode()
        request = urllib.request.Request(f"{self.home.url}/api/v1/groups", body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bool(answer.status == 201)
        except urllib.error.HTTPError as error:
            with error:
                code = json.loads(error.read())["error"]["code"]
            if again and code == "group_exists":
                return True  # it was stored, and only the answer could not be given
            self.refused.append((error.code, error.headers["Retry-After"], code))
            return False


def ready(home: Home) -> bool:
    try:
        with urllib.request.urlopen(f"{home.url}/readyz", timeout=60) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


@dataclass
class Site:
    """A server that people write to, a device that reports, and a receiver that is told of rollouts."""

    home: Home
    server: Server
    postgresql: PrivatePostgresql
    writers: Writers
    device: Device
    receiver: WebhookReceiver
    wait_until: Wait

    def lose_the_database(self, mode: str) -> None:
        self.keep_writing()
        told = len(self.writers.refused)
        self.postgresql.stop(mode)
        self.wait_until(lambda: len(self.writers.refused) >= told + WRITERS)
        assert not ready(self.home)
        assert self.server.answers(), "it lives, and is not to be restarted"
        assert fetched(f"{self.home.url}/tuf/acme/metadata/timestamp.json"), "what is signed needs no database"
        self.postgresql.start()

    def keep_writing(self) -> None:
        made = len(self.writers.made)
        self.wait_until(lambda: len(self.writers.made) > made + 2 * WRITERS)

    def roll_out(self, version: str) -> None:
        """The scheduler opens the wave, the device port takes the report, the scheduler completes the rollout, and
        that is told to the receiver."""
        asked = ("--product", "fw", "--version", version, "--wave", "everyone")
        rollout = self.home.publish("rollout", "create", *asked)["id"]
        self.wait_until(lambda: self.state(rollout) == "running")
        endpoint = self.server.device_endpoint
        self.wait_until(lambda: self.device.report(endpoint, rollout, 1, Progress.SUCCEEDED, times=1))
        self.wait_until(lambda: self.state(rollout) == "completed")
        self.wait_until(lambda: any(completed(one.body, rollout) for one in self.receiver.got))

    def state(self, rollout: str) -> str:
        return str(self.home.publish("rollout", "show", rollout)["state"])


def test_a_restart_of_the_database_loses_nothing_that_was_answered_and_all_goes_on_by_itself(
    home: Home, postgresql: PrivatePostgresql, tmp_path: Path, wait_until: Wait
) -> None:
    server = home.serve(WAVEGATE_LEASE_SECONDS="2", WAVEGATE_WEBHOOK_ALLOW="127.0.0.1")
    home.log_in()
    home.publish("group", "create", "everyone")
    (tmp_path / "fw.bin").write_bytes(b"firmware")
    for version in ("1.0", "2.0"):
        home.publish("push", tmp_path / "fw.bin", "--product", "fw", "--version", version, "--platform", "linux-amd64")
    token = home.publish("enroll-token", "create", "lab", "--group", "everyone", "--max-uses", "1")["token"]
    device, writers = Device(tmp_path, "box", token, home.url), Writers(home)
    with webhook_receiver() as receiver, ThreadPoolExecutor(WRITERS) as pool:
        home.publish("webhook", "create", receiver.url, "--event", "rollout")
        site = Site(home, server, postgresql, writers, device, receiver, wait_until)
        writing = [pool.submit(writers.write, number) for number in range(WRITERS)]
        try:
            for version, mode in (("1.0", "fast"), ("2.0", "immediate")):
                site.lose_the_database(mode)
                site.keep_writing()
                wait_until(lambda: ready(home))
                site.roll_out(version)
        finally:
            writers.over.set()
        for one in writing:
            one.result()
    assert {(status, wait) for status, wait, _ in writers.refused} == {(503, "5")}, writers.refused
    assert {code for _, _, code in writers.refused} <= {"database_unreachable", "database_busy"}
    database = Database(home.database_url)
    made = AuditLog(database).events("acme", EventFilter(tag="group.created"), limit=100_000)
    told = [one.event.data["name"] for one in made]
    database.close()
    assert len(told) == len(set(told)), "nothing is done twice"
    assert set(writers.made) <= set(told), "nothing is lost"
    assert server.process.poll() is None, "the server was not restarted for it"


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def completed(body: bytes, rollout: str) -> bool:
    return b"rollout.completed" in body and rollout.encode() in body


def test_a_server_that_starts_before_its_database_says_so_and_ends(home: Home, postgresql: PrivatePostgresql) -> None:
    home.end()
    postgresql.stop("fast")
    try:
        done = home.publish("serve", key=False, check=False)
    finally:
        postgresql.start()
    assert done.returncode != 0
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
