"""Second factors at rest: a sealed secret and the last step taken beside the account, and digests of recovery codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from evidence.model import AuditEvent
from store.account_models import recovery_codes, users
from store.audit import append
from store.database import Database
from store.errors import NoSecondFactor, SecondFactorExists


@dataclass(frozen=True, slots=True)
class KeptFactor:
    """``sealed`` is the secret as it was given to be kept; ``confirmed_at`` None while it is being set up."""

    sealed: str = field(repr=False)
    confirmed_at: datetime | None
    codes_left: int


class SecondFactors:
    """Every method is one transaction, with its audit event in it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, org: str, user_id: str) -> KeptFactor | None:
        """The account's factor, confirmed or begun; None without one."""
        query = select(users.c.totp_secret, users.c.totp_confirmed_at).where(users.c.org == org, users.c.id == user_id)
        left = (
            select(func.count())
            .select_from(recovery_codes)
            .where(recovery_codes.c.user_id == user_id, recovery_codes.c.used_at.is_(None))
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            if row is None or row.totp_secret is None:
                return None
            return KeptFactor(row.totp_secret, row.totp_confirmed_at, connection.execute(left).scalar_one())

    def begin(self, org: str, user_id: str, sealed: str) -> None:
        """Keep a secret that does not count yet, in the place of one begun before.

        Raises:
            SecondFactorExists: One is confirmed already.
        """
        mine = (users.c.org == org) & (users.c.id == user_id)
        with self._database.write() as connection:
            fresh = update(users).where(mine, users.c.totp_confirmed_at.is_(None)).values(totp_secret=sealed)
            if not connection.execute(fresh).rowcount:
                raise SecondFactorExists("a second factor is set up already; remove it first")

    def confirm(
        self, org: str, user_id: str, sealed: str, *, step: int, codes: Sequence[str], event: AuditEvent
    ) -> None:
        """Let the secret that was begun count from now on, ``step`` being used up; ``codes`` are recovery digests.

        Raises:
            NoSecondFactor: It is not what was begun last, or is confirmed already.
        """
        begun = (users.c.org == org) & (users.c.id == user_id) & (users.c.totp_secret == sealed)
        with self._database.write() as connection:
            counts = {"totp_confirmed_at": event.at, "totp_step": step}
            turned = update(users).where(begun, users.c.totp_confirmed_at.is_(None)).values(**counts)
            if not connection.execute(turned).rowcount:
                raise NoSecondFactor("it was set up anew or confirmed meanwhile; begin again")
            _forget_codes(connection, user_id)
            connection.execute(insert(recovery_codes), [{"user_id": user_id, "sha256": sha256} for sha256 in codes])
            append(connection, org, [event])

    def take_step(self, org: str, user_id: str, step: int) -> bool:
        """Use a code's step up; False when it or a later one was used before, by whichever server."""
        newer = or_(users.c.totp_step.is_(None), users.c.totp_step < step)
        mine = (users.c.org == org) & (users.c.id == user_id) & users.c.totp_confirmed_at.is_not(None)
        with self._database.write() as connection:
            return bool(connection.execute(update(users).where(mine, newer).values(totp_step=step)).rowcount)

    def take_recovery_code(self, org: str, user_id: str, sha256: str, event: AuditEvent) -> bool:
        """Use a recovery code up; False when it is none of the account's, or used."""
        mine = (recovery_codes.c.user_id == user_id) & (recovery_codes.c.sha256 == sha256)
        with self._database.write() as connection:
            used = update(recovery_codes).where(mine, recovery_codes.c.used_at.is_(None)).values(used_at=event.at)
            if not connection.execute(used).rowcount:
                return False
            append(connection, org, [event])
            return True

    def remove(self, org: str, user_id: str, event: AuditEvent) -> None:
        """Forget secret and recovery codes; raises NoSecondFactor when there is nothing to forget."""
        mine = (users.c.org == org) & (users.c.id == user_id)
        nothing = {"totp_secret": None, "totp_confirmed_at": None, "totp_step": None}
        with self._database.write() as connection:
            gone = update(users).where(mine, users.c.totp_secret.is_not(None)).values(**nothing)
            if not connection.execute(gone).rowcount:
                raise NoSecondFactor("no second factor is set up")
            _forget_codes(connection, user_id)
            append(connection, org, [event])


def _forget_codes(connection: Connection, user_id: str) -> None:
    connection.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))
