"""`publish` from the outside: init, serve, push, and what stock clients see."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from tests.acceptance.conftest import BIN, Home

SBOM = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []})


class CountingFetcher(FetcherInterface):
    """Python-tuf's own fetcher, with what it asked and got counted."""

    def __init__(self) -> None:
        self._inner = Urllib3Fetcher()
        self.asked: list[tuple[str, int]] = []

    def _fetch(self, url: str):  # type: ignore[no-untyped-def]
        try:
            body = b"".join(self._inner.fetch(url))
        except DownloadHTTPError:
            self.asked.append((url.rsplit("/", 1)[-1], 0))
            raise
        self.asked.append((url.rsplit("/", 1)[-1], len(body)))
        yield body


def client(home: Home, folder: Path, fetcher: FetcherInterface | None = None) -> Updater:
    """A stock python-tuf client that was given the root and the URL, nothing else."""
    folder.mkdir(exist_ok=True)
    (folder / "targets").mkdir(exist_ok=True)
    base = f"{home.url}/tuf/{home.made['org']}"
    return Updater(
        metadata_dir=str(folder),
        metadata_base_url=f"{base}/metadata/",
        target_dir=str(folder / "targets"),
        target_base_url=f"{base}/targets/",
        bootstrap=Path(home.made["root"]).read_bytes(),
        fetcher=fetcher,
        config=UpdaterConfig(),
    )


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_init_tells_all_that_is_needed_and_a_second_init_changes_nothing(make_home: Callable[..., Home]) -> None:
    home = make_home(fresh=True)
    assert set(home.made) == {"home", "org", "root", "root_sha256", "admin", "api_key"}
    assert set(home.made["admin"]) == {"email", "password"}
    assert hashlib.sha256(Path(home.made["root"]).read_bytes()).hexdigest() == home.made["root_sha256"]
    before = tree(home.folder)
    again = home.publish("init", check=False)
    assert again.returncode == 1
    assert "already" in again.stderr
    assert tree(home.folder) == before


def test_every_secret_file_is_for_its_owner_alone_and_no_key_lies_open(make_home: Callable[..., Home]) -> None:
    home = make_home(fresh=True)
    assert home.folder.stat().st_mode & 0o077 == 0
    keys = [path for path in home.folder.rglob("*") if path.is_file() and ("key" in path.name or path.suffix == ".pem")]
    assert len(keys) >= 8
    for path in keys:
        assert path.stat().st_mode & 0o077 == 0, path
        content = path.read_bytes()
        assert b"BEGIN PRIVATE KEY" not in content, path
        assert b"BEGIN EC PRIVATE KEY" not in content, path
    offline = {path.name for path in (home.folder / "orgs" / "acme" / "offline-keys").iterdir()}
    assert {"root.pem", "targets.pem"} <= offline


def test_serve_says_where_everything_is_and_ends_cleanly_on_sigterm(
    make_home: Callable[[], Home], wait_until: Callable[[Callable[[], bool]], bool]
) -> None:
    home = make_home()
    server = home.serve()
    told = server.log.read_text()
    assert server.url in told
    assert server.device_endpoint in told
    assert server.terminate() == 0
    assert not server.answers()
    assert wait_until(lambda: subprocess.run(["pgrep", "-g", str(server.process.pid)], check=False).returncode == 1)


