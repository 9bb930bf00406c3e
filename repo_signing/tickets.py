"""Requests that wait for the next commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from keys.errors import CustodyError
from repo_signing.draft import Draft
from repo_signing.errors import RepositoryError


class Ticket:
    """One request in the queue, settled exactly once by whoever commits it.

    ``is_alone``: by a commit of its own; ``accept_clock``: a person says that ``now`` is right; ``needs``: blobs that
    the change will ask for.
    """

    def __init__(
        self,
        change: Callable[[Draft], Any],
        now: datetime,
        *,
        is_alone: bool,
        accept_clock: bool,
        needs: Sequence[Path] = (),
    ) -> None:
        self.change: Final = change
        self.now: Final = now
        self.is_alone: Final = is_alone
        self.accept_clock: Final = accept_clock
        self.needs: Final = needs
        self.is_settled = False
        self._value: Any = None
        self._error: BaseException | None = None

    def succeed(self, value: Any) -> None:
        """Settle it with what the change returned."""
        self._value, self.is_settled = value, True

    def fail(self, error: BaseException) -> None:
        """Settle it with what the change, or the commit, raised."""
        self._error, self.is_settled = error, True

    def outcome(self) -> Any:
        """What it was settled with; raises that, if it was an error."""
        if self._error is not None:
            raise self._error
        return self._value


def fail_all(batch: Sequence[Ticket], error: RepositoryError | CustodyError) -> None:
    """Settle with ``error`` all that are not settled."""
    for ticket in batch:
        if not ticket.is_settled:
            # One exception raised in several threads would mix their tracebacks.
            own = type(error)(str(error))
            own.__cause__ = error
            ticket.fail(own)
