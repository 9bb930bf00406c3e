"""HTTP/2 frame by frame, over TLS as a device: for what a gRPC client would never send."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 4, 6, 7, 8
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6
ENHANCE_YOUR_CALM = 11
DEADLINE: Final = 20  # seconds of silence after which a test has hung


class Frame(NamedTuple):
    """One frame as it came."""

    kind: int
    flags: int
    payload: bytes

    @property
    def settings(self) -> dict[int, int]:
        """Of a SETTINGS frame, by number."""
        return dict(struct.unpack_from("!HI", self.payload, at) for at in range(0, len(self.payload), 6))

    @property
    def goodbye(self) -> tuple[int, str]:
        """Of a GOAWAY frame, its error code and the words with it."""
        return struct.unpack_from("!I", self.payload, 4)[0], self.payload[8:].decode()


class RawConnection:
    """A connection on which HTTP/2 may or may not have begun."""

    def __init__(self, secured: ssl.SSLSocket) -> None:
        self._secured = secured

    def begin(self) -> None:
        """Say what HTTP/2 begins with, and take whatever the server would send."""
        self._secured.sendall(PREFACE)
        self.send(SETTINGS, b"")

    def send(self, kind: int, payload: bytes) -> None:
        """One frame of the connection as a whole (stream 0), without flags."""
        self._secured.sendall(struct.pack("!I", len(payload))[1:] + bytes([kind, 0]) + bytes(4) + payload)

    def frames(self) -> Iterator[Frame]:
        """What comes until the server hangs up."""
        while head := self._exactly(9):
            yield Frame(head[3], head[4], self._exactly(int.from_bytes(head[:3])))

    def _exactly(self, length: int) -> bytes:
        had = b""
        while len(had) < length:
            try:
                more = self._secured.recv(length - len(had))
            except ConnectionResetError:
                more = b""
            if not more:
                return b""
            had += more
        return had


@contextmanager
def raw_connection(port: int, key: bytes, chain: bytes, folder: Path) -> Iterator[RawConnection]:
    """Dial the port and finish the TLS handshake, no more; ``folder`` is for files of the key and the certificate."""
    (folder / "raw-key.pem").write_bytes(key)
    (folder / "raw-chain.pem").write_bytes(chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / "raw-chain.pem", folder / "raw-key.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as plain,
        context.wrap_socket(plain) as secured,
    ):
        yield RawConnection(secured)
