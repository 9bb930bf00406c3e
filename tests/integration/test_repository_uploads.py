"""Uploads in pieces on a real disk: who may send, what stays, what is swept."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from repo_signing.errors import CommitFailed, UnknownUpload, UploadBusy, UploadTooLarge
from repo_signing.repository import SignedRepository
from tests.simulators.repository import RepositoryHome


class CutStream(io.RawIOBase):
    """Gives some bytes, then the connection is gone."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int = -1) -> bytes:
        if not self._content:
            raise ConnectionResetError("reset by peer")
        given, self._content = self._content[:size], b""
        return given


@pytest.fixture
def repository(tmp_path: Path) -> SignedRepository:
    return RepositoryHome.create(tmp_path / "home").open()


def test_what_arrived_before_a_cut_stays_and_counts_in_the_digest(repository: SignedRepository) -> None:
    uploads = repository.uploads
    upload = uploads.begin()
    with pytest.raises(CommitFailed, match="did not arrive whole"):
        uploads.append(upload, CutStream(b"first "), offset=0, limit=None)  # type: ignore[arg-type]
    assert uploads.offset(upload) == 6
    assert uploads.append(upload, io.BytesIO(b"second"), offset=6, limit=None) == 12
    blob = uploads.complete(upload, sha256=hashlib.sha256(b"first second").hexdigest())
    assert repository.staged(upload) == blob
    with repository.open_staged(blob) as stream:
        assert stream.read() == b"first second"


def test_one_at_a_time_sends(repository: SignedRepository) -> None:
    uploads = repository.uploads
    upload = uploads.begin()

    class Meanwhile(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            with pytest.raises(UploadBusy):
                uploads.append(upload, io.BytesIO(b"x"), offset=0, limit=None)
            return super().read(size)

    assert uploads.append(upload, Meanwhile(b"whole"), offset=0, limit=None) == 5


def test_no_more_than_the_limit_is_written(repository: SignedRepository) -> None:
    upload = repository.uploads.begin()
    with pytest.raises(UploadTooLarge):
        repository.uploads.append(upload, io.BytesIO(b"x" * 11), offset=0, limit=10)
    assert repository.uploads.offset(upload) == 0


def test_only_ids_name_an_upload(repository: SignedRepository) -> None:
    for name in ("../../lock", "upl_x", ""):
        with pytest.raises(UnknownUpload):
            repository.uploads.offset(name)


def test_an_upload_that_nobody_goes_on_with_is_swept_after_a_day(repository: SignedRepository) -> None:
    upload = repository.uploads.begin()
    now = datetime.now(UTC)
    assert repository.recover(now=now + timedelta(hours=23)) == []
    assert [one.kind for one in repository.recover(now=now + timedelta(hours=25))] == ["stale_upload"]
    with pytest.raises(UnknownUpload):
        repository.uploads.offset(upload)
