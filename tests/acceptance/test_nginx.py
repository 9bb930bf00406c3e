"""nginx with what `publish repo nginx` prints, before a real server: clients, headers, hostile paths, withdrawal."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError

import pytest

from tests.acceptance.conftest import BIN, Home
from tests.databases import Databases
from tests.simulators.debian import NotToBeHad
from tests.simulators.listening import free_port
from tests.simulators.nginx import Nginx, running_nginx
from tests.simulators.tuf_clients import Agent, PythonTuf

# What operators have in the same file and what must not reach the repository.
ELSEWHERE: Final = """
  gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; expires 1h; charset utf-8; charset_types *; autoindex on;
  open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s; add_header X-Site press;
"""
COMPARED: Final = ("content-type", "content-length", "content-range", "content-encoding", "cache-control", "expires")
SECRET: Final = b"nobody may read this"


@dataclass
class Site:
    """A home, its server, and nginx before it; ``pushed`` is an artifact of two MiB that went in through nginx."""

    home: Home
    nginx: Nginx
    content: bytes
    pushed: Any

    @property
    def metadata_url(self) -> str:
        return f"{self.nginx.url}/tuf/acme/metadata/"

    @property
    def targets_url(self) -> str:
        return f"{self.nginx.url}/tuf/acme/targets/"

    @property
    def server_url(self) -> str:
        return f"http://{self.home.environ['WAVEGATE_LISTEN']}"

    @property
    def target(self) -> str:
        return f"targets/fw/1/any/{self.pushed['sha256']}.fw.bin"

    @property
    def repository(self) -> Path:
        return self.home.folder / "orgs" / "acme" / "repository"

    def both(self, path: str, **headers: str) -> tuple[Answer, Answer]:
        """What nginx and the server itself answer below ``/tuf/acme``."""
        return tuple(get(f"{url}/tuf/acme/{path}", **headers) for url in (self.nginx.url, self.server_url))  # type: ignore[return-value]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def compared(self) -> dict[str, str]:
        return {name: self.headers[name] for name in COMPARED if name in self.headers}


def get(url: str, **headers: str) -> Answer:
    asked = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return Answer(answer.status, lowered(answer.headers), answer.read())
    except HTTPError as error:
        with error:
            return Answer(error.code, lowered(error.headers), error.read())


def lowered(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def raw(port: int, target: bytes) -> bytes:
    """The whole answer to a request line that no client would send."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: line.recv(65_536), b""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    home, port = Home(Databases(None), folder / "home" / "wavegate", "--org", "acme"), free_port()
    try:
        server = home.serve(WAVEGATE_PUBLIC_URL=f"http://127.0.0.1:{port}")
        home.environ["WAVEGATE_LISTEN"] = server.url.removeprefix("http://")
        printed = home.publish("repo", "nginx", check=False)
        assert (printed.returncode, printed.stderr) == (0, "")
        try:
            with running_nginx(folder / "nginx", printed.stdout, more=ELSEWHERE, port=port) as nginx:
                home.url = nginx.url
                content = os.urandom(2 * 1024**2)
                (folder / "fw.bin").write_bytes(content)
                pushed = home.publish("push", folder / "fw.bin", "--product", "fw", "--version", "1")
                yield Site(home, nginx, content, pushed)
        except NotToBeHad as why:
            if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
                pytest.fail(str(why))
            pytest.skip(str(why))
    finally:
        home.end()


def test_a_poll_and_a_new_state_have_the_headers_of_the_server(site: Site) -> None:
    snapshot = json.loads((site.repository / "metadata" / "timestamp.json").read_bytes())["signed"]["meta"]
    version = snapshot["snapshot.json"]["version"]
    year = "public, max-age=31536000, immutable"
    hashed = f"targets/{site.pushed['sha256']}.fw/1/any/fw.bin"
    for path, status, kind, kept, length in (
        ("metadata/timestamp.json", 200, "application/json", "no-cache", None),
        ("metadata/1.root.json", 200, "application/json", year, None),
        (f"metadata/{version}.snapshot.json", 200, "application/json", year, None),
        (site.target, 200, "application/octet-stream", year, 2 * 1024**2),
        (hashed, 200, "application/octet-stream", year, 2 * 1024**2),
    ):
        nginx, server = site.both(path, Accept_Encoding="gzip")
        assert (nginx.status, nginx.body) == (status, server.body), path
        told = {"content-type": kind, "content-length": str(length or len(nginx.body)), "cache-control": kept}
        # Werkzeug writes the same directives in another order, and says the year a second time.
        said = {**server.compared, "cache-control": ordered(server.headers["cache-control"])}
        said.pop("expires", None)
        assert nginx.compared == told, path
        assert said == {**told, "cache-control": ordered(kept)}, path
        assert ("etag" in nginx.headers, "etag" in server.headers) == (True, True)
        for answer, url in ((nginx, site.nginx.url), (server, site.server_url)):
            again = get(f"{url}/tuf/acme/{path}", If_None_Match=answer.headers["etag"])
            assert (again.status, again.body) == (304, b""), (path, url)
    nginx, server = site.both("metadata/2.root.json")
    assert (nginx.status, nginx.body, nginx.headers.get("cache-control")) == (404, b"", None)
    assert (server.status, server.body, server.headers.get("cache-control")) == (404, b"", None)


