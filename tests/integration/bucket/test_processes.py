"""Server processes of their own on one bucket and one database, one of them killed in the middle of its work."""

from __future__ import annotations

import io
import multiprocessing
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path

from api.settings import read_settings
from api.setup import initialise
from api.wiring import open_wavegate
from repo_signing.model import NewArtifact
from tests.simulators.bucket_home import settings_of
from tests.simulators.object_stores import S3Server
from tests.simulators.repository import ANN, StockClient

PUBLISHERS = 8  # in each process
TURNS = 3


def serve(environ: dict[str, str], name: str, ready: Event) -> None:
    """What a server process does under load, without the HTTP around it."""
    wiring = open_wavegate(read_settings(environ))
    wiring.repository.recover(now=datetime.now(UTC))
    ready.set()

    def run(number: int) -> None:
        for turn in range(TURNS):
            version = f"{number}.{turn}.0-{name}"
            new = NewArtifact(
                staged=wiring.repository.stage(io.BytesIO(version.encode())),
                product="app",
                version=version,
                platform="linux",
                channel="stable",
                file_name="app.bin",
                publisher=ANN,
            )
            wiring.repository.publish(new, now=datetime.now(UTC))

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        for done in [pool.submit(run, number) for number in range(PUBLISHERS)]:
            done.result()
    wiring.close()


def test_processes_publish_together_and_survive_one_that_is_killed(
    radosgw: S3Server, empty_postgresql_url: str, tmp_path: Path
) -> None:
    address = radosgw.new_bucket()
    environs = {
        name: settings_of(tmp_path / name, empty_postgresql_url, address) for name in ("one", "two", "dead", "late")
    }
    made = initialise(read_settings(environs["one"]), org="acme", admin="a@example.com", now=datetime.now(UTC))
    for name in ("two", "dead", "late"):
        shutil.copytree(tmp_path / "one", tmp_path / name, ignore=shutil.ignore_patterns("repository"))
    context = multiprocessing.get_context("spawn")
    ready = {name: context.Event() for name in ("one", "two", "dead")}
    running = {
        name: context.Process(target=serve, args=(environs[name], name, ready[name])) for name in ("one", "two", "dead")
    }
    for process in running.values():
        process.start()
    assert ready["dead"].wait(120)
    time.sleep(0.3)  # somewhere in the middle of its work; wherever that is, what follows holds
    running["dead"].kill()
    for process in running.values():
        process.join(180)
    assert [running[name].exitcode for name in ("one", "two")] == [0, 0]
    wiring = open_wavegate(read_settings(environs["late"]))
    try:
        wiring.repository.recover(now=datetime.now(UTC))
        signed = {record.version for record in wiring.repository.artifacts()}
        expected = {
            f"{number}.{turn}.0-{name}"
            for name in ("one", "two")
            for number in range(PUBLISHERS)
            for turn in range(TURNS)
        }
        assert expected <= signed
        assert {record.version for record in wiring.artifacts.list(limit=500)} == signed
        assert wiring.repository.check(now=datetime.now(UTC)) == []
        device = StockClient(wiring.repository, tmp_path / "client", made.root.read_bytes())
        for version in sorted(signed):
            assert device.fetch(f"app/{version}/linux/app.bin") == version.encode()
    finally:
        wiring.close()
