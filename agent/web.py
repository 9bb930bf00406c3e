"""HTTP as the agent needs it: one small client that carries no credentials and that nobody can hold up.

It follows redirects only where the caller says so (targets of a bucket: their length and digest are signed), and never
from https to http. It asks for no compression (a digest is of the bytes),
and ends every request at a total deadline and below a least speed: a peer that sends one byte now and then would
otherwise keep a device from its next update for ever. It uses no proxy.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

CONNECT_SECONDS: Final = 10.0
GAP_SECONDS: Final = 30.0  # the longest silence between two pieces
SPEED_AFTER_SECONDS: Final = 30.0  # a slow start is not held against anybody
PIECE: Final = 32 * 1024  # bytes; small, since the least speed is looked at between two pieces


REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class WebError(Exception):
    """The request did not get an answer that is whole."""


class TooSlow(WebError):
    """The deadline passed, or the peer is below the least speed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``seconds`` for the whole request, and bytes per second it must not fall below after ``grace`` seconds."""

    seconds: float = 60.0
    least_speed: float = 1024.0
    grace: float = SPEED_AFTER_SECONDS


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one request: ``pieces`` of the body come as they are read, and only while the request's block is open."""

    status: int
    headers: http.client.HTTPMessage
    pieces: Iterator[bytes]


class _Line:
    """A connection's socket as http.client uses it: all that is sent or read through it is so by ``end``.

    A socket's own timeout begins anew with every byte, so each read is given what is left of the whole; no drip
    outlasts it. (A watch in a thread of its own would do, too: it took a tenth of the CPU of an idle poll.)
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.end = 0.0  # by time.monotonic(); set for each request

    def sendall(self, content: bytes) -> None:
        """Send all of it, or raise TimeoutError."""
        self._hurry()
        self._sock.sendall(content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What an answer is read from."""
        return io.BufferedReader(_Reading(self._sock.makefile("rb", buffering=0), self._hurry))

    def close(self) -> None:
        """Hang up, once whatever reads is closed, too."""
        self._sock.close()

    def _hurry(self) -> None:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for the whole is over")
        self._sock.settimeout(min(GAP_SECONDS, left))


class _Reading(io.RawIOBase):
    """Reads, and asks before each time whether there is time."""

    def __init__(self, inner: io.RawIOBase, hurry: Callable[[], None]) -> None:
        super().__init__()
        self._inner = inner
        self._hurry = hurry

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As ``io.RawIOBase``, or TimeoutError."""
        self._hurry()
        return self._inner.readinto(buffer)

    def close(self) -> None:
        """As ``io.RawIOBase``."""
        self._inner.close()
        super().close()


class Web:
    """Keeps one connection open; used by one thread. ``tls_ca`` is a file of CAs for https, else the system's."""

    def __init__(self, *, agent: str, tls_ca: str = "") -> None:
        self._agent = agent
        self._tls_ca = tls_ca
        self._tls: ssl.SSLContext | None = None
        self._peer: tuple[str, str, int] | None = None
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Drop the connection; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        limits: Limits,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        redirects: int = 0,
    ) -> Iterator[Answer]:
        """The answer, inside the block only.

        So many ``redirects`` are followed, within the same limits.

        Raises:
            TooSlow: Also while the body is read.
            WebError: No connection, no whole answer, or an address that is not plain http(s) without credentials.
        """
        end = time.monotonic() + limits.seconds
        response = self._answer(method, url, body, dict(headers or {}), end)
        for _ in range(redirects):
            place = response.headers.get("Location") if response.status in REDIRECTS else None
            if place is None:
                break
            self.close()  # its body is of no interest, and the next peer mostly another one
            url = redirected(url, place)
            response = self._answer(method, url, body, dict(headers or {}), end)
        done = False

        def pieces() -> Iterator[bytes]:
            nonlocal done
            yield from _pieces(response, end, limits)
            done = True

        try:
            yield Answer(response.status, response.headers, pieces())
        finally:
            # Half an answer left on the connection would be read as the next one's.
            if not done or response.will_close:
                self.close()

    def _answer(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], end: float
    ) -> http.client.HTTPResponse:
        peer, path = _split(url)
        headers |= {"User-Agent": self._agent, "Accept-Encoding": "identity", "Connection": "keep-alive"}
        if peer != self._peer:
            self.close()
        for attempt in (1, 2):
            kept = self._connection is not None
            connection = self._connection or self._connect(peer, end)
            self._connection, self._peer = connection, peer
            line: Any = connection.sock  # ours, since it was dialled
            line.end = end
            try:
                connection.request(method, path, body=body, headers=headers)
                return connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if time.monotonic() >= end:
                    raise TooSlow(f"{peer[1]} did not answer in time") from error
                # The server may have closed a connection that had been idle; only that is worth a second try.
                if attempt == 2 or not kept:
                    raise WebError(f"no answer from {peer[1]}:{peer[2]}: {_why(error)}") from error
        raise AssertionError("unreachable")

    def _connect(self, peer: tuple[str, str, int], end: float) -> http.client.HTTPConnection:
        scheme, host, port = peer
        seconds = max(0.001, min(CONNECT_SECONDS, end - time.monotonic()))
        if scheme == "https":
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=self._tls_ca or None)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=seconds, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=seconds)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise WebError(f"no connection to {host}:{port}: {_why(error)}") from error
        connection.auto_open = 0  # it would dial again without the line
        connection.sock = _Line(connection.sock)
        return connection


def _pieces(response: http.client.HTTPResponse, end: float, limits: Limits) -> Iterator[bytes]:
    began, received = time.monotonic(), 0
    while True:
        try:
            piece = response.read(PIECE)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= end or isinstance(error, TimeoutError):
                raise TooSlow(f"the answer did not come in time, {received} bytes did") from error
            raise WebError(f"the answer broke off after {received} bytes: {_why(error)}") from error
        if not piece:
            break
        received += len(piece)
        taken = time.monotonic() - began
        if taken > limits.grace and received / taken < limits.least_speed:
            raise TooSlow(f"{received} bytes in {taken:.0f} s is below {limits.least_speed:.0f} bytes per second")
        yield piece
    if time.monotonic() >= end:
        raise TooSlow(f"the answer did not end in time, {received} bytes came")
    if response.length:  # read() ends quietly when the peer closes early
        raise WebError(f"the answer ended {response.length} bytes early")


def _split(url: str) -> tuple[tuple[str, str, int], str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WebError(f"{url!r} is no http(s) address")
    if parts.username or parts.password:
        raise WebError("the address holds credentials; the agent sends none")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return (parts.scheme, parts.hostname, port), (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def redirected(url: str, place: str) -> str:
    """Where a redirect leads; raises WebError when that is out of TLS."""
    target = urljoin(url, place)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise WebError("the server sends the device from https to a place without TLS; that is not followed")
    return target


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__
