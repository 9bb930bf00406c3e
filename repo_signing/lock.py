"""The lock of a repository: one writer at a time, among the threads of a process and among processes."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from repo_signing.errors import CommitFailed

_LOCK_MODE: Final = 0o600


class RepositoryLock:
    """Exclusive and re-entrant; released by the kernel when the process dies.

    ``flock``, not ``lockf``: a POSIX lock is lost when any descriptor of the file closes and never excludes the own
    process. Entering raises CommitFailed when the lock file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._threads: Final = threading.RLock()
        self._depth = 0
        self._descriptor = -1

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if self._depth == 0:
                self._descriptor = self._acquire()
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise

    def among_threads(self) -> threading.RLock:
        """The part of the lock that excludes this process's other threads; taken alone it excludes nobody else."""
        return self._threads

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            os.close(self._descriptor)  # closing the only descriptor of the open file releases the lock
        self._threads.release()

    def _acquire(self) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _LOCK_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise CommitFailed(
                f"the repository's lock could not be taken: {error.strerror or error}; nothing was changed, try again"
            ) from error
        return descriptor
