"""Agents by the thousand against a real server: ``python -m tests.perf.load``.

A home made by ``publish init``, a server made by ``publish serve``, one rollout open for all; each agent has its own
certificate and connects once in the time given: it checks in and reports that it succeeded, over gRPC with mutual TLS.
Prints how many calls there were, p50 and p99, and every error. Ends with exit code 1 unless there was no error and
every device is counted. Devices are put into the database as enrolment would leave them; enrolling is not measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
from sqlalchemy import insert

from api.device import device_pb2
from api.settings import read_settings
from api.wiring import Wavegate, open_wavegate
from evidence.ids import new_id
from store.membership import recount
from store.models import device_certificates, devices, group_devices, group_sizes, groups
from tests.acceptance.conftest import Home
from tests.databases import Databases
from tests.perf.measure import cpu_of_session
from tests.simulators.devices import new_key, private_pem, request_for, stub

THREADS: Final = 32  # of each process that plays agents
DEADLINE: Final = 60  # seconds of one call, connecting included
PRODUCT: Final = "app"


@dataclass(frozen=True)
class Playing:
    """What a process needs to play its agents."""

    port: int
    trusted: bytes
    key: bytes
    agents: Sequence[tuple[float, bytes]]  # seconds after the start, and the certificate
    rollout: str
    start: float  # time.time() at which the first agent calls


@dataclass
class Heard:
    """Seconds that calls took, by kind, and what went wrong."""

    took: dict[str, list[float]] = field(default_factory=lambda: {"connect and check in": [], "report": []})
    errors: Counter[str] = field(default_factory=Counter)
    late: float = 0.0  # seconds that the last agent was behind its time

    def add(self, other: Heard) -> None:
        for kind, seconds in other.took.items():
            self.took[kind] += seconds
        self.errors += other.errors
        self.late = max(self.late, other.late)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.perf.load", description=__doc__)
    arguments.add_argument("--agents", type=int, default=10_000)
    arguments.add_argument("--seconds", type=int, default=60, help="the agents' calls are spread over so many")
    arguments.add_argument("--processes", type=int, default=2, help="that play agents")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="wavegate-load-") as folder, a_home(Path(folder)) as home:
        return _run(home, chosen.agents, chosen.seconds, chosen.processes)


def _run(home: Home, agents: int, seconds: int, processes: int) -> int:
    server = home.serve(WAVEGATE_SCHEDULER_SECONDS="1")  # as it is without a setting
    wiring = open_wavegate(read_settings(home.environ))
    key = new_key()
    chains = put_devices(wiring, agents, request_for(key))
    rollout = open_rollout(home)
    told = f"{agents:,} agents over {seconds} s"
    sys.stderr.write(f"load: {told}, {processes} processes of {THREADS} threads\n")
    start = time.time() + 3
    schedule = [(number * seconds / agents, chain) for number, chain in enumerate(chains)]
    parts = [
        Playing(
            port=int(server.device_endpoint.rpartition(":")[2]),
            trusted=wiring.device_ca.certificate_pem.encode(),
            key=private_pem(key),
            agents=schedule[part::processes],
            rollout=rollout,
            start=start,
        )
        for part in range(processes)
    ]
    before, heard = cpu_of_session(server.process.pid), Heard()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for one in pool.imap_unordered(play, parts):
            heard.add(one)
    took = time.time() - start
    cpu = cpu_of_session(server.process.pid) - before
    time.sleep(2)  # what was answered and not yet written
    shown = home.publish("rollout", "show", rollout)
    counted = sum(wave["counters"]["succeeded"] for wave in shown["waves"])
    silent = sum(device.last_seen_at is None for device in _all_devices(wiring))
    wiring.close()
    for kind, calls in heard.took.items():
        _tell(f"{kind}: {len(calls):,} calls, p50 {_at(calls, 50):.1f} ms, p99 {_at(calls, 99):.1f} ms")
    _tell(f"{told}: took {took:.1f} s, last agent {heard.late:.1f} s behind; server {cpu:.1f} s of CPU")
    _tell(f"errors: {dict(heard.errors) or 'none'}; devices counted: {counted:,}; never seen: {silent:,}")
    if heard.errors:
        _tell(f"server: exit code {server.process.poll()}; its log ends:\n{server.log.read_text()[-3_000:]}")
    return 0 if not heard.errors and counted == agents and silent == 0 else 1


def play(playing: Playing) -> Heard:
    """Play a process's agents; the answer says how it went."""
    heard = [Heard() for _ in range(THREADS)]

    def some(thread: int) -> None:
        for due, chain in playing.agents[thread::THREADS]:
            wait = playing.start + due - time.time()
            if wait > 0:
                time.sleep(wait)
            heard[thread].late = max(heard[thread].late, -wait)
            try:
                _one_agent(playing, chain, heard[thread].took)
            except grpc.RpcError as error:
                heard[thread].errors[f"{error.code().name}: {error.details()}"] += 1

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(some, range(THREADS)))
    whole = Heard()
    for one in heard:
        whole.add(one)
    return whole


