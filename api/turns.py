"""Answers that only read are made on one core, and over SQLite one after the other: a second thread could not help.

Python lets one thread compute at a time, and lets go of its lock at every statement of the database, twenty times in a
read of one row. A thread that waits on another core wakes there each time, finds the lock taken again, and brings what
the interpreter works on from core to core: a third of the read. So those who read run on one core.

Over SQLite an answer is computed by this process alone, so threads that try it at once only hand the lock around, and
nothing is answered sooner. There they take turns, too. Whoever has waited as long as the interpreter itself would have
let another run goes on regardless, on any core: a long answer holds nobody up for longer than that.
Source: docs/adr/0164-reads-keep-to-one-core.md
"""

from __future__ import annotations

import threading
from typing import Any, Final

from api.cores import Cores

LONGEST_WAIT: Final = 0.005  # seconds; Python's own switch interval
READS: Final = frozenset({"GET", "HEAD"})  # without a body that somebody may send slowly


class Turns:
    """WSGI around an application.

    Args:
        alone: Whether a read waits for nobody outside of this process.
        cores: Those of the threads that call it, which are for nothing else.
    """

    def __init__(self, inner: Any, cores: Cores, *, alone: bool) -> None:
        self._inner = inner
        self._cores = cores
        self._alone = alone
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] not in READS:
            self._cores.apart()
            return self._inner(environ, start_response)
        is_mine = self._alone and self._turn.acquire(timeout=LONGEST_WAIT)
        if is_mine or not self._alone:
            self._cores.together()
        else:
            self._cores.apart()
        try:
            answer = self._inner(environ, start_response)
        finally:
            if is_mine:
                self._turn.release()
        if not isinstance(answer, list):
            self._cores.apart()  # from now on it is read and sent, piece by piece
        return answer