def ordered(directives: str) -> str:
    return ", ".join(sorted(directives.split(", "), key=["no-cache", "public", "max-age=31536000", "immutable"].index))


def test_a_part_of_a_target_is_answered_as_by_the_server(site: Site) -> None:
    size = len(site.content)
    for wanted, part, place in (
        ("bytes=1000-1999", site.content[1000:2000], f"bytes 1000-1999/{size}"),
        ("bytes=-5", site.content[-5:], f"bytes {size - 5}-{size - 1}/{size}"),
        (f"bytes={size - 1}-", site.content[-1:], f"bytes {size - 1}-{size - 1}/{size}"),
    ):
        for answer in site.both(site.target, Range=wanted):
            assert (answer.status, answer.body, answer.headers["content-range"]) == (206, part, place), wanted
    for answer in site.both(site.target, Range=f"bytes={size}-"):
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
    etag = site.both(site.target)[0].headers["etag"]
    resumed = get(f"{site.nginx.url}/tuf/acme/{site.target}", Range="bytes=7-", If_Range=etag)
    assert (resumed.status, resumed.body) == (206, site.content[7:])
    changed = get(f"{site.nginx.url}/tuf/acme/{site.target}", Range="bytes=7-", If_Range='"other"')
    assert (changed.status, changed.body) == (200, site.content)
    many = get(f"{site.nginx.url}/tuf/acme/{site.target}", Range="bytes=0-0,0-0,0-0,5-9")
    assert (many.status, many.body) == (200, site.content), "several ranges are the whole"


def test_nothing_but_signed_files_is_handed_out(site: Site) -> None:
    digest = hashlib.sha256(SECRET).hexdigest()
    orgs = site.repository.parent.parent
    hidden = [
        site.repository / "staging" / f"upl_1.{digest}",
        site.repository / "metadata" / ".tmp-0011223344556677",
        site.repository / "metadata" / "timestamp.json.bak",
        site.repository / "drafts" / "1.root.json",
        site.repository / "blobs" / digest[:2] / f"{digest}.part",
        orgs / "other" / "repository" / "metadata" / "timestamp.json",
        orgs / "other" / "repository" / "blobs" / digest[:2] / digest,
        site.home.folder / "1.root.json",
    ]
    for path in hidden:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SECRET)
    base, blob = b"/tuf/acme", digest.encode()
    up = (b"..", b"%2e%2e", b"%2E.", b"..%2f..", b"%252e%252e", b"..\\..", b"..;", b"%c0%ae%c0%ae", b"..%00")
    asked = [
        b"/tuf/acme/metadata/%s/%s" % (dots, rest)
        for dots in up
        for rest in (
            b"lock",
            b"staging/upl_1.%s" % blob,
            b"drafts/1.root.json",
            b"../keys/keyring.json",
            b"../../../1.root.json",
        )
    ]
    asked += [
        b"/tuf/acme/targets/a/b/%s/%s.x/%s" % (dots, blob, rest) for dots in up for rest in (b"", b"..", b"%00", b"a")
    ]
    asked += [base + b"/" + rest for rest in (b"", b"metadata", b"metadata/", b"targets", b"targets/", b"blobs/")]
    asked += [base + b"/blobs/%s/%s" % (blob[:2], blob), base + b"/lock", base + b"/staging/", base + b"/targets/lock"]
    asked += [base + b"/targets/a/b/c/%s.x" % blob, base + b"/targets/%s.a/b/c/x" % blob, base + b"/targets/%s" % blob]
    asked += [base + b"/targets/a/b/c/%s.part" % blob, base + b"/targets/a/b/c/%s.x%%0a" % blob]
    asked += [
        base + b"/metadata/" + name for name in (b".tmp-0011223344556677", b"timestamp.json.bak", b"1.root.json%0a")
    ]
    asked += [
        base + b"/metadata/" + name
        for name in (b"1.root.json%00", b"1.root.json/", b"1.root.json/x", b"%00", b"0.root.json")
    ]
    asked += [
        b"/tuf/other/metadata/timestamp.json",
        b"/tuf/other/targets/a/b/c/%s.x" % blob,
        b"/tuf/",
        b"/tuf",
        b"/tuf/acme",
    ]
    asked += [b"/tuf/acme/../other/metadata/timestamp.json", b"/tuf//other/metadata/timestamp.json", b"//etc/passwd"]
    asked += [b"/tuf/acme/metadata/../../other/metadata/timestamp.json", b"/metrics", b"/readyz", b"/api/../metrics"]
    asked += [b"/docs/../readyz", b"/docs../readyz", b"/api../metrics", b"http://localhost/tuf/acme/lock"]
    try:
        for target in asked:
            answer = raw(site.nginx.port, target)
            status = answer.partition(b"\r\n")[0]
            assert status.split()[1] in (b"400", b"404"), (target, status)
            assert SECRET not in answer, target
            assert b"Index of" not in answer, target
    finally:
        for path in hidden:
            path.unlink()
        shutil.rmtree(orgs / "other")


