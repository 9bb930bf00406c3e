"""What a mirror, a thief of an old repository or a slow peer may try on the agent."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import RepositoryRefused
from agent.state import Step
from agent.web import Limits, TooSlow, Web
from tests.simulators.agents import (
    DeviceBench,
    device_bench,
    make_bench,
)
from tests.simulators.signed_tree import SignedTree, served


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        yield bench


def cache(bench: DeviceBench) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bench.home.metadata.glob("*.json")}


def test_tampered_metadata_is_refused_and_the_cache_stays(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    before = cache(bench)
    bench.offer("2.0", "rol_2", minutes=1)
    for name in ("timestamp", "snapshot", "decisions"):
        genuine = dict(bench.mirror.files)
        path = "metadata/timestamp.json" if name == "timestamp" else f"metadata/{bench.tree.version}.{name}.json"
        document = json.loads(bench.mirror.files[path])
        document["signed"]["x-tampered"] = True
        bench.mirror.files[path] = json.dumps(document).encode()

        state = bench.poll()

        assert state.repository_trouble.startswith("repository_refused: "), name
        assert state.running["app"].version == "1.0"
        after = cache(bench)
        assert after[f"{name}.json"] == before[f"{name}.json"], name
        bench.mirror.files.update(genuine)
    assert bench.commands.installed == b"1.0" * 1000


def test_a_tampered_artifact_is_refused_then_reported_and_never_run(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    path = next(p for p in bench.mirror.files if p.startswith("targets/app/1.0"))
    bench.mirror.files[path] = b"9.9" * 1000

    for _ in range(3):
        state = bench.poll()

    assert bench.commands.ran == []
    assert list(bench.home.artifacts.iterdir()) == list(bench.home.downloads.iterdir()) == []
    assert bench.server.results == [("rol_1", 1, "failed", "artifact_refused")]
    assert state.step is Step.IDLE


def test_a_tampered_decision_is_refused(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1", cohort_to=1)
    path = next(p for p in bench.mirror.files if p.startswith("targets/decisions/"))
    bench.mirror.files[path] = bench.mirror.files[path].replace(b'"to":1}', b'"to":9}')

    state = bench.poll()

    assert state.repository_trouble.startswith("repository_refused: decisions/app/canary.json does not verify")
    assert bench.commands.ran == []


def test_an_older_repository_than_the_one_seen_is_refused(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    old = dict(bench.mirror.files)
    bench.offer("2.0", "rol_2", minutes=1)
    bench.poll()
    bench.mirror.files.clear()
    bench.mirror.files.update(old)

    state = bench.poll()

    assert state.repository_trouble.startswith("repository_refused: metadata does not verify")
    assert state.running["app"].version == "2.0"


def test_another_repository_with_the_same_names_is_refused(bench: DeviceBench) -> None:
    rival = SignedTree()
    bench.mirror.files.clear()
    bench.mirror.files.update(rival.files)

    assert bench.poll().repository_trouble.startswith("repository_refused: ")


def test_expired_metadata_is_refused(tmp_path: Path) -> None:
    tree = SignedTree(expires_in=timedelta(seconds=-60))
    with served(tree.files) as mirror:
        bench = make_bench(tmp_path, tree, mirror)
        bench.offer("1.0", "rol_1")

        assert "expired" in bench.poll().repository_trouble
        assert bench.commands.ran == []


def test_a_mirror_that_sends_the_device_elsewhere_is_not_followed(bench: DeviceBench) -> None:
    with served(bench.tree.files) as elsewhere:
        location = f"Location: {elsewhere.url}/metadata/timestamp.json".encode()
        bench.mirror.answer = lambda path, content: location if path.endswith("timestamp.json") else content
        state = bench.poll()

    assert state.repository_trouble == "repository_away: metadata is not there: HTTP status 302"
    assert elsewhere.requests == []


def test_endless_metadata_is_cut_at_its_limit(bench: DeviceBench) -> None:
    bench.mirror.answer = lambda path, content: b" " * 20_000 if path.endswith("timestamp.json") else content

    assert bench.poll().repository_trouble.startswith("repository_refused: metadata does not verify")


def test_a_brake_that_cannot_be_read_stops_the_product(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.tree.put_document("brakes/app/canary.json", b'{"_type":"wavegate-brake","format":99}')

    state = bench.poll()

    assert bench.commands.ran == []
    assert state.repository_trouble.startswith("repository_refused: brakes/app/canary.json cannot be read")


def test_a_server_that_drips_is_left_at_the_deadline(bench: DeviceBench) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100:
                if over.wait(0.05):
                    return
                try:
                    peer.sendall(bytes([byte]))
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    web = Web(agent="test")
    began = time.monotonic()
    try:
        with (
            pytest.raises(TooSlow),
            web.request("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", limits=Limits(seconds=0.5)) as drips,
        ):
            b"".join(drips.pieces)
        assert time.monotonic() - began < 3
    finally:
        over.set()
        web.close()
        thread.join()
        listener.close()


def test_a_document_longer_than_any_may_be_is_refused_before_it_is_fetched(bench: DeviceBench) -> None:
    bench.tree.put_document("decisions/app/canary.json", b" " * (256 * 1024 + 1))
    asked = len(bench.mirror.requests)
    repository = bench.repository()
    with pytest.raises(RepositoryRefused, match="at most 262144"):
        repository.refresh().document("decisions/app/canary.json")
    repository.close()

    assert not any("targets/" in path for path in bench.mirror.requests[asked:])
