"""A receiver of webhooks on loopback: answers as told, and remembers what it got."""

from __future__ import annotations

import hashlib
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def signatures(self) -> list[str]:
        return self.headers["webhook-signature"].split(" ")

    def signature_by(self, secret: str) -> str:
        """What the specification says the signature is, from RFC 2104 by hand and not from the library we use."""
        key = b64decode(secret.removeprefix("whsec_")).ljust(64, b"\0")
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        inner = hashlib.sha256(bytes(one ^ 0x36 for one in key) + content).digest()
        return "v1," + b64encode(hashlib.sha256(bytes(one ^ 0x5C for one in key) + inner).digest()).decode()


Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebhookReceiver:
    """``answers`` are used up one a request, then every request gets 204."""

    port: int
    got: list[Got] = field(default_factory=list)
    answers: list[int | Answer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def webhook_receiver(tls: ssl.SSLContext | None = None) -> Iterator[WebhookReceiver]:
    """A receiver on a free port, ended with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.got.append(Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = receiver.answers.pop(0) if receiver.answers else 204
            if callable(answer):
                answer(self)
                return
            self.send_response(answer)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            return  # a sender that hangs up or refuses the certificate is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver = WebhookReceiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