def _one_agent(playing: Playing, chain: bytes, took: dict[str, list[float]]) -> None:
    with stub(playing.port, playing.trusted, playing.key, chain) as device:
        began = time.perf_counter()
        said = device_pb2.CheckInRequest(agent_version="0.1.0", hostname="gw", os_family="linux", state="idle")
        answer = device.CheckIn(said, timeout=DEADLINE)
        took["connect and check in"].append(time.perf_counter() - began)
        assert list(answer.products) == [PRODUCT], answer
        began = time.perf_counter()
        report = device_pb2.ReportRequest(
            report_id=new_id("rep"), rollout_id=playing.rollout, attempt=1, progress=device_pb2.PROGRESS_SUCCEEDED
        )
        assert device.Report(report, timeout=DEADLINE).counted
        took["report"].append(time.perf_counter() - began)


def put_devices(wiring: Wavegate, agents: int, request: bytes) -> list[bytes]:
    """Devices with certificates, all in the group ``field``; the certificates, in order."""
    now = datetime.now(UTC)
    ids = [new_id("dev") for _ in range(agents)]
    issued = [wiring.device_ca.issue(request, one, now=now) for one in ids]
    rows: dict[Any, list[dict[str, Any]]] = {devices: [], device_certificates: [], group_devices: []}
    with wiring.db.write() as connection:
        group = {"id": "grp_load", "org": wiring.org, "name": "field", "description": "", "created_at": now}

        connection.execute(insert(groups), {**group, "selector": None, "revision": 1})
        connection.execute(insert(group_sizes), {"group_id": "grp_load", "org": wiring.org, "devices": 0, "active": 0})
        for number, (one, certificate) in enumerate(zip(ids, issued, strict=True)):
            facts = dict.fromkeys(("hostname", "os_family", "os_name", "agent_version", "state"), "")
            row = {"id": one, "org": wiring.org, "name": f"gw-{number}", "status": "active", "platform": "linux-amd64"}
            rows[devices].append({**row, **facts, "created_at": now, "labels": {}, "last_seen_at": None})
            rows[device_certificates].append(
                {
                    "fingerprint": certificate.fingerprint,
                    "org": wiring.org,
                    "device": one,
                    "serial": certificate.serial,
                    "not_before": certificate.not_before,
                    "not_after": certificate.not_after,
                }
            )
            rows[group_devices].append({"group_id": "grp_load", "device": one, "org": wiring.org, "edited_at": None})
        for table, some in rows.items():
            connection.execute(insert(table), some)
        recount(connection, "grp_load")
    return [one.chain_pem.encode() for one in issued]


def open_rollout(home: Home) -> str:
    """A rollout of one wave that every device is in and that stays open for as long as this runs."""
    artifact = home.folder.parent / "app.bin"
    artifact.write_bytes(b"app")
    home.publish("push", artifact, "--product", PRODUCT, "--version", "1.0.0", "--platform", "any")
    rollout = home.publish(
        "rollout", "create", "--product", PRODUCT, "--version", "1.0.0", "--wave", "field:100,approvals=0,soak=1d"
    )["id"]
    deadline = time.monotonic() + 30
    while home.publish("rollout", "show", rollout)["state"] != "running":
        assert time.monotonic() < deadline, "the wave does not open"
        time.sleep(0.2)
    return str(rollout)


def _all_devices(wiring: Wavegate) -> Iterator[Any]:
    after: str | None = None
    while page := wiring.fleet.devices(wiring.org, after=after, limit=1_000, filters={}):
        yield from page
        after = page[-1].id


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


def _at(seconds: Sequence[float], percent: int) -> float:
    """The value that so many percent stay below, in milliseconds."""
    return sorted(seconds)[min(len(seconds) - 1, len(seconds) * percent // 100)] * 1000 if seconds else float("nan")


@contextmanager
def a_home(folder: Path, databases: Databases | None = None) -> Iterator[Home]:
    """A home below ``folder``, its database a file unless ``databases`` says otherwise; its servers end with it."""
    home = Home(databases or Databases(None), folder / "home" / "wavegate")
    try:
        yield home
    finally:
        home.end()


if __name__ == "__main__":
    sys.exit(main())
