"""Small writes of many threads in one transaction.

On SQLite they would else wait for one another, and each for the disk.
Source: docs/adr/0098-small-writes-commit-together.md
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import Connection

MOST: Final = 100  # in one transaction; other writers wait for it

T = TypeVar("T")


@dataclass(slots=True)
class _Asked(Generic[T]):
    work: Callable[[Connection], T]
    result: T | None = None
    failure: Exception | None = None
    is_over: bool = False


class Together:
    """Runs what threads ask for at the same time in one transaction of ``write``; each is answered after the commit.

    One of the threads that wait writes for all of them; ``translated`` turns the library's errors into the store's.
    """

    def __init__(
        self,
        write: Callable[[], AbstractContextManager[Connection]],
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._transaction = write
        self._translated = translated
        self._changed = threading.Condition()
        self._queue: list[_Asked[Any]] = []
        self._is_writing = False

    def run(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work``; what it raises undoes its own writes alone, and is raised here."""
        mine: _Asked[T] = _Asked(work)
        with self._changed:
            self._queue.append(mine)
        while not mine.is_over:
            if batch := self._next(mine):
                self._write(batch)
        if mine.failure is not None:
            raise mine.failure
        return cast(T, mine.result)  # set, as nothing failed

    def _next(self, mine: _Asked[Any]) -> Sequence[_Asked[Any]]:
        """What to write now; nothing when another thread has written ``mine`` meanwhile."""
        with self._changed:
            while self._is_writing and not mine.is_over:
                self._changed.wait()
            if mine.is_over:
                return ()
            batch, self._queue = self._queue[:MOST], self._queue[MOST:]
            self._is_writing = True
            return batch

    def _write(self, batch: Sequence[_Asked[Any]]) -> None:
        failure: Exception | None = RuntimeError("the thread that wrote for this one was interrupted")
        try:
            with self._transaction() as connection:
                for one in batch:
                    self._attempt(connection, one)
            failure = None
        except Exception as error:  # noqa: BLE001  (raised again in each thread that asked)
            failure = error
        finally:
            with self._changed:
                for one in batch:
                    one.failure = failure or one.failure
                    one.is_over = True
                self._is_writing = False
                self._changed.notify_all()

    def _attempt(self, connection: Connection, one: _Asked[Any]) -> None:
        try:
            with self._translated(), connection.begin_nested():
                one.result = one.work(connection)
        except Exception as error:  # noqa: BLE001  (raised again in the thread that asked)
            one.failure = error
