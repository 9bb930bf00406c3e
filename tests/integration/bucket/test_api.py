"""Two whole servers with a database and a bucket in common, over HTTP: as they stand behind a load balancer."""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from agent.trust import WebFetcher
from agent.web import Web
from api.app import create_app
from api.backup import back_up, restore
from api.settings import read_settings
from api.setup import Initialised, initialise
from api.wiring import Wavegate, open_wavegate
from repo_signing.bucket import BucketAddress, BucketFailed
from repo_signing.errors import BackupRefused, RepositoryDamaged, StorageUnusable
from repo_signing.mirror import Mirror
from tests.integration.api.tour_reports import send_logs
from tests.simulators.bucket_home import BucketHome, settings_of
from tests.simulators.object_stores import S3Server
from tests.simulators.repository import StockClient


@dataclass
class Two:
    """A home that ``publish init`` made, and a second server from a copy of it without its repository."""

    made: Initialised
    address: BucketAddress
    wirings: list[Wavegate]
    clients: list[FlaskClient]

    def call(self, at: int, method: str, path: str, body: object = None, **more: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.made.api_key}"} | more.pop("headers", {})
        if body is not None:
            more["json"] = body
        return self.clients[at].open(f"/api/v1{path}", method=method, headers=headers, **more)

    def upload(self, at: int, content: bytes) -> str:
        answer = self.call(at, "PUT", "/artifacts/content", data=content)
        assert answer.status_code == 201, answer.text
        upload_id: str = answer.get_json()["upload_id"]
        return upload_id

    def publish(self, at: int, version: str, upload_id: str) -> dict[str, Any]:
        fields = {"product": "fw", "version": version, "platform": "any", "file_name": "fw.bin"}
        answer = self.call(at, "POST", "/artifacts", {"upload_id": upload_id, **fields})
        assert answer.status_code == 201, answer.text
        told: dict[str, Any] = answer.get_json()
        return told

    def served(self, at: int, sha256: str, version: str = "1.0.0", **headers: str) -> TestResponse:
        return self.clients[at].get(
            f"/tuf/acme/targets/fw/{version}/any/{sha256}.fw.bin", headers=headers, buffered=True
        )


