"""The jump of a restored repository: clients that saw later states come back, whatever moment the power fails."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from tuf.api.exceptions import BadVersionNumberError

from repo_signing.repository import SignedRepository
from tests.simulators.repository import RepositoryHome, StockClient, publish
from tests.simulators.repository_faults import Faults, FaultyStorage, every_crash

OLD = "app/1.0/linux/app.bin"


@pytest.fixture
def restored(tmp_path: Path) -> RepositoryHome:
    """A copy from serial 2, after which the original went on to serial 6; the client has seen that."""
    home = RepositoryHome.create(tmp_path / "original")
    publish(home.open(), "1.0", home.now)
    shutil.copytree(home.folder, tmp_path / "restored")
    projection = copy.deepcopy(home.projection)
    for number in range(2, 6):
        publish(home.open(), f"{number}.0", home.now)
    home.open().refresh(now=home.now, force=True)
    StockClient(home.open(), tmp_path / "restored" / "client", home.root).fetch("app/5.0/linux/app.bin")
    return RepositoryHome(tmp_path / "restored", projection, home.root, home.now)


def test_without_a_jump_the_client_refuses_and_after_it_it_follows(restored: RepositoryHome) -> None:
    repository = restored.open(FaultyStorage(Faults()))
    client = StockClient(repository, restored.folder / "client", restored.root)
    before = client.fetcher.repository.serial()
    assert before == 2
    publish(repository, "1.1", restored.now)
    with pytest.raises(BadVersionNumberError):
        client.refresh()
    assert repository.jump(1000, now=restored.now) == 1001
    assert client.fetch(OLD) == b"app 1.0"
    assert client.fetch("app/5.0/linux/app.bin") is None
    assert publish(repository, "9.0", restored.now)[0].serial == 1002
    assert restored.projection.events[-2].tag == "repository.restored"
    versions = {role.name: role.version for role in repository.status(now=restored.now).roles}
    assert (versions["root"], versions["targets"], versions["releases-3f"]) == (1, 1, 1001)


def test_a_crash_at_any_step_leaves_the_state_before_or_after(restored: RepositoryHome, tmp_path: Path) -> None:
    def jump(repository: SignedRepository) -> None:
        repository.jump(1000, now=restored.later(seconds=1))

    for case in every_crash(restored, tmp_path / "cases", jump, stride=41):
        reader = case.open(FaultyStorage(Faults()))
        new = StockClient(reader, case.folder / "new", case.root)
        assert new.fetch(OLD) == b"app 1.0"
        reader.recover(now=case.later(seconds=2))
        jump(reader)
        assert reader.serial() > 1000
        for name in ("client", "new"):
            assert StockClient(reader, case.folder / name, case.root).fetch(OLD) == b"app 1.0"
        assert case.projection.projected_serial() == reader.serial()
        assert reader.check(now=case.later(seconds=3)) == []
