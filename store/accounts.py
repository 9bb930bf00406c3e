"""Organisations, accounts, API keys and logins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from evidence.model import ActorKind, AuditEvent
from evidence.people import ApiKey, Role, Session, SessionKind, User
from store.account_models import api_keys, sessions, users
from store.audit import append
from store.chosen_accounts import Chosen, conditions, email_key, others_hold
from store.database import Database
from store.errors import ApiKeyReplaced, LastAdmin, UnknownApiKey, UnknownSession, UnknownUser, UserExists
from store.lookup import Lookup
from store.order import Order
from store.org_rows import insert_org

# How exact last_used_at is: writing it on every request would cost more than the request.
TOUCH_EVERY: Final = timedelta(minutes=1)
OLDEST_FIRST: Final = Order.of("created_at")


class Accounts:
    """Accounts and their credentials at rest. Every method is one transaction, with its audit event in it.

    ``org`` is the slug; what belongs to another organisation is unknown here. Only the lookups by digest, which
    find out who is calling, search all organisations.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_org(self, slug: str, name: str, *, now: datetime) -> None:
        """Add an organisation; everything else needs one to belong to. Raises OrgExists."""
        with self._database.write() as connection:
            insert_org(connection, slug, name, now)

    # Accounts

    def add_user(self, user: User, event: AuditEvent) -> None:
        """Raises UserExists when the e-mail address is taken, in whatever case it is written."""
        with self._database.write() as connection:
            insert_user(connection, user)
            append(connection, user.org, [event])

    def user(self, org: str, user_id: str) -> User:
        """Raises UnknownUser."""
        with self._database.read() as connection:
            return _user(connection, org, user_id)

    def user_by_email(self, org: str, email: str) -> User | None:
        """The account with this address, whatever the case; None is the caller's to answer for in constant time."""
        key = email_key(email)
        if key is None:
            return None
        query = select(users).where(users.c.org == org, users.c.email_key == key)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
            return None if row is None else to_user(row)

    def users_by_email(self, email: str, *, org: str | None, limit: int) -> Sequence[User]:
        """The accounts with this address, whatever the case, in one organisation or in all; in order of their ids."""
        key = email_key(email)
        if key is None:
            return []
        query = select(users).where(users.c.email_key == key).order_by(users.c.id).limit(limit)
        if org is not None:
            query = query.where(users.c.org == org)
        with self._database.read() as connection:
            return [to_user(row) for row in connection.execute(query).mappings()]

    def users(
        self,
        org: str,
        *,
        chosen: Chosen | None = None,
        order: Order = OLDEST_FIRST,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[User]:
        """Accounts beginning behind the place ``after``, by default in order of creation; only the ``chosen``."""
        query = select(users).where(users.c.org == org, *conditions(chosen))
        query = order.page(query, users, after=after, limit=limit)
        with self._database.read() as connection:
            return [to_user(row) for row in connection.execute(query).mappings()]

    def count_users(self, org: str, chosen: Chosen | None = None) -> int:
        """How many accounts the organisation has; only the ``chosen``."""
        query = select(func.count()).select_from(users).where(users.c.org == org, *conditions(chosen))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def update_user(
        self,
        org: str,
        user_id: str,
        event: AuditEvent,
        *,
        name: str | None = None,
        role: Role | None = None,
        disabled: bool | None = None,
        password_hash: str | None = None,
        password_change_required: bool | None = None,
        keep: Role | None = None,
    ) -> User:
        """Change what is not None and return the account as it is then.

        Args:
            keep: One person with this role, not disabled, is to remain.

        Raises:
            UnknownUser: There is no such account.
            LastAdmin: It is the last one of the role to ``keep``; nothing is changed.
        """
        changes: dict[str, object] = {
            column: value
            for column, value in {
                "name": name,
                "role": None if role is None else role.value,
                "disabled": disabled,
                "password_hash": password_hash,
                "password_change_required": password_change_required,
            }.items()
            if value is not None
        }
        with self._database.write() as connection:
            others = keep is None or others_hold(connection, org, user_id, keep)
            if changes:
                connection.execute(
                    update(users).where(users.c.org == org, users.c.id == user_id).values(**changes),
                )
            changed = _user(connection, org, user_id)
            if not others and (changed.disabled or changed.role is not keep):
                raise LastAdmin(f"{changed.email} is the last {keep}; give somebody else that role first")
            append(connection, org, [event])
            return changed

    # API keys

    def add_key(self, key: ApiKey, event: AuditEvent, *, owner: User | None = None) -> None:
        """Store a key; ``owner`` is a new service account to be added with it. Raises UnknownUser, UserExists."""
        with self._database.write() as connection:
            if owner is not None:
                insert_user(connection, owner)
            _user(connection, key.org, key.user)
            connection.execute(insert(api_keys), _key_row(key))
            append(connection, key.org, [event])

    def key_by_sha256(self, sha256: str) -> tuple[ApiKey, User] | None:
        """The key with this digest and the account it speaks for, whether live or not; None when there is none."""
        found: tuple[ApiKey, User] | None = self._database.look_up(_credential("api_keys"), sha256)
        return found

    def key(self, org: str, key_id: str) -> tuple[ApiKey, User]:
        """A key that is not revoked, expired or not, and its account; raises UnknownApiKey."""
        query = (
            select(api_keys, users)
            .join_from(api_keys, users, users.c.id == api_keys.c.user_id)
            .where(api_keys.c.org == org, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise UnknownApiKey(f"no API key {key_id} that is not revoked")
        return _to_key(row), to_user(row)

    def rotate_key(self, old: ApiKey, new: ApiKey, event: AuditEvent, *, until: datetime) -> None:
        """Put ``new`` in the place of ``old``, which ends at ``until`` or when it would have ended, if that is sooner.

        Raises:
            ApiKeyReplaced: ``old`` was rotated or revoked since it was read.
        """
        with self._database.write() as connection:
            mine = (api_keys.c.org == old.org) & (api_keys.c.id == old.id)
            free = api_keys.c.replaced_by.is_(None) & api_keys.c.revoked_at.is_(None)
            ends = {"replaced_by": new.id, "expires_at": min(until, old.expires_at)}
            if not connection.execute(update(api_keys).where(mine, free).values(**ends)).rowcount:
                raise ApiKeyReplaced(f"the API key {old.id} was rotated or revoked already; rotate the newest one")
            connection.execute(insert(api_keys), _key_row(new))
            append(connection, old.org, [event])

    def keys(
        self, org: str, *, of: str | None = None, after: str | None = None, limit: int = 50
    ) -> Sequence[tuple[ApiKey, User]]:
        """Keys that are not revoked, of everybody or of one account, newest first, beginning behind the id ``after``;
        each with its account."""
        query = (
            select(api_keys, users)
            .join_from(api_keys, users, users.c.id == api_keys.c.user_id)
            .where(*_live_keys(org, of))
            .order_by(api_keys.c.id.desc())
            .limit(limit)
        )
        if after is not None:
            query = query.where(api_keys.c.id < after)
        with self._database.read() as connection:
            return [(_to_key(row), to_user(row)) for row in connection.execute(query).mappings()]

    def count_keys(self, org: str, *, of: str | None = None) -> int:
        """How many keys are not revoked, of everybody or of one account."""
        query = select(func.count()).select_from(api_keys).where(*_live_keys(org, of))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def revoke_key(self, org: str, key_id: str, event: AuditEvent) -> None:
        """Make the key worthless from ``event.at`` on; raises UnknownApiKey, also for one that is revoked already."""
        with self._database.write() as connection:
            revoked = connection.execute(
                update(api_keys)
                .where(api_keys.c.org == org, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=event.at)
            ).rowcount
            if not revoked:
                raise UnknownApiKey(f"no API key {key_id} that could be revoked")
            append(connection, org, [event])

    def touch_key(self, key: ApiKey, *, now: datetime) -> None:
        """Note that the key was used, to the minute: most calls write nothing."""
        if _is_due(key.last_used_at, now):
            with self._database.write() as connection:
                connection.execute(update(api_keys).where(api_keys.c.id == key.id).values(last_used_at=now))

    # Logins

    def add_session(self, session: Session, event: AuditEvent) -> None:
        """Store a login; raises UnknownUser."""
        with self._database.write() as connection:
            _user(connection, session.org, session.user)
            connection.execute(insert(sessions), _session_row(session))
            append(connection, session.org, [event])

    def session_by_sha256(self, sha256: str) -> tuple[Session, User] | None:
        """The login with this digest and its account, whether live or not; None when there is none."""
        found: tuple[Session, User] | None = self._database.look_up(_credential("sessions"), sha256)
        return found

    def live_sessions(self, org: str, user_id: str, *, now: datetime, idle: timedelta) -> Sequence[Session]:
        """The account's logins that count at ``now``, newest first; a cookie's also ends when unused for ``idle``."""
        last = func.coalesce(sessions.c.last_used_at, sessions.c.created_at)
        query = (
            select(sessions)
            .where(sessions.c.org == org, sessions.c.user_id == user_id)
            .where(sessions.c.ended_at.is_(None), sessions.c.expires_at > now)
            .where((sessions.c.kind != SessionKind.SESSION.value) | (last > now - idle))
            .order_by(sessions.c.id.desc())
        )
        with self._database.read() as connection:
            return [_to_session(row) for row in connection.execute(query).mappings()]

    def end_session(self, org: str, session_id: str, event: AuditEvent, *, of: str | None = None) -> None:
        """End a login at ``event.at``, if asked only one ``of`` this account.

        Raises:
            UnknownSession: There is none that could be ended; it may have ended already.
        """
        end = update(sessions).where(sessions.c.org == org, sessions.c.id == session_id, sessions.c.ended_at.is_(None))
        if of is not None:
            end = end.where(sessions.c.user_id == of)
        with self._database.write() as connection:
            ended = connection.execute(end.values(ended_at=event.at)).rowcount
            if not ended:
                raise UnknownSession(f"no login {session_id} that could be ended")
            append(connection, org, [event])

    def end_sessions_of(self, org: str, user_id: str, event: AuditEvent, *, keep: str | None = None) -> int:
        """End the account's logins but ``keep`` at ``event.at``; returns how many, and writes no event for none."""
        end = update(sessions).where(
            sessions.c.org == org, sessions.c.user_id == user_id, sessions.c.ended_at.is_(None)
        )
        if keep is not None:
            end = end.where(sessions.c.id != keep)
        with self._database.write() as connection:
            ended = connection.execute(end.values(ended_at=event.at)).rowcount
            if ended:
                append(connection, org, [event])
            return ended

    def touch_session(self, session: Session, *, now: datetime) -> None:
        """Note that the login was used, to the minute: most calls write nothing."""
        if _is_due(session.last_used_at, now):
            with self._database.write() as connection:
                connection.execute(update(sessions).where(sessions.c.id == session.id).values(last_used_at=now))


def _is_due(last_used_at: datetime | None, now: datetime) -> bool:
    return last_used_at is None or now - last_used_at >= TOUCH_EVERY


def insert_user(connection: Connection, user: User) -> None:
    """Add an account in the caller's transaction; raises UserExists when the address is taken."""
    key = email_key(user.email)
    taken = select(users.c.id).where(users.c.org == user.org, users.c.email_key == key)
    refusal = UserExists(f"an account with the address {user.email} exists already")
    # Without an address there is nothing to be taken, and ``== None`` would find every other account without one.
    if key is not None and connection.execute(taken).first() is not None:
        raise refusal
    try:
        connection.execute(insert(users), _user_row(user))
    except IntegrityError as error:
        # Only reached on PostgreSQL, when somebody else added the address between the two statements.
        if "email_key" in str(error.orig):
            raise refusal from error
        raise


def _user(connection: Connection, org: str, user_id: str) -> User:
    query = select(users).where(users.c.org == org, users.c.id == user_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UnknownUser(f"no account {user_id}")
    return to_user(row)


def _user_row(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "org": user.org,
        "email": user.email.strip(),
        "email_key": email_key(user.email),
        "name": user.name,
        "kind": user.kind.value,
        "role": user.role.value,
        "password_hash": user.password_hash,
        "password_change_required": user.password_change_required,
        "disabled": user.disabled,
        "created_at": user.created_at,
    }


# Rows are read by column, not by name: a credential comes joined with its account, and both have an ``id``.


@cache
def _credential(kind: str) -> Lookup:
    """Who calls the API: a credential by its digest, and its account; asked at every request."""
    table = {"api_keys": api_keys, "sessions": sessions}[kind]
    labelled = (column.label(label) for column, label in _labels(table))
    joined = select(*labelled).join_from(table, users, users.c.id == table.c.user_id)

    def made(row: Any) -> tuple[ApiKey | Session, User]:
        told = {column: getattr(row, label) for column, label in _labels(table)}
        return _to_key(told) if table is api_keys else _to_session(told), to_user(told)

    return Lookup(joined.where(table.c.sha256 == bindparam("sha256")), "sha256", made=made)


@cache
def _labels(table: Table) -> tuple[tuple[ColumnElement[Any], str], ...]:
    return tuple((column, f"{of.name}_{column.name}") for of in (table, users) for column in of.c)


def to_user(row: Mapping[Any, Any]) -> User:
    """The account of a row that may have other tables' columns, too."""
    return User(
        id=row[users.c.id],
        org=row[users.c.org],
        email=row[users.c.email],
        name=row[users.c.name],
        kind=ActorKind(row[users.c.kind]),
        role=Role(row[users.c.role]),
        password_hash=row[users.c.password_hash],
        password_change_required=row[users.c.password_change_required],
        disabled=row[users.c.disabled],
        second_factor=row[users.c.totp_confirmed_at] is not None,
        created_at=row[users.c.created_at],
    )


def _key_row(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "org": key.org,
        "user_id": key.user,
        "name": key.name,
        "prefix": key.prefix,
        "sha256": key.sha256,
        "created_by": key.created_by,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "scope": None if key.scope is None else sorted(key.scope),
        "replaced_by": key.replaced_by,
    }


def _to_key(row: Mapping[Any, Any]) -> ApiKey:
    return ApiKey(
        id=row[api_keys.c.id],
        org=row[api_keys.c.org],
        user=row[api_keys.c.user_id],
        name=row[api_keys.c.name],
        prefix=row[api_keys.c.prefix],
        sha256=row[api_keys.c.sha256],
        created_by=row[api_keys.c.created_by],
        created_at=row[api_keys.c.created_at],
        expires_at=row[api_keys.c.expires_at],
        last_used_at=row[api_keys.c.last_used_at],
        revoked_at=row[api_keys.c.revoked_at],
        scope=None if row[api_keys.c.scope] is None else frozenset(row[api_keys.c.scope]),
        replaced_by=row[api_keys.c.replaced_by],
    )


def _session_row(session: Session) -> dict[str, object]:
    return {
        "id": session.id,
        "org": session.org,
        "user_id": session.user,
        "kind": session.kind.value,
        "sha256": session.sha256,
        "created_at": session.created_at,
        "expires_at": session.expires_at,
        "last_used_at": session.last_used_at,
        "ended_at": session.ended_at,
    }


def _to_session(row: Mapping[Any, Any]) -> Session:
    return Session(
        id=row[sessions.c.id],
        org=row[sessions.c.org],
        user=row[sessions.c.user_id],
        kind=SessionKind(row[sessions.c.kind]),
        sha256=row[sessions.c.sha256],
        created_at=row[sessions.c.created_at],
        expires_at=row[sessions.c.expires_at],
        last_used_at=row[sessions.c.last_used_at],
        ended_at=row[sessions.c.ended_at],
    )


def _live_keys(org: str, of: str | None) -> list[ColumnElement[bool]]:
    live = [api_keys.c.org == org, api_keys.c.revoked_at.is_(None)]
    return live if of is None else [*live, api_keys.c.user_id == of]