def test_an_unknown_setting_keeps_the_server_from_starting(make_home: Callable[[], Home]) -> None:
    home = make_home()
    environ = {**home.environ, "WAVEGATE_LISTENN": "127.0.0.1:1"}
    done = subprocess.run([BIN / "publish", "serve"], env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert "WAVEGATE_LISTENN is no setting" in done.stderr


def test_the_offline_keys_may_be_moved_away_and_publishing_goes_on(home: Home, tmp_path: Path) -> None:
    (home.folder / "orgs" / "acme" / "offline-keys").rename(tmp_path / "safe")
    (tmp_path / "a.bin").write_bytes(b"a")
    told = home.publish("push", tmp_path / "a.bin", "--product", "fw", "--version", "1")
    assert told["target_path"] == "fw/1/any/a.bin"


def test_a_push_is_verified_by_a_stock_client_given_only_the_root(home: Home, tmp_path: Path) -> None:
    artifact, sbom = tmp_path / "fw.bin", tmp_path / "fw.cdx.json"
    artifact.write_bytes(b"\x7fELF" + bytes(range(256)) * 5000)
    sbom.write_text(SBOM)
    push = ("push", artifact, "--product", "fw", "--version", "1.2.3", "--platform", "linux-amd64", "--sbom", sbom)
    told = home.publish(*push)
    assert set(told) == {"id", "target_path", "sha256", "length", "serial", "sboms"}
    assert home.publish(*push) == told
    updater = client(home, tmp_path / "client")
    for path, content in ((told["target_path"], artifact), (told["sboms"][0]["target_path"], sbom)):
        found = updater.get_targetinfo(path)
        assert found is not None
        assert Path(updater.download_target(found)).read_bytes() == content.read_bytes()


def test_other_bytes_for_a_pushed_path_are_a_conflict_with_exit_code_5(home: Home, tmp_path: Path) -> None:
    artifact = tmp_path / "fw.bin"
    artifact.write_bytes(b"one")
    home.publish("push", artifact, "--product", "fw", "--version", "1")
    artifact.write_bytes(b"two")
    done = home.publish("push", artifact, "--product", "fw", "--version", "1", check=False)
    assert done.returncode == 5
    assert "fw/1/any/fw.bin" in done.stderr


def test_a_client_with_nothing_new_makes_two_requests_of_at_most_400_bytes(home: Home, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    told = home.publish("push", tmp_path / "a.bin", "--product", "fw", "--version", "1")
    assert client(home, tmp_path / "client").get_targetinfo(told["target_path"]) is not None
    fetcher = CountingFetcher()
    again = client(home, tmp_path / "client", fetcher)
    again.refresh()
    assert again.get_targetinfo(told["target_path"]) is not None
    assert [name for name, _ in fetcher.asked] == ["2.root.json", "timestamp.json"]
    assert sum(length for _, length in fetcher.asked) <= 400


def test_a_large_artifact_streams_through_little_memory(make_home: Callable[[], Home], tmp_path: Path) -> None:
    """A quarter of a GiB here; `make bench` shows a whole one."""
    home = make_home()
    home.serve()
    artifact = tmp_path / "large.bin"
    with artifact.open("wb") as out:
        for block in range(256):
            out.write(block.to_bytes(4, "big") * 262_144)
    told = home.publish("push", artifact, "--product", "fw", "--version", "1")
    assert told["length"] == 268_435_456
    peaks = [_peak_mib(pid) for pid in _group(home)]
    assert max(peaks) <= 150, peaks


def test_sixteen_publishers_over_two_servers_lose_nothing(make_home: Callable[[], Home], tmp_path: Path) -> None:
    home = make_home()
    servers = [home.serve(), home.serve()]
    metadata = home.folder / "orgs" / "acme" / "repository" / "metadata"
    seen: dict[str, str] = {}
    torn: list[str] = []
    serials: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        """Reads what clients read, all the while: never torn, never backwards, no versioned file ever rewritten."""
        while not stop.is_set():
            stamp = json.loads((metadata / "timestamp.json").read_bytes())
            serials.append(stamp["signed"]["version"])
            for path in metadata.glob("[0-9]*.json"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                if seen.setdefault(path.name, digest) != digest:
                    torn.append(path.name)
            time.sleep(0.05)

    def publisher(number: int) -> list[tuple[str, int]]:
        answers = []
        for count in range(10):
            url = servers[(number + count) % 2].url
            body = f"artifact {number} {count}".encode()
            upload = _call(home, f"{url}/api/v1/artifacts/content", "PUT", body)
            fields = {"product": f"p{number}", "version": f"1.{count}", "file_name": "a.bin"}
            published = {"upload_id": upload["upload_id"], **fields}
            told = _call(home, f"{url}/api/v1/artifacts", "POST", json.dumps(published).encode())
            answers.append((told["target_path"], told["serial"]))
        return answers

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            acknowledged = [one for answers in pool.map(publisher, range(16)) for one in answers]
    finally:
        stop.set()
        watcher.join()
    assert len({path for path, _ in acknowledged}) == 160
    assert torn == []
    assert serials == sorted(serials)
    updater = client(home, tmp_path / "client")
    for path, serial in acknowledged:
        found = updater.get_targetinfo(path)
        assert found is not None, path
        assert found.custom["id"].startswith("art_")
        assert serial > 1
    listed = home.publish("repo", "check")
    assert listed == {"ok": True, "findings": []}
    assert home.publish("repo", "status")["artifacts"] == 160


@pytest.mark.parametrize("lives", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_killing_the_server_amid_publishes_loses_nothing_that_was_acknowledged(
    make_home: Callable[[], Home], tmp_path: Path, lives: int
) -> None:
    home = make_home()
    acknowledged: list[str] = []
    for life in range(lives):
        server = home.serve()
        home.url = server.url
        stop = threading.Event()

        def publisher(number: int, life: int = life, url: str = server.url, stop: threading.Event = stop) -> None:
            for count in range(1000):
                if stop.is_set():
                    return
                try:
                    upload = _call(home, f"{url}/api/v1/artifacts/content", "PUT", f"{life} {number} {count}".encode())
                    fields = {"product": "fw", "version": f"{life}.{number}.{count}", "file_name": "a.bin"}
                    published = json.dumps({"upload_id": upload["upload_id"], **fields}).encode()
                    acknowledged.append(_call(home, f"{url}/api/v1/artifacts", "POST", published)["target_path"])
                except OSError:
                    return

        threads = [threading.Thread(target=publisher, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1.0 + life * 0.37)
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
    assert len(acknowledged) > 10
    server = home.serve()
    home.url = server.url
    assert home.publish("repo", "check", "--repair")["ok"]
    updater = client(home, tmp_path / "client")
    for path in acknowledged:
        assert updater.get_targetinfo(path) is not None, path
    signed = {one["target_path"] for one in _all(home, "/artifacts")}
    assert set(acknowledged) <= signed
    for path in signed:
        assert updater.get_targetinfo(path) is not None, path


def _call(home: Home, url: str, method: str, body: bytes | None = None) -> Any:
    headers = {"Authorization": f"Bearer {home.made['api_key']}"}
    if body is not None:
        headers["Content-Type"] = "application/octet-stream" if method == "PUT" else "application/json"
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def _all(home: Home, path: str) -> list[dict[str, str]]:
    items: list[dict[str, str]] = []
    cursor = ""
    while True:
        answer = _call(home, f"{home.url}/api/v1{path}?limit=200{cursor}", "GET")
        items += answer["items"]
        if answer["next_cursor"] is None:
            return items
        cursor = f"&cursor={answer['next_cursor']}"


def _group(home: Home) -> list[int]:
    groups = [process.pid for process in home.running()]
    found = subprocess.run(["pgrep", "-g", ",".join(map(str, groups))], capture_output=True, text=True, check=True)
    return [int(pid) for pid in found.stdout.split()]


def _peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
