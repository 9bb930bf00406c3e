"""How lines of the log reach stderr: those of a twentieth of a second in one write.

A write lets Python's lock go, and beside other threads that compute getting it back costs more than the whole line did.
Source: docs/adr/0163-lines-of-the-log-are-written-together.md
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from typing import Final, TextIO

HELD_SECONDS: Final = 0.05
MOST_HELD: Final = 1_000  # lines; a reader that does not keep up holds up those who write them, and no memory fills


class Lines(logging.Handler):
    """Writes lines in the order in which they were logged, from a thread of its own.

    A warning or an error is written at once, and what was held before it. A program that ends writes what is held;
    one that is killed loses the lines below a warning of its last ``HELD_SECONDS``.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._held: deque[str] = deque()
        self._some = threading.Event()
        self._ended = threading.Event()
        self._writing = threading.RLock()  # a signal's handler may log while its thread writes
        self._thread: threading.Thread | None = None

    def createLock(self) -> None:  # noqa: N802  # the name that logging gave it
        """None around each line: a deque needs no lock."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Hold the line, or write it with those that are held."""
        try:
            self._held.append(self.format(record))
            if record.levelno >= logging.WARNING or len(self._held) >= MOST_HELD or self._ended.is_set():
                self.flush()
            elif not self._some.is_set():
                self._begin()
        except Exception:  # noqa: BLE001  # as every handler: a line that cannot be written ends no request
            self.handleError(record)

    def flush(self) -> None:
        """Write what is held."""
        with self._writing:
            lines = []
            while self._held:
                lines.append(self._held.popleft())
            if lines:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()

    def close(self) -> None:
        """Write what is held; a line that comes later is written at once."""
        self._ended.set()
        self._some.set()
        self.flush()
        super().close()

    def _begin(self) -> None:
        if self._thread is None:
            with self._writing:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._write, name="wavegate-log", daemon=True)
                    self._thread.start()
        self._some.set()

    def _write(self) -> None:
        while not self._ended.is_set():
            self._some.wait()
            self._ended.wait(HELD_SECONDS)
            self._some.clear()
            with suppress(OSError, ValueError):  # stderr is gone
                self.flush()
