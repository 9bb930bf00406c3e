"""Several servers, one bucket: every commit is seen by all, none is lost, and no turn that was lost does harm."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from repo_signing.bucket import Bucket, BucketFailed, Content
from repo_signing.errors import CommitFailed, LeaseLost, RepositoryDamaged, RepositoryMoved
from tests.simulators.bucket_home import BucketHome
from tests.simulators.repository import ANN, StockClient, publish


def test_a_server_with_an_empty_disk_serves_what_others_published(home: BucketHome) -> None:
    first = home.server("first")
    publish(first, "1.0.0", home.now, sboms=(b"{}",))
    second = home.server("second")
    assert [record.version for record in second.artifacts()] == ["1.0.0"]
    device = StockClient(second, home.folder / "client", home.root)
    assert device.fetch("app/1.0.0/linux/app.bin") == b"app 1.0.0"
    publish(second, "2.0.0", home.later(minutes=1))
    publish(first, "3.0.0", home.later(minutes=2))
    assert first.serial() == 4
    third = StockClient(home.server(), home.folder / "another", home.root)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        assert third.fetch(f"app/{version}/linux/app.bin") == f"app {version}".encode()
    digest = hashlib.sha256(b"app 2.0.0").hexdigest()
    assert f"blobs/{digest[:2]}/{digest}" in home.objects()


def test_publishers_at_two_servers_lose_nothing(home: BucketHome) -> None:
    servers = [home.server("one"), home.server("two")]
    versions = [f"{number}.{turn}.0" for number in range(16) for turn in range(2)]

    def run(number: int) -> None:
        for turn in range(2):
            publish(servers[number % 2], f"{number}.{turn}.0", home.now)

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(run, number) for number in range(16)]:
            done.result()
    reader = home.server()
    assert sorted(record.version for record in reader.artifacts()) == sorted(versions)
    assert sorted(record.version for record in home.projection.rows.values()) == sorted(versions)
    device = StockClient(reader, home.folder / "client", home.root)
    for version in versions:
        assert device.fetch(f"app/{version}/linux/app.bin") == f"app {version}".encode()
    assert [finding.kind for finding in reader.check(now=home.now)] == []


def test_two_servers_without_a_lease_are_kept_apart_by_the_bucket_itself(home: BucketHome) -> None:
    """The lease only saves work: with each its own, nothing of a commit that was answered is lost."""
    lone = [home.storage(name, lease=type(home.lease)()) for name in ("one", "two")]
    servers = [home.server(name, storage=storage) for name, storage in zip(("one", "two"), lone, strict=True)]

    def run(number: int) -> str | None:
        try:
            publish(servers[number % 2], f"{number}.0.0", home.now)
        except (CommitFailed, RepositoryMoved):
            return None
        return f"{number}.0.0"

    with ThreadPoolExecutor(12) as pool:
        answered = [version for version in pool.map(run, range(12)) if version is not None]
    assert answered
    device = StockClient(home.server(), home.folder / "client", home.root)
    for version in answered:
        assert device.fetch(f"app/{version}/linux/app.bin") == f"app {version}".encode()


class Stalls(Bucket):
    """A bucket whose next timestamp waits, as that of a server that was stopped, until it is let go."""

    def __init__(self, home: BucketHome) -> None:
        super().__init__(home.address)
        self.reached, self.go = threading.Event(), threading.Event()

    def swap(self, key: str, content: bytes, base: Content) -> Mapping[str, str]:
        if key.endswith("timestamp.json"):
            self.reached.set()
            assert self.go.wait(60)
        return super().swap(key, content, base)


def test_a_commit_that_arrives_after_its_turn_was_lost_is_refused(home: BucketHome) -> None:
    bucket = Stalls(home)
    stalled = home.server("stalled", storage=home.storage("stalled", bucket=bucket))
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(publish, stalled, "1.0.0", home.now)
        assert bucket.reached.wait(60)
        home.lease.run_out()
        other = home.server("other")
        other.recover(now=home.now)
        publish(other, "2.0.0", home.now)
        bucket.go.set()
        with pytest.raises(RepositoryMoved):
            late.result()
    # What the late one had written is gone, and its request may be sent again.
    publish(stalled, "1.0.0", home.now)
    reader = home.server()
    assert sorted(record.version for record in reader.artifacts()) == ["1.0.0", "2.0.0"]
    assert [finding.kind for finding in reader.check(now=home.now)] == []
    StockClient(reader, home.folder / "client", home.root).refresh()


def test_a_holder_that_knows_its_turn_is_over_does_not_even_try(home: BucketHome) -> None:
    class LosesIt(Bucket):
        def create(self, key: str, content: bytes, *, compare: bool = True) -> Mapping[str, str]:
            if key.endswith(".snapshot.json"):
                home.lease.run_out()
            return super().create(key, content, compare=compare)

    before = Bucket(home.address).get("metadata/timestamp.json")
    server = home.server("slow", storage=home.storage("slow", bucket=LosesIt(home.address)))
    with pytest.raises(LeaseLost):
        publish(server, "1.0.0", home.now)
    after = Bucket(home.address).get("metadata/timestamp.json")
    assert before is not None
    assert after is not None
    assert after.raw == before.raw


def test_what_a_dead_server_left_is_fenced_off_and_taken_away(home: BucketHome) -> None:
    home.server("alive")
    bucket = Bucket(home.address)
    for name in ("2.snapshot.json", "2.releases-00.json", "3.snapshot.json"):
        bucket.create(f"metadata/{name}", b"{}")
    alive = home.server("alive")
    publish(alive, "1.0.0", home.now)
    assert alive.serial() == 4
    left = [
        key for key in home.objects() if key.endswith(("/2.snapshot.json", "/2.releases-00.json", "/3.snapshot.json"))
    ]
    assert left == []
    bucket.create("metadata/9.snapshot.json", b"{}")
    home.server().recover(now=home.now)
    assert "metadata/9.snapshot.json" not in home.objects()
    assert home.server().serial() == 10


def test_an_older_copy_in_the_bucket_is_not_followed(home: BucketHome) -> None:
    server, bucket = home.server("one"), Bucket(home.address)
    old = bucket.get("metadata/timestamp.json")
    assert old is not None
    publish(server, "1.0.0", home.now)
    now = bucket.get("metadata/timestamp.json")
    assert now is not None
    bucket.swap("metadata/timestamp.json", old.raw, now)
    with pytest.raises(RepositoryDamaged, match=r"has serial 1, this server has seen 2"):
        publish(server, "2.0.0", home.now)
    assert [record.version for record in server.artifacts()] == ["1.0.0"]


def test_what_was_not_signed_is_not_taken_from_the_bucket(home: BucketHome, tmp_path: Path) -> None:
    server, bucket = home.server("one"), Bucket(home.address)
    publish(server, "1.0.0", home.now)
    (bin_,) = [key for key in home.objects() if key.startswith("metadata/2.releases-")]
    whole = bucket.get(bin_)
    assert whole is not None
    spoilt = tmp_path / "spoilt"
    spoilt.write_bytes(whole.raw.replace(b"app/1.0.0", b"app/6.6.6"))
    bucket.send(bin_, spoilt)
    with pytest.raises(RepositoryDamaged, match="is not what was signed"):
        home.server("late")
    spoilt.write_bytes(whole.raw)
    bucket.send(bin_, spoilt)
    assert [record.version for record in home.server("late").artifacts()] == ["1.0.0"]


def test_readers_go_on_while_the_bucket_does_not_answer(home: BucketHome, monkeypatch: pytest.MonkeyPatch) -> None:
    server = home.server("one")
    publish(server, "1.0.0", home.now)

    def away(*_: object, **__: object) -> None:
        raise BucketFailed("no answer")

    for name in ("get", "head", "create", "swap", "list"):
        monkeypatch.setattr(Bucket, name, away)
    device = StockClient(server, home.folder / "client", home.root)
    assert device.fetch("app/1.0.0/linux/app.bin") == b"app 1.0.0"
    with pytest.raises(CommitFailed, match="no answer"):
        publish(server, "2.0.0", home.now)
    monkeypatch.undo()
    assert [record.version for record in home.server().artifacts()] == ["1.0.0"]


def test_a_withdrawn_blob_leaves_the_bucket_and_every_copy(home: BucketHome, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = home.server("one"), home.server("two")
    record, _ = publish(one, "1.0.0", home.now)
    served = f"app/1.0.0/linux/{record.sha256}.app.bin"
    assert two.target_file(served) is not None
    one.withdraw(record.path, reason="it burns", by=ANN, now=home.now)
    assert f"blobs/{record.sha256[:2]}/{record.sha256}" not in home.objects()
    assert f"quarantine/{record.sha256}" in home.objects()
    assert one.target_file(served) is None
    monkeypatch.setattr("repo_signing.blob_copies.BELIEVED_SECONDS", 0.0)  # the minute is over
    assert two.target_file(served) is None


def test_a_collection_takes_from_the_bucket_and_the_copies_what_nobody_needs(home: BucketHome) -> None:
    one, two = home.server("one"), home.server("two")
    for number in range(14):
        publish(one if number % 2 else two, f"{number}.0.0", home.later(minutes=number))
    outcome = two.collect(now=home.later(days=10))
    assert "2.snapshot.json" in outcome.metadata
    assert "metadata/2.snapshot.json" not in home.objects()
    reader = home.server()
    assert len(list(reader.artifacts())) == 14
    assert [finding.kind for finding in reader.check(now=home.later(minutes=20))] == []
