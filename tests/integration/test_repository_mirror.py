"""Mirrors: stock clients read them at every moment of a copy, and a copy cut short goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from agent.documents import revoked
from agent.home import Home
from agent.trust import Repository
from repo_signing.errors import CommitFailed, MirrorRefused, RepositoryDamaged
from repo_signing.mirror import Mirror
from repo_signing.storage import LocalStorage
from tests.simulators.key_holders import Holder, sign_all
from tests.simulators.repository import ANN, RepositoryHome, publish
from tests.simulators.repository_faults import Crash, Faults, FaultyStorage
from tests.simulators.signed_tree import served

OLD = "app/1.0/linux/app.bin"
NEW = "app/2.0/linux/app.bin"


class FolderFetcher(FetcherInterface):
    """Serves a folder as a web server does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.folder / url.removeprefix("http://mirror/")
        if not path.is_file():
            raise DownloadHTTPError("not found", 404)
        return iter([path.read_bytes()])


def fetch(mirror: Path, folder: Path, root: bytes, path: str) -> bytes | None:
    """A poll of a stock client that reads the mirror."""
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    updater = Updater(
        str(folder),
        "http://mirror/metadata/",
        str(folder / "targets"),
        "http://mirror/targets/",
        fetcher=FolderFetcher(mirror),
        bootstrap=root,
    )
    updater.refresh()
    target = updater.get_targetinfo(path)
    return None if target is None else Path(updater.download_target(target)).read_bytes()


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    made = RepositoryHome.create(tmp_path / "home")
    publish(made.open(), "1.0", made.now, sboms=(b"sbom of 1.0",))
    return made


def mirror_of(home: RepositoryHome, destination: Path, faults: Faults | None = None, *, deep: bool = False) -> Mirror:
    disk = FaultyStorage(Faults() if faults is None else faults)
    return Mirror(home.repository_folder, destination, storage=disk, deep=deep)


def test_a_mirror_is_read_by_stock_clients_and_a_second_run_writes_nothing(
    home: RepositoryHome, tmp_path: Path
) -> None:
    told = mirror_of(home, tmp_path / "mirror").sync()
    assert (told.serial, told.removed) == (2, 0)
    assert fetch(tmp_path / "mirror", tmp_path / "client", home.root, OLD) == b"app 1.0"
    again = mirror_of(home, tmp_path / "mirror", deep=True).sync()
    assert (again.serial, again.files, again.length) == (2, 0, 0)
    publish(home.open(), "2.0", home.now)
    third = mirror_of(home, tmp_path / "mirror").sync()
    assert (third.serial, third.files) == (3, 4)  # the bytes, one bin, snapshot and timestamp
    assert fetch(tmp_path / "mirror", tmp_path / "client", home.root, NEW) == b"app 2.0"


