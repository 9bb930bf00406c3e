"""How many connections one address may hold. gRPC counts them for nobody, so the process's own sockets are looked at.

The sockets are gRPC's. They are shut down through copies of their descriptors, which gRPC takes for a caller that
hung up; it closes them itself. Source: docs/adr/0147-limits-of-the-device-port.md
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from typing import Final

DESCRIPTORS: Final = "/proc/self/fd"  # Linux
_INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})


def hang_up_beyond(most: int, port: int) -> Counter[str]:
    """Hang up on whoever has more than ``most`` connections to our ``port``; how many that were, by address.

    Which of an address's connections stay is not said, mostly the older ones do.

    Raises:
        FileNotFoundError: This system does not list a process's descriptors.
    """
    held: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for name in sorted(os.listdir(DESCRIPTORS), key=int):
        try:
            with _copy_of(int(name)) as connection:
                if connection.family not in _INTERNET or connection.getsockname()[1] != port:
                    continue
                address = connection.getpeername()[0].removeprefix("::ffff:")
                held[address] += 1
                if held[address] > most:
                    connection.shutdown(socket.SHUT_RDWR)
                    ended[address] += 1
        except OSError:  # no socket, the one that listens, or one that ended just now
            continue
    return ended


def _copy_of(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
