"""A server on loopback that answers as a test tells it to and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

_KEPT = 1024 * 1024  # bytes of a body that are remembered; the rest is counted only
_CHUNK = 128 * 1024  # bytes


@dataclass(frozen=True)
class Reply:
    """One answer: JSON values or bytes. ``is_cut`` closes the connection instead of answering."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False


CUT = Reply(is_cut=True)


def refusal(status: int, code: str, message: str = "no", **more: Any) -> Reply:
    """An error answer in the API's shape."""
    return Reply(status, {"error": {"code": code, "message": message, "request_id": "req_1", **more}})


@dataclass(frozen=True)
class Seen:
    """One request as it came; ``length`` counts its whole body, ``body`` keeps the first MiB."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    length: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ApiServerSimulator:
    """Answers by method and path; a path that nobody set up is 404 in the API's error shape."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def on(self, method: str, path: str, *replies: Reply) -> None:
        """Answer with these in turn, and with the last one from then on."""
        self._replies[method, path] = list(replies)

    def asked(self, method: str, path: str) -> list[Seen]:
        """The requests that came for this method and path, in order."""
        return [seen for seen in self.requests if (seen.method, seen.path) == (method, path)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next(self, method: str, path: str) -> Reply:
        replies = self._replies.get((method, path))
        if replies is None:
            return refusal(404, "not_found", f"{method} {path} is not set up")
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        simulator = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                parts = urlsplit(self.path)
                left = int(self.headers.get("Content-Length", "0"))
                length, kept = left, bytearray()
                while left and (chunk := self.rfile.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    kept += chunk[: max(_KEPT - len(kept), 0)]
                seen = Seen(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                    bytes(kept),
                    length - left,
                )
                simulator.requests.append(seen)
                if left:  # whoever asked went away in the middle
                    self.close_connection = True
                    return
                reply = simulator._next(self.command, parts.path)
                self.close_connection = self.close_connection or reply.is_cut
                if reply.is_cut:
                    return
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if reply.status != 204:
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - the names are http.server's

            def log_message(self, *_: Any) -> None:
                """Tests read ``requests`` instead."""

        return Handler
