"""Whose turn it is to write an organisation's repository, among servers that share a bucket."""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta
from typing import Final

from store.database import Database
from store.leases import Lease, Leases, keep

log: Final = logging.getLogger("wavegate.store")

SECONDS: Final = 15.0  # many times what a stalled disk or database takes; nobody waits longer for a server that died


class SqlLease:
    """The repository room's ``Lease`` port. One instance is one holder: a server process has one for each repository.

    Args:
        database: Shared by all servers.
        org: Whose repository.
        seconds: How long a turn lasts unless it is renewed.
    """

    def __init__(self, database: Database, org: str, *, seconds: float = SECONDS) -> None:
        self._database: Final = database
        self._leases: Final = Leases(database)
        self._name: Final = f"repository:{org}"
        self._holder: Final = secrets.token_hex(8)
        self._life: Final = timedelta(seconds=seconds)

    @property
    def seconds(self) -> float:
        """How long a turn lasts unless it is renewed."""
        return self._life.total_seconds()

    def take(self) -> int | None:
        """Take the turn if nobody has it or its end has passed; returns its number."""
        taken = self._leases.take(self._name, self._holder, life=self._life)
        return None if taken is None else taken.token

    def renew(self, token: int) -> bool:
        """Move the end of the turn; False when another one began or this one has ended."""
        with self._database.write() as connection:
            return keep(connection, self._turn(token))

    def give_back(self, token: int) -> None:
        """End the turn now, if it still is this one."""
        try:
            self._leases.give_up(self._turn(token))
        except Exception as error:  # noqa: BLE001 - it ends by itself; what was done under it stands
            log.warning("the turn to write was not given back and ends by itself: %s", type(error).__name__)

    def _turn(self, token: int) -> Lease:
        return Lease(name=self._name, holder=self._holder, token=token, life=self._life)
