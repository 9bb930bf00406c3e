"""Where the agent lets itself be sent: to another place for a target, nowhere for metadata, and never in circles."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError

from agent.trust import WebFetcher
from agent.web import Web, WebError, redirected

TARGETS = {
    "/targets/one": "/bucket/one",
    "/targets/elsewhere": "{other}/bucket/one",
    "/targets/round": "/targets/round",
    "/targets/file": "file:///etc/hostname",
    "/metadata/1.root.json": "/bucket/one",
}


class Sends(BaseHTTPRequestHandler):
    """Redirects as the table says, and answers below /bucket."""

    protocol_version = "HTTP/1.1"
    other = ""

    def do_GET(self) -> None:
        place = TARGETS.get(self.path)
        body = b"the bytes" if place is None else b"see there"
        self.send_response(200 if place is None else 302)
        if place is not None:
            self.send_header("Location", place.format(other=Sends.other))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def url() -> Iterator[str]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Sends) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    Sends.other = f"http://127.0.0.1:{servers[1].server_port}"
    yield f"http://127.0.0.1:{servers[0].server_port}"
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def fetcher(url: str, tmp_path: Path) -> Iterator[WebFetcher]:
    web = Web(agent="test")
    made = WebFetcher(web, tmp_path)
    made.follows = f"{url}/targets/"
    yield made
    web.close()


@pytest.mark.parametrize("name", ["one", "elsewhere"])
def test_a_target_may_be_somewhere_else(url: str, fetcher: WebFetcher, name: str) -> None:
    with fetcher.download_file(f"{url}/targets/{name}", 100) as file:
        assert file.read() == b"the bytes"


def test_metadata_may_not(url: str, fetcher: WebFetcher) -> None:
    with pytest.raises(DownloadHTTPError) as refused:
        fetcher.fetch(f"{url}/metadata/1.root.json")
    assert refused.value.status_code == 302


def test_after_three_redirects_it_is_enough(url: str, fetcher: WebFetcher) -> None:
    with pytest.raises(DownloadHTTPError) as refused:
        fetcher.fetch(f"{url}/targets/round")
    assert refused.value.status_code == 302


def test_only_the_web_is_followed(url: str, fetcher: WebFetcher) -> None:
    with pytest.raises(Exception, match=r"is no http\(s\) address"):
        fetcher.fetch(f"{url}/targets/file")


def test_from_tls_nobody_is_sent_to_a_place_without() -> None:
    assert redirected("https://a/targets/x", "/y") == "https://a/y"
    assert redirected("http://a/targets/x", "https://b/y") == "https://b/y"
    with pytest.raises(WebError, match="without TLS"):
        redirected("https://a/targets/x", "http://b/y")
