"""The lock of a repository that several servers write: the machine's own lock first, then a lease among the servers.

A lease has an end, so that the death of its holder frees it, and a holder can therefore lose it without noticing: it
stalls, the lease runs out, another server takes it. So before its commit becomes visible a holder asks whether it still
is one; and since even then the write may arrive late, the write itself is refused unless the state is still the one
that the commit started from. The lease spares servers from building commits in vain; the bucket decides.

Source: docs/adr/0061-lease-and-conditional-write.md
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from repo_signing.errors import CommitFailed, LeaseLost
from repo_signing.lock import RepositoryLock
from repo_signing.ports import Lease

PATIENCE_SECONDS: Final = 60.0
_FIRST_WAIT: Final = 0.005  # seconds; doubled up to the longest
_LONGEST_WAIT: Final = 0.1


class SharedLock(RepositoryLock):
    """Exclusive among threads, processes and servers, and re-entrant. On entry ``follow`` brings the local copy up.

    Args:
        path: Of the machine's lock file.
        lease: Among the servers; None when there is no other.
        follow: Called with the lock held, before anything else; what it raises lets the lock go.

    Entering raises CommitFailed when the lock cannot be had within a minute.
    """

    def __init__(self, path: Path, lease: Lease | None, follow: Callable[[], None]) -> None:
        super().__init__(path)
        self._lease: Final = lease
        self._follow: Final = follow
        self._held = 0  # depth
        self._token = 0
        self._renewal: _Renewal | None = None

    def __enter__(self) -> None:
        super().__enter__()
        self._held += 1
        if self._held > 1:
            return
        try:
            if self._lease is not None:
                self._token = _taken(self._lease)
                self._renewal = _Renewal(self._lease, self._token)
            self._follow()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held -= 1
        try:
            if self._held == 0 and self._lease is not None and self._token:
                token, self._token = self._token, 0
                if self._renewal is not None:
                    self._renewal.stop()
                    self._renewal = None
                self._lease.give_back(token)
        finally:
            super().__exit__(kind, error, trace)

    def check(self) -> None:
        """Ask whether this is still the holder; raises LeaseLost."""
        if self._lease is not None and self._held and not self._lease.renew(self._token):
            raise LeaseLost(
                "this server stalled and another one took its turn to write; nothing of the commit is visible, send "
                "the same request again"
            )


class _Renewal:
    """Keeps a lease while a long commit is built: a re-binning takes minutes, a lease lasts seconds."""

    def __init__(self, lease: Lease, token: int) -> None:
        self._lease: Final = lease
        self._token: Final = token
        # A commit is mostly over before the first renewal; a timer that never fires costs little.
        self._timer: threading.Timer | None = None
        self._guard: Final = threading.Lock()
        self._stopped = False
        self._arm()

    def stop(self) -> None:
        with self._guard:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()

    def _arm(self) -> None:
        with self._guard:
            if not self._stopped:
                self._timer = threading.Timer(self._lease.seconds / 3, self._turn)
                self._timer.daemon = True
                self._timer.start()

    def _turn(self) -> None:
        try:
            if not self._lease.renew(self._token):
                return  # lost; the check before the commit's last step says so
        except Exception:  # noqa: BLE001 - the database may be back at the next turn; nothing is decided here
            pass
        self._arm()


def _taken(lease: Lease) -> int:
    end, wait = time.monotonic() + PATIENCE_SECONDS, _FIRST_WAIT
    while True:
        try:
            token = lease.take()
        except Exception as error:
            # Whatever store is behind the port, its errors end here.
            raise CommitFailed(f"the lease could not be taken: {error}; nothing was changed, try again") from error
        if token is not None:
            return token
        if time.monotonic() >= end:
            raise CommitFailed(
                f"another server has been writing for {PATIENCE_SECONDS:.0f} s; nothing was changed, try again"
            )
        time.sleep(wait)
        wait = min(_LONGEST_WAIT, wait * 2)
