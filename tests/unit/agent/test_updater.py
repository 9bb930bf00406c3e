"""What is remembered of metadata that verified, and when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadHTTPError,
    ExpiredMetadataError,
    UnsignedMetadataError,
)
from tuf.ngclient import FetcherInterface

from agent.updater import Loaded, SparingUpdater, Verified
from tests.simulators.signed_tree import SignedTree


class FromMemory(FetcherInterface):
    """Fetches from a dictionary."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.asked.append(url)
        content = self.files.get(url)
        if content is None:
            raise DownloadHTTPError("it is not there", 404)
        return iter([content])


class Counted(Verified):
    """Counts what had to be verified."""

    def __init__(self) -> None:
        super().__init__()
        self.roles: list[str] = []

    def keep(self, key: tuple[Any, ...], loaded: Loaded, length: int) -> None:
        """As ``Verified``."""
        self.roles.append(loaded[0].type)
        super().keep(key, loaded, length)


def refresh(folder: Path, root: bytes, files: dict[str, bytes], verified: Verified) -> list[str]:
    """A device's refresh, its cache in ``folder``; what was asked for."""
    documents, fetcher = folder / "documents", FromMemory(files)
    documents.mkdir(parents=True, exist_ok=True)
    SparingUpdater(
        str(folder), "metadata", str(documents), "targets", fetcher, bootstrap=root, verified=verified
    ).refresh()
    return fetcher.asked


def test_what_verified_is_not_verified_again_until_it_changes(tmp_path: Path) -> None:
    tree, verified = SignedTree(), Counted()
    refresh(tmp_path / "one", tree.root, tree.files, verified)
    assert verified.roles == ["timestamp", "snapshot", "targets"]
    refresh(tmp_path / "one", tree.root, tree.files, verified)
    refresh(tmp_path / "two", tree.root, tree.files, verified)
    assert len(verified.roles) == 3
    tree.commit()
    refresh(tmp_path / "one", tree.root, tree.files, verified)
    assert verified.roles[3:] == ["timestamp", "snapshot"]


def test_what_verified_for_one_root_is_nothing_to_who_trusts_another(tmp_path: Path) -> None:
    tree, foreign, verified = SignedTree(), SignedTree(), Verified()
    refresh(tmp_path / "theirs", foreign.root, foreign.files, verified)
    for _ in range(2):
        with pytest.raises(UnsignedMetadataError):
            refresh(tmp_path / "ours", tree.root, foreign.files, verified)
    assert not (tmp_path / "ours" / "timestamp.json").exists()


def test_what_verified_under_a_root_is_asked_anew_under_the_next(tmp_path: Path) -> None:
    tree, verified = SignedTree(), Verified()
    refresh(tmp_path, tree.root, tree.files, verified)
    before = tree.files["metadata/timestamp.json"]
    tree.rotate_root()
    tree.files["metadata/timestamp.json"] = before
    with pytest.raises(UnsignedMetadataError):
        refresh(tmp_path, tree.root, tree.files, verified)


def test_what_verified_and_expired_is_refused_each_time(tmp_path: Path) -> None:
    tree, verified = SignedTree(), Counted()
    tree.expires = tree.expires.replace(year=2020)
    tree.commit()
    for _ in range(2):
        with pytest.raises(ExpiredMetadataError):
            refresh(tmp_path, tree.root, tree.files, verified)
    assert verified.roles == ["timestamp"]


def test_an_older_state_is_refused_though_it_verified(tmp_path: Path) -> None:
    tree, verified = SignedTree(), Verified()
    refresh(tmp_path, tree.root, tree.files, verified)
    before = tree.files["metadata/timestamp.json"]
    tree.commit()
    refresh(tmp_path, tree.root, tree.files, verified)
    now = (tmp_path / "timestamp.json").read_bytes()
    tree.files["metadata/timestamp.json"] = before
    with pytest.raises(BadVersionNumberError):
        refresh(tmp_path, tree.root, tree.files, verified)
    assert (tmp_path / "timestamp.json").read_bytes() == now


def test_a_refresh_that_brings_nothing_is_two_requests_and_writes_nothing(tmp_path: Path) -> None:
    tree = SignedTree()

    def written() -> dict[str, tuple[int, int]]:
        found = [tmp_path, *tmp_path.rglob("*")]  # a file that comes and goes changes its folder
        return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in found}

    refresh(tmp_path, tree.root, tree.files, Verified())
    before = written()
    assert refresh(tmp_path, tree.root, tree.files, Verified()) == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert written() == before
    assert (tmp_path / "root.json").resolve() == (tmp_path / "root_history" / "1.root.json").resolve()


def test_a_root_that_was_damaged_on_the_disk_is_written_anew(tmp_path: Path) -> None:
    tree = SignedTree()
    refresh(tmp_path, tree.root, tree.files, Verified())
    (tmp_path / "root_history" / "1.root.json").write_bytes(tree.root[:-1])
    (tmp_path / "root.json").unlink()
    refresh(tmp_path, tree.root, tree.files, Verified())
    assert (tmp_path / "root.json").read_bytes() == tree.root


def test_what_was_asked_for_least_lately_makes_room() -> None:
    verified = Verified(10)
    loaded: Loaded = (object(), b"", {})
    verified.keep(("one",), loaded, 4)
    verified.keep(("two",), loaded, 4)
    assert verified.get(("one",)) is loaded
    verified.keep(("three",), loaded, 4)
    verified.keep(("too long",), loaded, 11)
    assert [name for name in ("one", "two", "three", "too long") if verified.get((name,))] == ["one", "three"]
