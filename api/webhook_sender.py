"""Sends webhooks: one POST to an address that was judged after the name was resolved, and again once connected.

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
from typing import Final

from evidence.errors import InvalidWebhook
from evidence.webhooks.addresses import Allowed, Place, place_of, why_refused
from evidence.webhooks.model import Outcome

ANSWER_SECONDS: Final = 15.0  # for connection, TLS and a whole answer, however it drips
KEPT_ANSWER: Final = 1024  # bytes of an answer that the delivery log shows; no more are read
_MOST_ADDRESSES: Final = 3  # tried of one name
USER_AGENT: Final = "wavegate-webhooks/1"

Resolve = Callable[[str, int], Sequence[str]]


class NotSent(Exception):
    """Why nothing was sent, in one line."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name as the system finds them; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class GuardedSender:
    """Fulfils ``evidence.webhooks.ports.Sender``.

    Args:
        resolver: Names to addresses; asked once for each request.
        tls: Who may be a receiver; the system's certificate authorities when None.
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
        self._allowed = allowed
        self._resolve = resolver
        self._tls = tls
        self._seconds = seconds

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """POST once. What goes wrong is told in the outcome; nothing is raised for it."""
        began = time.monotonic()

        def took() -> int:
            return int((time.monotonic() - began) * 1000)

        try:
            place = place_of(url, self._allowed)
            status, retry_after, answer = self._exchange(place, self._addresses(place), headers, body)
        except (InvalidWebhook, NotSent) as error:
            return Outcome(None, str(error), took())
        except TimeoutError:
            return Outcome(None, f"no whole answer within {self._seconds:g} s", took())
        except ssl.SSLCertVerificationError as error:
            return Outcome(None, f"the receiver's certificate is refused: {error.verify_message}", took())
        except (OSError, http.client.HTTPException, ValueError) as error:
            if took() >= self._seconds * 1000:
                return Outcome(None, f"no whole answer within {self._seconds:g} s", took())
            return Outcome(None, f"no answer: {_reason(error)}", took())
        trouble = ""
        if 300 <= status < 400:
            trouble = f"it answered {status}; redirects are not followed, give the receiver's final URL"
        elif not 200 <= status < 300:
            trouble = f"it answered {status}"
        return Outcome(status, trouble, took(), answer, retry_after)

    def _addresses(self, place: Place) -> Sequence[str]:
        try:
            found = self._resolve(place.host, place.port)
        except (OSError, UnicodeError) as error:
            raise NotSent(f"the name {place.host} has no address: {_reason(error)}") from error
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

    def _exchange(
        self, place: Place, addresses: Sequence[str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, int | None, str]:
        deadline = time.monotonic() + self._seconds
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
                        return _ask(stream, place, headers, body, deadline)
                finally:
                    watchdog.cancel()
                    watchdog.join()  # else it might cut a connection of somebody who has the number next

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


def _ask(
    stream: socket.socket, place: Place, headers: Mapping[str, str], body: bytes, deadline: float
) -> tuple[int, int | None, str]:
    connection = http.client.HTTPConnection(place.host, place.port)
    connection.auto_open = 0  # it would resolve the name a second time
    connection.sock = stream
    host = f"[{place.host}]" if ":" in place.host else place.host
    usual = 443 if place.secure else 80
    sent = {
        "host": host if place.port == usual else f"{host}:{place.port}",
        "user-agent": USER_AGENT,
        "connection": "close",
        **headers,
    }
    connection.request("POST", place.path, body, sent)
    response = connection.getresponse()
    if time.monotonic() >= deadline:
        raise TimeoutError  # cut off, headers look as if they had ended
    answer = b""
    # It has said yes or no; an answer that drips or breaks off changes nothing.
    with suppress(OSError, http.client.HTTPException, ValueError):
        answer = response.read(KEPT_ANSWER)
    wait = response.getheader("retry-after", "")
    retry_after = int(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 10 else None
    return response.status, retry_after, answer.decode("utf-8", "replace")


def _cut(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return told or type(error).__name__
