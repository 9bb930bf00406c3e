"""Failed logins, counted so that the door can slow down who guesses."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select

from store.account_models import login_failures
from store.columns import upsert
from store.database import Database

KEPT: Final = timedelta(days=1)  # longer than any span that a login is judged by


class LoginFailures:
    """Counts per account and source (an address), to the minute.

    ``account`` is whatever was typed, known or not, any case; only its SHA-256 is kept. Older counts than a day go.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_failure(self, org: str, account: str, source: str, *, now: datetime) -> None:
        """Count one failed login."""
        row = {
            "org": org,
            "account_sha256": _digest(account),
            "source": source,
            "minute": now.replace(second=0, microsecond=0),
            "failures": 1,
        }
        with self._database.write() as connection:
            add = upsert(connection, login_failures).on_conflict_do_update(
                index_elements=[column.name for column in login_failures.primary_key],
                set_={"failures": login_failures.c.failures + 1},
            )
            connection.execute(add, row)
            connection.execute(delete(login_failures).where(login_failures.c.minute < now - KEPT))

    def count_failures(
        self, org: str | None, *, since: datetime, account: str | None = None, source: str | None = None
    ) -> int:
        """Failures at or after the minute of ``since``, of one account, one source, or both together.

        ``org`` None counts those of all organisations.
        """
        query = select(func.coalesce(func.sum(login_failures.c.failures), 0)).where(
            login_failures.c.minute >= since.replace(second=0, microsecond=0)
        )
        if org is not None:
            query = query.where(login_failures.c.org == org)
        if account is not None:
            query = query.where(login_failures.c.account_sha256 == _digest(account))
        if source is not None:
            query = query.where(login_failures.c.source == source)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def clear_failures(self, org: str, account: str) -> None:
        """Forget the account's failures, from every source; call it after a login that succeeded."""
        with self._database.write() as connection:
            connection.execute(
                delete(login_failures).where(
                    login_failures.c.org == org, login_failures.c.account_sha256 == _digest(account)
                )
            )


def _digest(account: str) -> str:
    return hashlib.sha256(account.strip().casefold().encode(errors="surrogatepass")).hexdigest()
