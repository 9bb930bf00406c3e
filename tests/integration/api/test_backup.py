"""Backup while serving, and restoring a home that every client accepts, whatever it has seen since."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.backup import back_up, restore
from api.rebuild import rebuild_index
from api.settings import Settings
from api.wiring import NotInitialised, Wavegate, open_wavegate
from keys.files import write_private
from repo_signing.errors import BackupRefused, IndexAhead, RepositoryDamaged
from store.organisations import Organisations
from tests.databases import POSTGRESQL, SQLITE
from tests.integration.api.conftest import Home, settings_of
from tests.simulators.repository import StockClient
from tests.simulators.repository_faults import Crash, Faults, FaultyStorage

FIRST = "fw/1/any/fw.bin"
LATER = "fw/2/any/fw.bin"


def restored_from(backup: Path, home: Home, folder: Path) -> Settings:
    """Settings of a home to restore; on PostgreSQL, the database was restored from its dump before."""
    if home.databases.kind == POSTGRESQL and not home.databases.has(folder):
        home.databases.copy(backup, folder)
    return settings_of(home.databases, folder)


@contextmanager
def opened(settings: Settings) -> Iterator[Wavegate]:
    wiring = open_wavegate(settings)
    try:
        yield wiring
    finally:
        wiring.close()


def device(wiring: Wavegate, folder: Path, home: Home) -> StockClient:
    return StockClient(wiring.repository, folder, home.made.root.read_bytes())


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=30)


def backed_up(home: Home, destination: Path, *, keys: bool = True) -> Path:
    """A backup; on PostgreSQL without the database, which was dumped right before."""
    if home.databases.kind == POSTGRESQL:
        home.wiring.db.close()
        home.databases.copy(home.made.home, destination)
    back_up(home.wiring, destination, keys=keys, database=home.databases.kind == SQLITE, now=datetime.now(UTC))
    return destination


@pytest.mark.parametrize("name", ["backup.tar", "backup"], ids=["one file", "a folder"])
def test_a_client_that_saw_later_states_accepts_what_was_restored(home: Home, tmp_path: Path, name: str) -> None:
    home.publish(b"one", version="1")
    destination = backed_up(home, tmp_path / name)
    client = device(home.wiring, tmp_path / "client", home)
    for number in range(2, 6):
        home.publish(b"later", version=str(number))
        client.refresh()
    assert client.fetch(LATER) == b"later"

    done = restore(restored_from(destination, home, tmp_path / "new"), destination, now=soon())

    assert (done.org, done.serial_in_backup, done.artifacts) == ("acme", 2, 1)
    assert done.serial > home.wiring.repository.serial()
    with opened(restored_from(destination, home, tmp_path / "new")) as wiring:
        old, new = device(wiring, tmp_path / "client", home), device(wiring, tmp_path / "fresh", home)
        for one in (old, new):
            assert one.fetch(FIRST) == b"one"
            assert one.fetch(LATER) is None
        assert wiring.repository.check(now=soon()) == []
        assert [row.path for row in wiring.artifacts.list()] == [FIRST]
        told = [event.event.tag for event in wiring.audit.events("acme")]
        assert told[-1] == "repository.restored"
        assert [one.slug for one in Organisations(wiring.db).all()] == ["acme"]
    assert (tmp_path / "new" / "root.json").read_bytes() == home.made.root.read_bytes()
    assert not (tmp_path / "new" / "orgs" / "acme" / "offline-keys").exists()


def test_a_backup_is_for_its_owner_alone_and_is_never_written_over(home: Home, tmp_path: Path) -> None:
    tar, folder = backed_up(home, tmp_path / "b.tar"), backed_up(home, tmp_path / "b")
    assert tar.stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0
    for again in (tar, folder):
        with pytest.raises(BackupRefused, match="is there already; a backup is never written over"):
            backed_up(home, again)
    with tarfile.open(tar) as opened_tar:
        names = opened_tar.getnames()
    assert names[-1] == "backup.json"
    assert not [one for one in names if "offline" in one]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_damaged_repository_is_not_backed_up_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    home.publish(b"one", version="1")
    shutil.rmtree(home.made.home / "orgs" / "acme" / "repository" / "blobs")
    for name in ("b.tar", "b"):
        with pytest.raises(RepositoryDamaged, match="is missing"):
            backed_up(home, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_backup_without_keys_needs_them_from_elsewhere(home: Home, tmp_path: Path) -> None:
    home.publish(b"one", version="1")
    destination = backed_up(home, tmp_path / "b", keys=False)
    assert not (destination / "keys").exists()
    assert not (destination / "device-ca").exists()
    with pytest.raises(BackupRefused, match="the backup has no keys: give --keys FOLDER"):
        restore(restored_from(destination, home, tmp_path / "new"), destination, now=soon())
    safe = tmp_path / "safe"
    shutil.copytree(home.made.home / "orgs" / "acme" / "keys", safe / "keys")
    shutil.copytree(home.made.home / "device-ca", safe / "device-ca")
    restore(restored_from(destination, home, tmp_path / "new"), destination, keys=safe, now=soon())
    with opened(restored_from(destination, home, tmp_path / "new")) as wiring:
        assert device(wiring, tmp_path / "client", home).fetch(FIRST) == b"one"
    key = tmp_path / "new" / "orgs" / "acme" / "keys" / "online" / "timestamp.pem"
    assert key.stat().st_mode & 0o077 == 0


def with_database(backup: Path, database: Path) -> None:
    """The same backup with the database of another day, as a careless hand makes it."""
    import hashlib

    shutil.copyfile(database, backup / "database" / "wavegate.db")
    manifest = json.loads((backup / "backup.json").read_bytes())
    manifest["digests"]["database/wavegate.db"] = hashlib.sha256(database.read_bytes()).hexdigest()
    (backup / "backup.json").unlink()
    write_private(backup / "backup.json", json.dumps(manifest).encode())


@pytest.mark.parametrize("database_is_newer", [True, False], ids=["database newer", "repository newer"])
def test_a_database_of_another_day_than_the_repository_is_reconciled(
    home: Home, tmp_path: Path, database_is_newer: bool
) -> None:
    home.publish(b"one", version="1")
    early = backed_up(home, tmp_path / "early")
    home.publish(b"two", version="2")
    late = backed_up(home, tmp_path / "late")
    backup, other = (early, late) if database_is_newer else (late, early)
    if home.databases.kind == SQLITE:
        with_database(backup, other / "database" / "wavegate.db")

    done = restore(restored_from(other, home, tmp_path / "new"), backup, now=soon())

    with opened(restored_from(other, home, tmp_path / "new")) as wiring:
        signed = sorted(record.path for record in wiring.repository.artifacts())
        assert signed == ([FIRST] if database_is_newer else [FIRST, LATER])
        assert sorted(row.path for row in wiring.artifacts.list()) == signed
        assert wiring.repository.serial() == wiring.artifacts.projected_serial() == done.serial
        assert wiring.repository.check(now=soon()) == []


def damage(name: str) -> Callable[[Path], None]:
    def change(backup: Path) -> None:
        path = next(backup.glob(name))
        path.write_bytes(path.read_bytes()[:-1] + b"~")

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda backup: (backup / "backup.json").unlink(), "it is no backup, or its making was cut short"),
        (damage("repository/blobs/*/*"), "in the backup is damaged"),
        (damage("repository/metadata/timestamp.json"), "in the backup is damaged"),
        (lambda backup: next(backup.glob("repository/metadata/1.root.json")).unlink(), "it is not whole"),
        (lambda backup: shutil.rmtree(backup / "repository" / "blobs"), "lacks some blobs; it is not whole"),
        (lambda backup: (backup / "surprise").write_bytes(b"x"), "which its backup.json does not name"),
        (lambda backup: (backup / "link").symlink_to("/etc/passwd"), "is no regular file"),
        (lambda backup: (backup / "backup.json").write_bytes(b'{"format": 9}'), "has format 9, this version reads 1"),
    ],
)
def test_a_backup_that_is_not_whole_makes_no_home(
    home: Home, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    home.publish(b"one", version="1")
    backup = backed_up(home, tmp_path / "b")
    spoil(backup)
    with pytest.raises(BackupRefused, match=words):
        restore(restored_from(backup, home, tmp_path / "new"), backup, now=soon())
    with pytest.raises(NotInitialised):
        open_wavegate(restored_from(backup, home, tmp_path / "new"))


def test_a_tar_that_leads_out_of_the_home_is_refused(home: Home, tmp_path: Path) -> None:
    backup = backed_up(home, tmp_path / "b.tar")
    (tmp_path / "evil").write_bytes(b"x")
    with tarfile.open(backup, "a") as tar:
        tar.add(tmp_path / "evil", arcname="../../evil-was-here")
    with pytest.raises(BackupRefused, match="which is no regular file below it"):
        restore(restored_from(backup, home, tmp_path / "new"), backup, now=soon())
    assert not list(tmp_path.parent.rglob("evil-was-here"))


def test_a_home_that_is_in_use_and_a_clock_that_is_behind_are_refused(home: Home, tmp_path: Path) -> None:
    backup = backed_up(home, tmp_path / "b")
    with pytest.raises(BackupRefused, match="is not empty; name a new folder"):
        restore(home.wiring.settings, backup, now=soon())
    with pytest.raises(BackupRefused, match="the clock says"):
        restore(restored_from(backup, home, tmp_path / "new"), backup, now=datetime.now(UTC) - timedelta(days=1))
    assert not (tmp_path / "new").exists()


def test_the_serial_jumps_past_what_somebody_saw(home: Home, tmp_path: Path) -> None:
    backup = backed_up(home, tmp_path / "b")
    done = restore(restored_from(backup, home, tmp_path / "new"), backup, above=70_000_000, now=soon())
    assert done.serial == 70_000_001


def test_a_crash_while_restoring_leaves_no_home_and_the_next_attempt_succeeds(home: Home, tmp_path: Path) -> None:
    home.publish(b"one", version="1")
    backup = backed_up(home, tmp_path / "b")
    client = device(home.wiring, tmp_path / "client", home)
    client.refresh()
    counted = Faults()
    restore(restored_from(backup, home, tmp_path / "whole"), backup, now=soon(), disk=FaultyStorage(counted))
    copying = counted.steps.index("link")  # the first of the jump's own commit
    # Copying 70 files is the same five steps again and again; the commit of the jump is tried densely.
    points = [
        *range(4, copying, 60),
        *range(copying, len(counted.steps), 30),
        *range(len(counted.steps) - 12, len(counted.steps)),
    ]
    for at in points:
        target = tmp_path / f"new-{at}"
        with pytest.raises(Crash):
            restore(restored_from(backup, home, target), backup, now=soon(), disk=FaultyStorage(Faults(at)))
        with pytest.raises(NotInitialised):
            open_wavegate(restored_from(backup, home, target))
        with pytest.raises(BackupRefused, match="or remove a half-restored one"):
            restore(restored_from(backup, home, target), backup, now=soon())
        shutil.rmtree(target)
    restore(restored_from(backup, home, tmp_path / "new"), backup, now=soon())
    with opened(restored_from(backup, home, tmp_path / "new")) as wiring:
        assert device(wiring, tmp_path / "client", home).fetch(FIRST) == b"one"


def test_an_index_made_anew_equals_what_is_signed(home: Home) -> None:
    first = home.publish(b"one", version="1", labels={"line": "a"}, notes="first\nsecond").get_json()
    home.publish(b"two", version="2")
    home.call("POST", f"/artifacts/{first['id']}/yank", {"reason": "old"})
    home.call("POST", f"/artifacts/{first['id']}/revoke", {"reason": "leaks"})
    done = rebuild_index(home.wiring, now=datetime.now(UTC))
    assert (done.artifacts, done.equal) == (2, True)
    assert home.call("GET", f"/artifacts/{first['id']}").get_json()["withdrawn"]["revoked"] is True
    tags = [one["tag"] for one in home.call("GET", "/audit/events?limit=200").get_json()["items"]]
    assert tags.count("artifact.published") == 2
    assert tags[-1] == "repository.rebuilt"


def test_an_index_ahead_of_an_older_repository_is_refused_until_it_is_made_anew(home: Home, tmp_path: Path) -> None:
    repository = home.made.home / "orgs" / "acme" / "repository"
    shutil.copytree(repository, tmp_path / "older")
    home.publish(b"one", version="1")
    home.wiring.close()
    shutil.rmtree(repository)
    shutil.copytree(tmp_path / "older", repository)
    with opened(home.wiring.settings) as wiring:
        with pytest.raises(IndexAhead):
            wiring.repository.refresh(now=soon(), force=True)
        done = rebuild_index(wiring, now=soon())
        assert (done.artifacts, done.equal) == (0, True)
        wiring.repository.refresh(now=soon(), force=True)
        assert wiring.repository.serial() == 3
