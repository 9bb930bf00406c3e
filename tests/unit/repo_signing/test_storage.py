from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from repo_signing.blobs import Blobs
from repo_signing.errors import (
    CommitFailed,
    RepositoryDamaged,
    RepositoryMoved,
    UnknownUpload,
    UploadCutShort,
    UploadTooLarge,
)
from repo_signing.model import StagedBlob
from repo_signing.storage import LocalStorage

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    for part in ("blobs", "staging"):
        (tmp_path / part).mkdir()
    return Blobs(tmp_path, LocalStorage())


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_name_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "2.snapshot.json").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        LocalStorage().create_once(tmp_path, {"2.snapshot.json": b"ours"})
    assert (tmp_path / "2.snapshot.json").read_bytes() == b"theirs"
    assert leftovers(tmp_path) == ["2.snapshot.json"]


def test_a_file_is_replaced_only_when_it_is_what_was_read(tmp_path: Path) -> None:
    file = tmp_path / "timestamp.json"
    file.write_bytes(b"one")
    LocalStorage().replace(file, b"two", base=b"one")
    assert file.read_bytes() == b"two"
    with pytest.raises(RepositoryMoved):
        LocalStorage().replace(file, b"three", base=b"one")
    with pytest.raises(RepositoryMoved):
        LocalStorage().replace(file, b"three", base=None)
    assert file.read_bytes() == b"two"
    assert leftovers(tmp_path) == ["timestamp.json"]


def test_each_state_of_a_file_has_a_second_of_its_own(tmp_path: Path) -> None:
    # nginx makes the ETag of a file of this second and the length, and all states here have one length.
    file = tmp_path / "timestamp.json"
    file.write_bytes(b"0")
    ahead = int(file.stat().st_mtime) + 100
    os.utime(file, (ahead, ahead))
    seconds = []
    for number in range(4):
        LocalStorage().replace(file, str(number + 1).encode(), base=str(number).encode())
        seconds.append(int(file.stat().st_mtime) - ahead)
    assert seconds == [1, 2, 3, 4]
    os.utime(file, (5, 5))
    began = int(time.time())
    LocalStorage().replace(file, b"5", base=b"4")
    assert file.stat().st_mtime >= began, "no further from the clock than need be"


def test_all_bytes_are_written_though_the_system_takes_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, bytes(content)[:3]))
    LocalStorage().create_once(tmp_path, {"a": b"0123456789"})
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_an_upload_is_hashed_and_found_again_by_its_id(blobs: Blobs) -> None:
    blob = blobs.stage(io.BytesIO(b"hello"), limit=5, expected=5)
    assert (blob.sha256, blob.length) == (HELLO, 5)
    assert blobs.staged(blob.upload_id) == blob


@pytest.mark.parametrize(
    ("limit", "expected", "error"),
    [(4, None, UploadTooLarge), (4, 5, UploadTooLarge), (None, 6, UploadCutShort), (None, 4, UploadCutShort)],
)
def test_an_upload_of_the_wrong_size_leaves_nothing(
    limit: int | None, expected: int | None, error: type[Exception], blobs: Blobs, tmp_path: Path
) -> None:
    with pytest.raises(error):
        blobs.stage(io.BytesIO(b"hello"), limit=limit, expected=expected)
    assert leftovers(tmp_path) == []


class BrokenStream:
    def __init__(self) -> None:
        self.left = 2

    def read(self, size: int) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ECONNRESET, "connection reset")
        return b"x" * size


def test_a_stream_that_breaks_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(CommitFailed, match="connection reset"):
        blobs.stage(cast("BinaryIO", BrokenStream()), limit=None, expected=None)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("upload_id", ["", "upl_", "../staging", "upl_01JD3Z0000000000000000000*", "upl_" + "0" * 26])
def test_other_upload_ids_are_unknown(upload_id: str, blobs: Blobs) -> None:
    blobs.stage(io.BytesIO(b"hello"), limit=None, expected=None)
    with pytest.raises(UnknownUpload):
        blobs.staged(upload_id)


def test_the_same_bytes_twice_are_one_blob(blobs: Blobs, tmp_path: Path) -> None:
    for _ in range(2):
        blob = blobs.stage(io.BytesIO(b"hello"), limit=None, expected=None)
        blobs.keep(blob)
        blobs.drop(blob)
    assert leftovers(tmp_path) == [HELLO]
    blobs.keep(blob)  # by who comes second with the same upload
    assert blobs.read(HELLO) == b"hello"


def test_a_used_up_upload_without_its_blob_is_unknown(blobs: Blobs) -> None:
    gone = StagedBlob(upload_id="upl_" + "0" * 26, sha256=HELLO, length=5)
    with pytest.raises(UnknownUpload):
        blobs.keep(gone)
    with pytest.raises(UnknownUpload):
        blobs.open(gone)


def test_a_blob_of_another_length_is_damage(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "blobs" / HELLO[:2]).mkdir()
    (tmp_path / "blobs" / HELLO[:2] / HELLO).write_bytes(b"hell")
    blob = blobs.stage(io.BytesIO(b"hello"), limit=None, expected=None)
    with pytest.raises(RepositoryDamaged, match="has 4 bytes, expected 5"):
        blobs.keep(blob)
    with pytest.raises(RepositoryDamaged, match="holds other bytes"):
        blobs.read(HELLO)
