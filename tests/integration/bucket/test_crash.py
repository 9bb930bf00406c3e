"""A server that dies, or a store that fails, at any step: clients see the old state or the new, and work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from repo_signing.bucket import Bucket, BucketFailed, Content, Entry
from repo_signing.errors import RepositoryError
from repo_signing.repository import SignedRepository
from tests.simulators.bucket_home import BucketHome
from tests.simulators.object_stores import S3Server
from tests.simulators.repository import ANN, StockClient, publish
from tests.simulators.repository_faults import Crash, Faults

LIFE: dict[str, Callable[[SignedRepository, BucketHome], object]] = {
    "publish": lambda server, home: publish(server, "2.0.0", home.now, sboms=(b"{}",)),
    "withdraw": lambda server, home: server.withdraw(
        "app/1.0.0/linux/app.bin", reason="it burns", by=ANN, now=home.now
    ),
    "refresh": lambda server, home: server.refresh(now=home.now, force=True),
}


class FaultyBucket(Bucket):
    """The real bucket, each change of it under :class:`Faults`."""

    def __init__(self, home: BucketHome, faults: Faults) -> None:
        super().__init__(home.address)
        self._faults = faults

    def get(self, key: str, *, unless: Mapping[str, str] | None = None) -> Content | None:
        if self._faults.is_dead:
            raise Crash
        return super().get(key, unless=unless)

    def head(self, key: str) -> Entry | None:
        if self._faults.is_dead:
            raise Crash
        return super().head(key)

    def create(self, key: str, content: bytes, *, compare: bool = True) -> Mapping[str, str]:
        return self._faults.step("create", lambda: super(FaultyBucket, self).create(key, content, compare=compare))

    def swap(self, key: str, content: bytes, base: Content) -> Mapping[str, str]:
        return self._faults.step("swap", lambda: super(FaultyBucket, self).swap(key, content, base))

    def send(self, key: str, file: Path) -> None:
        self._faults.step("send", lambda: super(FaultyBucket, self).send(key, file))

    def copy(self, key: str, other: str) -> None:
        self._faults.step("copy", lambda: super(FaultyBucket, self).copy(key, other))

    def remove(self, key: str) -> None:
        self._faults.step("remove", lambda: super(FaultyBucket, self).remove(key))


def tried(home: BucketHome, job: str, at: int | None, how: str | Exception) -> Faults:
    faults = Faults(at, how)
    storage = home.storage("victim", bucket=FaultyBucket(home, faults))
    with suppress(Crash, RepositoryError):
        LIFE[job](home.server("victim", storage=storage), home)
    storage.close()
    home.lease.run_out()  # a dead server's turn ends by itself
    return faults


def whole(home: BucketHome, job: str) -> None:
    """Somebody else goes on, on an empty disk, and every client with it."""
    survivor = home.server()
    survivor.recover(now=home.now)
    LIFE[job](survivor, home)
    survivor.recover(now=home.now)
    assert [finding.kind for finding in survivor.check(now=home.now)] == []
    device = StockClient(survivor, home.folder / "client", home.root)
    if job == "publish":
        assert device.fetch("app/2.0.0/linux/app.bin") == b"app 2.0.0"
    if job == "withdraw":
        assert device.fetch("app/1.0.0/linux/app.bin") is None
    else:
        assert device.fetch("app/1.0.0/linux/app.bin") == b"app 1.0.0"
    above = [key for key in home.objects() if key.startswith(f"metadata/{survivor.serial() + 1}.")]
    assert above == []


def cases() -> Iterator[Any]:
    # More steps than a job has: the last ones find a job that went through, which the test says.
    for job, steps in (("publish", 8), ("withdraw", 6), ("refresh", 2)):
        for at in range(steps):
            for how in ("before", "after", "fails"):
                yield pytest.param(job, at, how, id=f"{job}-{at}-{how}")


@pytest.mark.parametrize(("job", "at", "how"), list(cases()))
def test_clients_and_other_servers_go_on(moto: S3Server, tmp_path: Path, job: str, at: int, how: str) -> None:
    home = BucketHome(tmp_path / "home", moto.new_bucket(), layout="paths")
    publish(home.server("victim"), "1.0.0", home.now)
    device = StockClient(home.server("victim"), home.folder / "client", home.root)
    device.refresh()
    faults = tried(home, job, at, BucketFailed("injected") if how == "fails" else how)
    assert len(faults.steps) > at, f"{job} has only the steps {faults.steps}"
    whole(home, job)
