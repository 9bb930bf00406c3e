"""One HTTP request to an address that was judged after the name was resolved, and again once connected.

The name is resolved once, and the connection goes to an address found then, never to the name. Nothing is written
before the peer of the open socket was judged, too. No redirect is followed, no proxy of the environment used.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

from evidence.webhooks.addresses import Allowed, Place, place_of, why_refused

ANSWER_SECONDS: Final = 15.0  # for connection, TLS and a whole answer, however it drips
_MOST_ADDRESSES: Final = 3  # tried of one name

Resolve = Callable[[str, int], Sequence[str]]


class NotSent(Exception):
    """Why nothing was sent, in one line."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer: its status, its headers by lower-case name, and as much of its body as was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name as the system finds them; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class Guarded:
    """Sends single requests.

    Args:
        resolver: Names to addresses; asked once for each request.
        tls: Who may answer; the system's certificate authorities when None.
        seconds: Patience for all of one request but the name's resolution, which has the system's own.
    """

    def __init__(
        self,
        allowed: Allowed,
        *,
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.seconds: Final = seconds
        self._allowed = allowed
        self._resolve = resolver
        self._tls = tls

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, *, most: int, whole: bool
    ) -> Answered:
        """Send one request.

        Args:
            most: Bytes of the answer to read.
            whole: Its end counts. Otherwise an answer that drips or breaks off after its headers is as good.

        Raises:
            InvalidWebhook: The URL is refused as it stands.
            NotSent: The address is refused, or there is none.
            TimeoutError, OSError, ssl.SSLError, http.client.HTTPException, ValueError: No answer.
        """
        place = place_of(url, self._allowed)
        addresses = self._addresses(place)
        deadline = time.monotonic() + self.seconds
        with self._connected(place, addresses, deadline) as raw:
            # The peer itself, whatever was asked for: nothing is sent before.
            self._check(str(raw.getpeername()[0]), place)
            # Timeouts of a socket begin anew with every byte; this one does not.
            with raw.dup() as other_end:
                watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, (other_end,))
                watchdog.daemon = True
                watchdog.start()
                try:
                    stream = self._secured(raw, place) if place.secure else raw
                    with closing(stream):
                        answered = _ask(stream, place, method, headers, body, most, whole, deadline)
                finally:
                    watchdog.cancel()
                    watchdog.join()  # else it might cut a connection of somebody who has the number next
        return answered

    def _addresses(self, place: Place) -> Sequence[str]:
        try:
            found = self._resolve(place.host, place.port)
        except (OSError, UnicodeError) as error:
            raise NotSent(f"the name {place.host} has no address: {reason_of(error)}") from error
        # One private address among public ones is how a name is rebound; it spoils them all.
        for address in found:
            self._check(address, place)
        if not found:
            raise NotSent(f"the name {place.host} has no address")
        return found[:_MOST_ADDRESSES]

    def _check(self, address: str, place: Place) -> None:
        reason = why_refused(address, place.host, self._allowed)
        if reason is not None:
            raise NotSent(f"refused: {reason}")

    def _connected(self, place: Place, addresses: Sequence[str], deadline: float) -> socket.socket:
        failure: OSError = OSError("nothing was tried")
        for address in addresses:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                connected = socket.create_connection((address, place.port), timeout=left)
            except OSError as error:
                failure = error
                continue
            return connected
        raise failure

    def _secured(self, raw: socket.socket, place: Place) -> ssl.SSLSocket:
        context = self._tls or ssl.create_default_context()
        return context.wrap_socket(raw, server_hostname=place.host)


def reason_of(error: Exception) -> str:
    """An error of the network in few words."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return told or type(error).__name__


def _ask(
    stream: socket.socket,
    place: Place,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    most: int,
    whole: bool,
    deadline: float,
) -> Answered:
    connection = http.client.HTTPConnection(place.host, place.port)
    connection.auto_open = 0  # it would resolve the name a second time
    connection.sock = stream
    host = f"[{place.host}]" if ":" in place.host else place.host
    usual = 443 if place.secure else 80
    sent = {"host": host if place.port == usual else f"{host}:{place.port}", "connection": "close", **headers}
    connection.request(method, place.path, body, sent)
    response = connection.getresponse()
    if time.monotonic() >= deadline:
        raise TimeoutError  # cut off, headers look as if they had ended
    answer = b""
    if whole:
        answer = response.read(most)
        if time.monotonic() >= deadline:
            raise TimeoutError
    else:
        with suppress(OSError, http.client.HTTPException, ValueError):
            answer = response.read(most)
    return Answered(response.status, {name.lower(): value for name, value in response.getheaders()}, answer)


def _cut(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
