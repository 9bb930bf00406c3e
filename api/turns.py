"""Answers that only read are made one after the other, where a second thread could not help anyway.

Over SQLite an answer is computed by this process alone, and Python lets one thread compute at a time. Threads that try
it at once hand the interpreter's lock around at every statement of the database, twenty times in a read of one row, and
each time one of them sleeps and is woken: twice the CPU, and nothing is answered sooner. So they take turns. Whoever
has waited as long as the interpreter itself would have let another run goes on regardless: a long answer holds nobody
up for longer than that.
Source: docs/adr/0104-who-calls-is-one-statement.md
"""

from __future__ import annotations

import threading
from typing import Any, Final

LONGEST_WAIT: Final = 0.005  # seconds; Python's own switch interval
READS: Final = frozenset({"GET", "HEAD"})  # without a body that somebody may send slowly


class Turns:
    """WSGI around an application whose reads wait for nobody outside of this process."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] not in READS:
            return self._inner(environ, start_response)
        is_mine = self._turn.acquire(timeout=LONGEST_WAIT)
        try:
            return self._inner(environ, start_response)
        finally:
            if is_mine:
                self._turn.release()