@pytest.fixture
def two(moto: S3Server, empty_postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    monkeypatch.setattr("repo_signing.shared_storage.FOLLOW_SECONDS", 0.0)  # readers may be a second behind otherwise
    address = moto.new_bucket()
    first, second = tmp_path / "first", tmp_path / "second"
    settings = read_settings(settings_of(first, empty_postgresql_url, address))
    made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
    shutil.copytree(first, second, ignore=shutil.ignore_patterns("repository"))
    redirecting = settings_of(second, empty_postgresql_url, address, WAVEGATE_TARGET_DOWNLOADS="redirect")
    wirings = [open_wavegate(settings), open_wavegate(read_settings(redirecting))]
    yield Two(made, address, wirings, [create_app(wiring).test_client() for wiring in wirings])
    for wiring in wirings:
        wiring.close()


def test_an_upload_at_one_server_is_published_by_the_other(two: Two) -> None:
    content = b"firmware"
    told = two.publish(1, "1.0.0", two.upload(0, content))
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    answer = two.served(0, told["sha256"])
    assert (answer.status_code, answer.data) == (200, content)
    assert two.wirings[0].repository.serial() == 2


def test_a_client_may_ask_one_server_for_what_the_other_just_signed(two: Two) -> None:
    before = two.wirings[1].repository.serial()
    two.publish(0, "1.0.0", two.upload(0, b"one"))
    answer = two.clients[1].get(f"/tuf/acme/metadata/{before + 1}.snapshot.json", buffered=True)
    assert (answer.status_code, answer.get_json()["signed"]["version"]) == (200, before + 1)
    assert two.clients[1].get("/tuf/acme/metadata/99.snapshot.json").status_code == 404


def test_a_server_says_that_its_bucket_does_not_answer(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise BucketFailed("no answer")

    assert "storage" not in two.clients[0].get("/readyz").get_json()["checks"]
    monkeypatch.setattr("repo_signing.bucket.Bucket.get", away)
    told = two.clients[0].get("/readyz")
    assert (told.status_code, told.get_json()["status"]) == (200, "degraded")
    assert "no answer" in told.get_json()["checks"]["storage"]


def test_a_log_bundle_that_one_server_took_in_is_downloaded_from_the_other(two: Two) -> None:
    press = two.call(0, "POST", "/devices", {"name": "press-1"}).get_json()["id"]
    asked = two.call(1, "POST", f"/devices/{press}/logs", {}).get_json()["id"]
    send_logs(two.wirings[0], press, asked, b"\x1f\x8b\x00bytes")
    answer = two.call(1, "GET", f"/logs/{asked}", buffered=True)
    assert (answer.status_code, answer.data, answer.mimetype) == (200, b"\x1f\x8b\x00bytes", "application/gzip")
    assert two.call(1, "DELETE", f"/logs/{asked}").status_code == 204
    gone = two.call(0, "GET", f"/logs/{asked}")
    assert (gone.status_code, gone.get_json()["error"]["code"]) == (404, "logs_not_here")


def test_sixteen_publishers_at_both_servers_lose_nothing(two: Two) -> None:
    def run(number: int) -> None:
        for turn in range(2):
            version = f"{number}.{turn}.0"
            two.publish((number + turn) % 2, version, two.upload(number % 2, version.encode()))

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(run, number) for number in range(16)]:
            done.result()
    expected = sorted(f"{number}.{turn}.0" for number in range(16) for turn in range(2))
    for wiring in two.wirings:
        assert sorted(record.version for record in wiring.repository.artifacts()) == expected
        assert sorted(record.version for record in wiring.artifacts.list(limit=100)) == expected
    device = StockClient(two.wirings[1].repository, two.made.home / "client", two.made.root.read_bytes())
    for version in expected:
        assert device.fetch(f"fw/{version}/any/fw.bin") == version.encode()


def test_ranges_of_a_large_target_come_from_the_bucket_or_the_copy_alike(two: Two) -> None:
    content = bytes(range(256)) * 40_000  # 10 MB: in parts, and handed on
    sha256 = two.publish(0, "1.0.0", two.upload(0, content))["sha256"]
    for is_here in (True, False):
        if not is_here:
            two.wirings[0].repository.blob_path(sha256).unlink()
        whole = two.served(0, sha256)
        assert (whole.status_code, hashlib.sha256(whole.data).hexdigest()) == (200, sha256)
        assert whole.headers["Accept-Ranges"] == "bytes"
        part = two.served(0, sha256, Range="bytes=1000000-1000009")
        assert (part.status_code, part.data) == (206, content[1_000_000:1_000_010])
        assert part.headers["Content-Range"] == "bytes 1000000-1000009/10240000"
        tail = two.served(0, sha256, Range="bytes=-5")
        assert (tail.status_code, tail.data) == (206, content[-5:])
        beyond = two.served(0, sha256, Range="bytes=10240000-")
        assert beyond.status_code == 416
        assert beyond.headers["Content-Range"] == "bytes */10240000"
        assert two.served(0, sha256, **{"If-None-Match": whole.headers["ETag"]}).status_code == 304
        if not is_here:
            assert not (two.wirings[0].settings.storage / "acme/repository/blobs" / sha256[:2] / sha256).exists()


def test_a_redirected_client_gets_the_bytes_from_the_bucket(two: Two) -> None:
    content = b"w" * 9_000_000
    sha256 = two.publish(0, "1.0.0", two.upload(0, content))["sha256"]
    small = two.publish(0, "2.0.0", two.upload(0, b"small"))["sha256"]
    answer = two.served(1, sha256)
    assert answer.status_code == 302
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Location"].startswith(two.address.endpoint)
    with urllib.request.urlopen(answer.headers["Location"]) as stream:
        assert hashlib.file_digest(io.BytesIO(stream.read()), "sha256").hexdigest() == sha256
    assert two.served(1, small, "2.0.0").data == b"small"
    assert two.served(1, "0" * 64).status_code == 404


def test_devices_and_stock_clients_follow_the_redirect(two: Two, tmp_path: Path) -> None:
    content = b"w" * 9_000_000
    sha256 = two.publish(0, "1.0.0", two.upload(0, content))["sha256"]
    server = make_server("127.0.0.1", 0, two.clients[1].application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        targets = f"http://127.0.0.1:{server.server_port}/tuf/acme/targets/"
        url = f"{targets}fw/1.0.0/any/{sha256}.fw.bin"
        agent = WebFetcher(Web(agent="test"), tmp_path)
        agent.follows = targets
        for fetcher in (agent, Urllib3Fetcher()):
            with fetcher.download_file(url, len(content)) as file:
                assert hashlib.sha256(file.read()).hexdigest() == sha256
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_backup_moves_a_repository_into_an_empty_bucket(
    two: Two, moto: S3Server, tmp_path: Path, empty_postgresql_url: str
) -> None:
    first, _ = two.publish(0, "1.0.0", two.upload(0, b"one")), two.publish(1, "2.0.0", two.upload(1, b"two"))
    backup = tmp_path / "backup.tar"
    back_up(two.wirings[0], backup, keys=True, database=False, now=datetime.now(UTC))
    here = read_settings(settings_of(tmp_path / "again", empty_postgresql_url, two.address))
    with pytest.raises(BackupRefused, match="holds a repository already"):
        restore(here, backup, now=datetime.now(UTC))
    there = read_settings(settings_of(tmp_path / "moved", empty_postgresql_url, moto.new_bucket()))
    done = restore(there, backup, now=datetime.now(UTC))
    assert (done.artifacts, done.serial > 1000) == (2, True)
    shutil.rmtree(tmp_path / "moved" / "orgs" / "acme" / "repository")
    wiring = open_wavegate(there)
    try:
        assert wiring.repository.serial() == done.serial
        assert wiring.repository.served("fw/1.0.0/any/fw.bin") == b"one"
        mirror = tmp_path / "mirror"
        folder = tmp_path / "moved" / "orgs" / "acme" / "repository"
        synced = Mirror(folder, mirror, kept_by=wiring.repository.storage).sync()
        assert synced.serial == done.serial
        assert (mirror / "targets/fw/1.0.0/any" / f"{first['sha256']}.fw.bin").read_bytes() == b"one"
    finally:
        wiring.close()


def test_a_bucket_that_holds_another_repository_is_refused(
    two: Two, moto: S3Server, tmp_path: Path, empty_postgresql_url: str
) -> None:
    other = moto.new_bucket()
    BucketHome(tmp_path / "other", other.below("acme"))
    copied = tmp_path / "third"
    shutil.copytree(two.made.home, copied, ignore=shutil.ignore_patterns("repository"))
    with pytest.raises(RepositoryDamaged, match="holds another repository than this home trusts"):
        open_wavegate(read_settings(settings_of(copied, empty_postgresql_url, other)))


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path, moto: S3Server, empty_postgresql_url: str) -> None:
    address = BucketAddress(url="s3://no-such-bucket/x", endpoint=moto.endpoint, region="us-east-1", allow_http=True)
    settings = read_settings(settings_of(tmp_path / "home", empty_postgresql_url, address))
    with pytest.raises((OSError, StorageUnusable), match="bucket"):
        initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
