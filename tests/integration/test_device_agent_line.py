"""What the agent's HTTP reads over a connection, in clear and over TLS: all of an answer, or nothing after its time."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.web import Limits, TooSlow, Web
from keys.device_ca import create_device_ca
from tests.simulators.devices import utc_now

KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 100_000
DRIPS = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000


class Peer:
    """Answers each request on each connection with the same bytes, at once or drop by drop."""

    def __init__(self, answer: bytes, tls: ssl.SSLContext | None) -> None:
        self.answer = answer
        self.connections = 0
        self._tls = tls
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/"

    def end(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                plain, _ = self._listener.accept()
                self.connections += 1
                with plain if self._tls is None else self._tls.wrap_socket(plain, server_side=True) as line:
                    self._answer(line)
            except OSError:  # ended, or the agent hung up
                continue

    def _answer(self, line: socket.socket) -> None:
        while line.recv(4096):
            if self.answer is DRIPS:
                for byte in self.answer:
                    if self._over.wait(0.02):
                        return
                    line.sendall(bytes([byte]))
            line.sendall(self.answer)
            if self.answer is CLOSED:
                return


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS, and the file of the CA that it is trusted by."""
    folder = tmp_path_factory.mktemp("tls")
    ca = create_device_ca(folder / "ca", now=utc_now())
    shown = ca.server_certificate(("127.0.0.1",), now=utc_now())
    (folder / "shown.pem").write_bytes(shown.private_key_pem + shown.chain_pem)
    (folder / "ca.pem").write_text(ca.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "shown.pem")
    return context, folder / "ca.pem"


@contextmanager
def peer(answer: bytes, tls: bool, certified: tuple[ssl.SSLContext, Path]) -> Iterator[tuple[Peer, Web]]:
    context, authority = certified
    there = Peer(answer, context if tls else None)
    web = Web(agent="test", tls_ca=str(authority))
    try:
        yield there, web
    finally:
        web.close()
        there.end()


def ask(web: Web, there: Peer, seconds: float = 20.0) -> bytes:
    with web.request("GET", there.url(), limits=Limits(seconds=seconds)) as answer:
        return b"".join(answer.pieces)


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_a_connection_is_kept_for_the_next_request(tls: bool, certified: tuple[ssl.SSLContext, Path]) -> None:
    with peer(KEPT, tls, certified) as (there, web):
        assert [ask(web, there) for _ in range(3)] == [b"hello"] * 3
        assert there.connections == 1


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_an_answer_that_ends_with_its_connection_is_read_whole(
    tls: bool, certified: tuple[ssl.SSLContext, Path]
) -> None:
    with peer(CLOSED, tls, certified) as (there, web):
        assert [len(ask(web, there)) for _ in range(2)] == [100_000, 100_000]
        assert there.connections == 2


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_an_answer_that_drips_ends_with_its_time(tls: bool, certified: tuple[ssl.SSLContext, Path]) -> None:
    with peer(DRIPS, tls, certified) as (there, web):
        with pytest.raises(TooSlow):
            ask(web, there, seconds=0.5)
        there.answer = KEPT
        assert ask(web, there) == b"hello"