def test_a_crash_at_any_step_leaves_a_mirror_of_one_state_and_the_next_run_goes_on(
    home: RepositoryHome, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    mirror_of(home, before).sync()
    fetch(before, tmp_path / "client", home.root, OLD)
    publish(home.open(), "2.0", home.now, sboms=(b"sbom of 2.0",))
    home.open().withdraw(OLD, reason="wrong", by=ANN, now=home.now)

    def run(faults: Faults) -> Path:
        shutil.rmtree(tmp_path / "mirror", ignore_errors=True)
        shutil.rmtree(tmp_path / "case", ignore_errors=True)
        shutil.copytree(before, tmp_path / "mirror")
        shutil.copytree(tmp_path / "client", tmp_path / "case", symlinks=True)
        mirror_of(home, tmp_path / "mirror", faults).sync()
        return tmp_path / "mirror"

    counted = Faults()
    run(counted)
    states = set()
    cases = [(at, "before") for at in range(len(counted.steps))]
    cases += [(at, "torn") for at, step in enumerate(counted.steps) if step == "write"]
    for at, how in cases:
        with pytest.raises(Crash):
            run(Faults(at, how))
        mirror = tmp_path / "mirror"
        version = json.loads((mirror / "metadata" / "timestamp.json").read_bytes())["signed"]["version"]
        states.add(version)
        for folder in (tmp_path / "case", tmp_path / f"new-{at}-{how}"):
            assert fetch(mirror, folder, home.root, NEW) == (b"app 2.0" if version == 4 else None)
            assert fetch(mirror, folder, home.root, OLD) == (b"app 1.0" if version == 2 else None)
        assert mirror_of(home, mirror, deep=True).sync().serial == 4
        assert fetch(mirror, tmp_path / "case", home.root, NEW) == b"app 2.0"
        assert not list(mirror.rglob(".tmp-*"))
        assert not list((mirror / "targets" / "app" / "1.0" / "linux").glob("*.app.bin"))
    assert states == {2, 4}


def test_a_full_disk_is_told_and_the_mirror_keeps_its_state(home: RepositoryHome, tmp_path: Path) -> None:
    mirror_of(home, tmp_path / "mirror").sync()
    publish(home.open(), "2.0", home.now)
    with pytest.raises(CommitFailed, match="the mirror could not be written: No space left on device; run it again"):
        mirror_of(home, tmp_path / "mirror", Faults(2, OSError(28, "No space left on device"))).sync()
    assert fetch(tmp_path / "mirror", tmp_path / "client", home.root, OLD) == b"app 1.0"


def test_damaged_bytes_are_not_mirrored(home: RepositoryHome, tmp_path: Path) -> None:
    blob = next((home.repository_folder / "blobs").glob("*/*"))
    blob.write_bytes(b"other")
    with pytest.raises(RepositoryDamaged, match="holds other bytes"):
        mirror_of(home, tmp_path / "mirror").sync()
    assert not (tmp_path / "mirror" / "metadata" / "timestamp.json").exists()


def test_a_folder_that_is_not_our_mirror_is_refused_and_left_alone(home: RepositoryHome, tmp_path: Path) -> None:
    other = RepositoryHome.create(tmp_path / "other")
    mirror_of(other, tmp_path / "mirror").sync()
    with pytest.raises(MirrorRefused, match="is a mirror of another repository"):
        mirror_of(home, tmp_path / "mirror").sync()
    assert mirror_of(other, tmp_path / "mirror").sync().files == 0


def test_a_mirror_that_is_ahead_or_was_tampered_with_is_refused(home: RepositoryHome, tmp_path: Path) -> None:
    shutil.copytree(home.repository_folder, tmp_path / "older")
    publish(home.open(), "2.0", home.now)
    mirror_of(home, tmp_path / "mirror").sync()
    with pytest.raises(MirrorRefused, match="the mirror has serial 3, the repository 2"):
        Mirror(tmp_path / "older", tmp_path / "mirror").sync()
    copied = next((tmp_path / "mirror" / "targets").rglob("*.app.bin"))
    copied.write_bytes(b"evil 2.0")
    with pytest.raises(MirrorRefused, match="holds other bytes than were signed"):
        mirror_of(home, tmp_path / "mirror").sync()


def test_the_agent_reads_what_the_repository_writes_of_yanked_and_revoked(home: RepositoryHome, tmp_path: Path) -> None:
    repository = home.open()
    publish(repository, "2.0", home.now)
    repository.yank(OLD, reason="old", by=ANN, now=home.now)
    record = repository.withdraw(NEW, reason="leaks keys", by=ANN, now=home.now, revoke=True)
    mirror_of(home, tmp_path / "mirror").sync()
    device = Home(tmp_path / "device")
    device.create()
    device.identity.mkdir()
    (device.identity / "root.json").write_bytes(home.root)
    files = {
        str(path.relative_to(tmp_path / "mirror")): path.read_bytes()
        for path in (tmp_path / "mirror").rglob("*")
        if path.is_file()
    }
    with served(files) as mirror:
        client = Repository(
            device, metadata_url=f"{mirror.url}/metadata/", targets_url=f"{mirror.url}/targets/", agent="test"
        )
        view = client.refresh()
        yanked = view.target(OLD)
        assert yanked is not None
        assert view.yanked(yanked)
        assert view.target(NEW) is None
        assert revoked(view, "app") == {record.sha256: "leaks keys"}
        client.close()


class Watched(LocalStorage):
    """The real storage; after every change of the disk somebody looks."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def link(self, source: Path, name: Path) -> None:
        super().link(source, name)
        self._look()

    def rename(self, source: Path, name: Path) -> None:
        super().rename(source, name)
        self._look()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_mirror_follows_a_rotation_and_no_client_of_it_fails_at_any_step(
    home: RepositoryHome, tmp_path: Path, role: str
) -> None:
    mirror, repository = tmp_path / "mirror", home.open()
    mirror_of(home, mirror).sync()
    fetch(mirror, tmp_path / "client", home.root, OLD)
    looks: list[bytes | None] = []

    def look() -> None:
        new = tmp_path / f"new-{len(looks)}"
        looks.extend(fetch(mirror, folder, home.root, OLD) for folder in (tmp_path / "client", new))

    root, targets = (Holder.of_laptop(home.folder, name) for name in ("root", "targets"))
    if role == "targets":
        holder = Holder()
        remove = {"targets": [targets.keyid]}
        drafts = [
            repository.drafts.draft_root(
                add={"targets": [holder.public]}, remove=remove, thresholds={}, by=ANN, now=home.now
            )
        ]
        holders = [root, targets, holder]
    else:
        drafts = repository.drafts.rotate([role], compromised=False, past=0, by=ANN, now=home.now)
        holders = [root]
    for draft in drafts:
        assert sign_all(repository.drafts, draft, holders, home.now) is not None
    Mirror(home.repository_folder, mirror, storage=Watched(look)).sync()
    assert (mirror / "metadata" / "2.root.json").is_file()
    repository.drafts.end_overlap(by=ANN, now=home.later(hours=2))
    Mirror(home.repository_folder, mirror, storage=Watched(look)).sync()
    assert len(looks) > 4
    assert set(looks) == {b"app 1.0"}
