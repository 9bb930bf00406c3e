"""A mirror on loopback that serves a real repository and lies where a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECE = b" " * 65_536
_ENDLESS = 2 * 1024**3  # bytes; who reads all of them has no limit


@dataclass(frozen=True)
class Answer:
    """What the mirror sends.

    ``declared`` is the Content-Length, by default the true one. ``endless`` goes on after the body until the peer hangs
    up; ``drip`` waits so many seconds before each byte of head and body; ``stall`` sends the head and then nothing.
    """

    body: bytes = b""
    status: int = 200
    declared: int | None = None
    endless: bool = False
    drip: float = 0.0
    stall: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


Lie = Callable[[str, bytes | None], Answer | bytes | None]
"""From path (``metadata/…`` or ``targets/…``) and the true bytes (None: there is none) to what is sent."""


def honest(path: str, content: bytes | None) -> bytes | None:
    """The truth."""
    return content


class LyingMirror:
    """``files`` is what the repository has, by path; ``lie`` what becomes of it; ``requests`` what was asked for."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.lie: Lie = honest
        self.requests: list[str] = []
        self.headers: list[Mapping[str, str]] = []  # of the requests, in their order
        self.sent: dict[str, int] = {}  # bytes of the body that went out, by path
        self.over = threading.Event()
        self.url = ""

    @property
    def metadata_url(self) -> str:
        return f"{self.url}/metadata/"

    @property
    def targets_url(self) -> str:
        return f"{self.url}/targets/"


@contextmanager
def lying_mirror(files: Mapping[str, bytes]) -> Iterator[LyingMirror]:
    """Serve on a free port until the block ends."""
    mirror = LyingMirror(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            mirror.requests.append(path)
            mirror.headers.append(dict(self.headers))
            said = mirror.lie(path, mirror.files.get(path))
            if said is None:
                said = Answer(b"not here", 404)
            answer = Answer(said) if isinstance(said, bytes) else said
            # A peer that has enough hangs up; that is what the lies are there to find out.
            with suppress(OSError):
                self._send(path, answer)

        def _send(self, path: str, answer: Answer) -> None:
            self.close_connection = answer != Answer(answer.body, answer.status)
            length = len(answer.body) if answer.declared is None else answer.declared
            head = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {value}" for name, value in answer.headers.items())]
            if not answer.endless:
                head.append(f"Content-Length: {length}")
            if self.close_connection:
                head.append("Connection: close")
            self._out("\r\n".join([*head, "", ""]).encode(), answer.drip)
            if answer.stall:
                mirror.over.wait(60)
                return
            self._out(answer.body, answer.drip)
            mirror.sent[path] = len(answer.body)
            while answer.endless and mirror.sent[path] < _ENDLESS and not mirror.over.is_set():
                self._out(_PIECE, 0.0)
                mirror.sent[path] += len(_PIECE)

        def _out(self, content: bytes, drip: float) -> None:
            if not drip:
                self.wfile.write(content)
                return
            for byte in content:
                if mirror.over.wait(drip):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that has enough resets the connection: what the lies are for, and no news."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        mirror.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
