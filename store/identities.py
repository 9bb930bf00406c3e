"""Who accounts are at providers of OpenID Connect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, delete, or_, select, update

from evidence.federation import Identity, Newcomer
from evidence.model import ActorKind, AuditEvent
from evidence.people import User
from store.account_models import identities, users
from store.accounts import insert_user, to_user
from store.audit import append
from store.columns import insert_if_absent
from store.database import Database
from store.errors import AccountNotLinked, IdentityTaken, UnknownIdentity


class Identities:
    """Every method is one transaction, with its audit events in it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, org: str, issuer: str, subject: str) -> tuple[User, Identity] | None:
        """The account of somebody at a provider, disabled or not."""
        query = (
            select(identities, users)
            .join_from(identities, users, users.c.id == identities.c.user_id)
            .where(identities.c.org == org, identities.c.issuer == issuer, identities.c.subject == subject)
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
            return None if row is None else (to_user(row), _identity(row))

    def of(self, org: str, user_id: str) -> Sequence[Identity]:
        """Those of one account, oldest first."""
        query = select(identities).where(identities.c.org == org, identities.c.user_id == user_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(identities.c.linked_at, identities.c.subject)).mappings()
            return [_identity(row) for row in rows]

    def create(self, user: User, newcomer: Newcomer, events: Sequence[AuditEvent]) -> None:
        """Make an account that is somebody at a provider; raises UserExists, IdentityTaken."""
        with self._database.write() as connection:
            insert_user(connection, user)
            _insert(connection, user.org, user.id, newcomer, events[-1].at, follows_roles=True)
            append(connection, user.org, events)

    def claim(self, user: User, newcomer: Newcomer, event: AuditEvent) -> None:
        """Give an account to the person it was made for, at their first login.

        Only while nobody has chosen a password for it and nobody has it at a provider; the one-time password that an
        administrator knows ends with it.

        Raises:
            AccountNotLinked: Somebody uses the account, or it is a program's.
            IdentityTaken: Somebody was first.
        """
        mine = (users.c.org == user.org) & (users.c.id == user.id) & (users.c.kind == ActorKind.USER.value)
        unused = or_(users.c.password_hash.is_(None), users.c.password_change_required.is_(True))
        linked = select(identities.c.user_id).where(identities.c.user_id == users.c.id).exists()
        taken = update(users).where(mine, unused, ~linked).values(password_hash=None, password_change_required=False)
        with self._database.write() as connection:
            # Held first, so that the look at its identities is one of after everybody who was before us.
            connection.execute(select(users.c.id).where(mine).with_for_update())
            if not connection.execute(taken).rowcount:
                raise AccountNotLinked(
                    f"the account of {newcomer.email} is in use and not linked to the provider; log in with its "
                    "password and link it: `publish login --oidc --link`"
                )
            _insert(connection, user.org, user.id, newcomer, event.at, follows_roles=False)
            append(connection, user.org, [event])

    def link(self, user: User, newcomer: Newcomer, event: AuditEvent) -> None:
        """Let the account be logged into by the provider from now on; again changes nothing. Raises IdentityTaken."""
        with self._database.write() as connection:
            found = connection.execute(
                select(identities.c.user_id).where(
                    identities.c.org == user.org,
                    identities.c.issuer == newcomer.issuer,
                    identities.c.subject == newcomer.subject,
                )
            ).scalar_one_or_none()
            if found == user.id:
                return
            _insert(connection, user.org, user.id, newcomer, event.at, follows_roles=False)
            append(connection, user.org, [event])

    def unlink(self, org: str, user_id: str, issuer: str, subject: str, event: AuditEvent) -> None:
        """Let the provider log nobody into the account by this identity; raises UnknownIdentity."""
        gone = delete(identities).where(
            identities.c.org == org,
            identities.c.user_id == user_id,
            identities.c.issuer == issuer,
            identities.c.subject == subject,
        )
        with self._database.write() as connection:
            if not connection.execute(gone).rowcount:
                raise UnknownIdentity("the account is not linked to this identity")
            append(connection, org, [event])


def _insert(
    connection: Connection, org: str, user_id: str, newcomer: Newcomer, at: datetime, *, follows_roles: bool
) -> None:
    row = {
        "org": org,
        "issuer": newcomer.issuer,
        "subject": newcomer.subject,
        "user_id": user_id,
        "follows_roles": follows_roles,
        "linked_at": at,
    }
    if not insert_if_absent(connection, identities, row):
        raise IdentityTaken("this identity of the provider is linked to an account already")


def _identity(row: RowMapping) -> Identity:
    return Identity(
        org=row[identities.c.org],
        issuer=row[identities.c.issuer],
        subject=row[identities.c.subject],
        user=row[identities.c.user_id],
        follows_roles=row[identities.c.follows_roles],
        linked_at=row[identities.c.linked_at],
    )
