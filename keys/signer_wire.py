"""What passes through the signer's socket: one question and one answer per connection.

A frame is two big-endian 32-bit lengths, then a JSON object, then raw bytes (the payload to sign; empty in answers).
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import orjson

MAX_HEADER: Final = 16 * 1024  # bytes
MAX_PAYLOAD: Final = 64 * 1024 * 1024  # bytes; stock clients take targets metadata of 5 MB, 128 MB at the very most

_LENGTHS: Final = struct.Struct("!II")
_UCRED: Final = struct.Struct("3i")  # pid, uid, gid; socket(7)


class BrokenFrame(Exception):
    """The other side closed early or sent something else than a frame."""


def send_frame(connection: socket.socket, header: dict[str, Any], payload: bytes = b"") -> None:
    """Send one frame; raises OSError."""
    head = orjson.dumps(header)
    connection.sendall(_LENGTHS.pack(len(head), len(payload)) + head)
    if payload:
        connection.sendall(payload)


def receive_frame(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Receive one frame.

    Raises:
        BrokenFrame: It is cut short, too long, or its header is no JSON object.
        OSError: The connection failed or its timeout passed.
    """
    head_length, payload_length = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    if head_length > MAX_HEADER or payload_length > MAX_PAYLOAD:
        raise BrokenFrame(
            f"a frame of {head_length} + {payload_length} bytes; at most {MAX_HEADER} + {MAX_PAYLOAD} are read"
        )
    try:
        header = orjson.loads(_exactly(connection, head_length))
    except orjson.JSONDecodeError as error:
        raise BrokenFrame("the frame's header is no JSON") from error
    if type(header) is not dict:
        raise BrokenFrame("the frame's header is no JSON object")
    return header, _exactly(connection, payload_length)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id of the other side, as the kernel noted them when it connected (SO_PEERCRED)."""
    pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def _exactly(connection: socket.socket, length: int) -> bytes:
    # Grows with what arrives: a length that is only announced costs no memory.
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(min(length - len(parts), 1 << 18))
        if not part:
            raise BrokenFrame(f"the connection closed after {len(parts)} of {length} bytes")
        parts += part
    return bytes(parts)
