"""Log bundles in a bucket: taken in by one server, given by another; what no row knows is put away in both places."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import LogsTooLarge
from repo_signing.bucket import Bucket, BucketAddress, BucketFailed
from store.log_files import KEPT, LogFiles
from tests.simulators.object_stores import S3Server

CONTENT = bytes(range(256)) * 4_000  # 1 MB
NAME = "cmd_1.bundle"


@pytest.fixture
def address(s3: S3Server) -> BucketAddress:
    return s3.new_bucket()


@pytest.fixture
def first(address: BucketAddress, tmp_path: Path) -> LogFiles:
    return server(tmp_path / "first", address)


@pytest.fixture
def second(address: BucketAddress, tmp_path: Path) -> LogFiles:
    return server(tmp_path / "second", address)


def server(folder: Path, address: BucketAddress) -> LogFiles:
    """A server with a disk of its own before that bucket."""
    return LogFiles(lambda org: folder / org, lambda org: Bucket(address.below(org)))


def take(files: LogFiles, content: bytes = CONTENT, org: str = "acme") -> None:
    with files.stage(org, limit=len(CONTENT)) as staged:
        for start in range(0, len(content), 65_536):
            staged.write(content[start : start + 65_536])
        assert staged.sha256 == hashlib.sha256(content).hexdigest()
        staged.keep(NAME)


def keys(address: BucketAddress) -> list[str]:
    return sorted(entry.key for entry in Bucket(address).list(""))


def test_what_one_server_took_in_another_gives_and_each_organisation_has_its_own(
    first: LogFiles, second: LogFiles, address: BucketAddress
) -> None:
    take(first)
    take(first, b"of another", org="beta")
    assert keys(address) == [f"acme/logs/{NAME}", f"beta/logs/{NAME}"]
    for org, content in (("acme", CONTENT), ("beta", b"of another")):
        path = second.fetch(org, NAME)
        assert path is not None
        assert path.read_bytes() == content
    assert second.fetch("gamma", NAME) is None


def test_a_bundle_that_is_removed_is_in_the_bucket_no_more(
    first: LogFiles, second: LogFiles, address: BucketAddress
) -> None:
    take(first)
    second.remove("acme", NAME)
    assert keys(address) == []
    assert second.fetch("acme", NAME) is None


def test_a_bundle_that_is_too_large_leaves_nothing(first: LogFiles, address: BucketAddress, tmp_path: Path) -> None:
    with pytest.raises(LogsTooLarge):
        take(first, CONTENT + b"1")
    assert keys(address) == []
    assert list((tmp_path / "first" / "acme").iterdir()) == []


def test_a_bucket_that_does_not_answer_leaves_nothing(
    first: LogFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise BucketFailed("no answer")

    monkeypatch.setattr("repo_signing.bucket.Bucket.send", away)
    with pytest.raises(BucketFailed):
        take(first)
    assert list((tmp_path / "first" / "acme").iterdir()) == []


def test_what_no_row_came_to_know_is_found_after_a_day_and_removed_in_both_places(
    first: LogFiles, address: BucketAddress, tmp_path: Path
) -> None:
    take(first)
    now = datetime.now(UTC)
    assert first.left_over("acme", now) == []
    long_ago = (now - KEPT - timedelta(minutes=1)).timestamp()
    os.utime(tmp_path / "first" / "acme" / NAME, (long_ago, long_ago))
    assert first.left_over("acme", now) == [NAME]
    first.remove("acme", NAME)
    assert keys(address) == []
    assert first.left_over("acme", now) == []