def test_a_path_that_only_looks_odd_is_what_it_means(site: Site) -> None:
    # nginx reads these as the name itself; what they lead to is the signed file and no other.
    root = (site.repository / "metadata" / "1.root.json").read_bytes()
    for target in (
        b"/tuf/acme/x/../metadata/1.root.json",
        b"/tuf//acme/metadata/%31.root.json",
        b"/tuf/acme/metadata/1.root.json?x=/../lock",
    ):
        answer = raw(site.nginx.port, target)
        assert answer.startswith(b"HTTP/1.1 200 OK"), target
        assert answer.endswith(root), target


def test_nothing_but_reading_is_answered(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"):
        asked = urllib.request.Request(f"{site.metadata_url}timestamp.json", method=method)
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=20)
        with refused.value:
            assert (refused.value.code, refused.value.read()) == (404, b""), method
    asked = urllib.request.Request(f"{site.metadata_url}timestamp.json", method="HEAD")
    with urllib.request.urlopen(asked, timeout=20) as answer:
        assert (answer.status, answer.headers["Cache-Control"], answer.read()) == (200, "no-cache", b"")


def test_api_and_documentation_are_passed_on(site: Site) -> None:
    for path, start in (
        ("/healthz", b""),
        ("/docs", b"<!doctype html>"),
        ("/docs/start.js", b"import "),
        ("/openapi.json", b"{"),
    ):
        answer = get(site.nginx.url + path)
        assert (answer.status, answer.body.startswith(start)) == (200, True), path
    told = get(f"{site.nginx.url}/api/v1/artifacts")
    assert (told.status, json.loads(told.body)["error"]["code"]) == (401, "unauthenticated")
    assert site.home.publish("artifact", "list")["items"][0]["sha256"] == site.pushed["sha256"]


def test_a_device_enrols_and_polls_through_it(site: Site, tmp_path: Path) -> None:
    site.home.log_in()
    site.home.publish("group", "create", "field")
    token = site.home.publish("enroll-token", "create", "line", "--group", "field", key=False)["token"]
    call: list[str | Path] = [BIN / "wavegate-agent", "enroll", "--url", site.nginx.url, "--token", token]
    call += ["--name", "press-1", "--home", tmp_path / "device", "-o", "json"]
    enrolled = subprocess.run(call, capture_output=True, text=True)
    assert enrolled.returncode == 0, enrolled.stderr
    polled = subprocess.run(
        [BIN / "wavegate-agent", "run", "--once", "--home", tmp_path / "device"], capture_output=True, text=True
    )
    assert polled.returncode == 0, polled.stderr
    assert (tmp_path / "device" / "metadata" / "timestamp.json").read_bytes() == (
        site.repository / "metadata" / "timestamp.json"
    ).read_bytes()


def test_what_is_replaced_or_withdrawn_is_so_at_once(site: Site, tmp_path: Path) -> None:
    (tmp_path / "bad.bin").write_bytes(b"bad")
    before = get(f"{site.metadata_url}timestamp.json")
    bad = site.home.publish("push", tmp_path / "bad.bin", "--product", "fw", "--version", "2")
    asked = f"{site.targets_url}fw/2/any/{bad['sha256']}.bad.bin"
    assert get(asked).body == b"bad"
    after = get(f"{site.metadata_url}timestamp.json", If_None_Match=before.headers["etag"])
    assert (after.status, after.body != before.body) == (200, True)
    site.home.publish("artifact", "withdraw", bad["id"], "--reason", "wrong key")
    gone = get(asked)
    assert (gone.status, gone.body) == (404, b"")
    third = get(f"{site.metadata_url}timestamp.json", If_None_Match=after.headers["etag"])
    assert (third.status, third.body != after.body) == (200, True)


def test_clients_refresh_and_download_while_the_server_is_down(site: Site, tmp_path: Path) -> None:
    for process in site.home.running():
        os.killpg(process.pid, 9)
        process.wait()
    root = Path(site.home.made["root"]).read_bytes()
    for kind in (PythonTuf, Agent):
        client = kind(tmp_path / kind.__name__, root)
        for _ in range(2):
            got = client.poll(site, [site.pushed["target_path"]])
            assert got == {site.pushed["target_path"]: site.content}
    assert get(f"{site.nginx.url}/healthz").status == 502
