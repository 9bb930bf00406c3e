"""Trusted publishers at rest, the tokens their jobs got, and the identity tokens that were spent for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update

from evidence.errors import IdTokenSpent, TooManyPublishers, UnknownPublisher
from evidence.model import Actor, AuditEvent
from evidence.publishing import Provider, Publisher, PublishToken
from store.audit import append
from store.columns import AnyRow, insert_if_absent
from store.database import Database
from store.models import publish_tokens, spent_id_tokens, trusted_publishers

# Longer than the clocks of servers and issuers differ: what is forgotten must not be good again.
_KEPT: Final = timedelta(days=1)


class Publishers:
    """Every method is one transaction, with its audit event in it. Lookups by issuer and by digest, which find out
    who is calling, search all organisations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, publisher: Publisher, event: AuditEvent, *, most: int) -> None:
        """Store a new one; raises TooManyPublishers when there are ``most``."""
        mine = trusted_publishers.c.org == publisher.org
        with self._database.write() as connection:
            append(connection, publisher.org, [event])  # locks the organisation's log: nobody else adds one meanwhile
            if connection.execute(select(func.count()).where(mine)).scalar_one() >= most:
                raise TooManyPublishers(f"there are {most} trusted publishers, the most possible; delete one first")
            connection.execute(insert(trusted_publishers), _publisher_row(publisher))

    def get(self, org: str, publisher: str) -> Publisher:
        """Raises UnknownPublisher."""
        mine = (trusted_publishers.c.org == org) & (trusted_publishers.c.id == publisher)
        with self._database.read() as connection:
            row = connection.execute(select(trusted_publishers).where(mine)).first()
        if row is None:
            raise _unknown(publisher)
        return _publisher(row)

    def page(self, org: str, *, after: str | None, limit: int) -> Sequence[Publisher]:
        """In order of id, beginning behind ``after``."""
        query = select(trusted_publishers).where(trusted_publishers.c.org == org)
        if after is not None:
            query = query.where(trusted_publishers.c.id > after)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(trusted_publishers.c.id).limit(limit))
            return [_publisher(row) for row in rows]

    def count(self, org: str) -> int:
        """How many the organisation has."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).where(trusted_publishers.c.org == org)).scalar_one()

    def of_issuer(self, issuer: str, org: str | None) -> Sequence[Publisher]:
        """All that trust this issuer, of one organisation or of all."""
        query = select(trusted_publishers).where(trusted_publishers.c.issuer == issuer)
        if org is not None:
            query = query.where(trusted_publishers.c.org == org)
        with self._database.read() as connection:
            return [_publisher(row) for row in connection.execute(query.order_by(trusted_publishers.c.id))]

    def remove(self, org: str, publisher: str, event: AuditEvent) -> None:
        """Forget one, and with it every token its jobs have; raises UnknownPublisher."""
        mine = (trusted_publishers.c.org == org) & (trusted_publishers.c.id == publisher)
        with self._database.write() as connection:
            # The tokens go by the foreign key, so that everybody locks the publisher before its tokens.
            if not connection.execute(delete(trusted_publishers).where(mine)).rowcount:
                raise _unknown(publisher)
            append(connection, org, [event])

    def exchange(self, digest: str, spent_until: datetime, token: PublishToken, event: AuditEvent) -> None:
        """Spend an identity token and store the publish token it was given for. Of many at once, one succeeds.

        Args:
            digest: What the identity token is known by, see :class:`keys.id_token.IdToken`.
            spent_until: When it ends by itself.

        Raises:
            IdTokenSpent: It was exchanged before; nothing is stored.
            UnknownPublisher: The publisher was deleted meanwhile; nothing is stored.
        """
        now = token.created_at
        with self._database.write() as connection:
            if not insert_if_absent(connection, spent_id_tokens, {"digest": digest, "expires_at": spent_until}):
                raise IdTokenSpent("this identity token was exchanged before; ask for a new one for each exchange")
            used = update(trusted_publishers).where(trusted_publishers.c.id == token.publisher)
            if not connection.execute(used.values(last_used_at=now)).rowcount:
                raise _unknown(token.publisher)
            connection.execute(insert(publish_tokens), _token_row(token))
            connection.execute(delete(spent_id_tokens).where(spent_id_tokens.c.expires_at < now - _KEPT))
            connection.execute(delete(publish_tokens).where(publish_tokens.c.expires_at < now - _KEPT))
            append(connection, token.org, [event])

    def token_by_sha256(self, sha256: str) -> tuple[PublishToken, Publisher] | None:
        """The publish token with this digest and its publisher, live or not; None when there is none."""
        query = (
            select(
                trusted_publishers,
                publish_tokens.c.id.label("token_id"),
                publish_tokens.c.sha256.label("token_sha256"),
                publish_tokens.c.created_at.label("token_created_at"),
                publish_tokens.c.expires_at.label("token_expires_at"),
                publish_tokens.c.claims.label("token_claims"),
            )
            .join_from(publish_tokens, trusted_publishers, trusted_publishers.c.id == publish_tokens.c.publisher)
            .where(publish_tokens.c.sha256 == sha256)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        token = PublishToken(
            id=row.token_id,
            publisher=row.id,
            org=row.org,
            sha256=row.token_sha256,
            created_at=row.token_created_at,
            expires_at=row.token_expires_at,
            claims=row.token_claims,
        )
        return token, _publisher(row)


def _unknown(publisher: str) -> UnknownPublisher:
    return UnknownPublisher(f"no trusted publisher {publisher}")


def _publisher_row(publisher: Publisher) -> dict[str, Any]:
    return {
        "id": publisher.id,
        "org": publisher.org,
        "name": publisher.name,
        "provider": publisher.provider.value,
        "issuer": publisher.issuer,
        "audience": publisher.audience,
        "claims": dict(publisher.claims),
        "products": list(publisher.products),
        "life_seconds": int(publisher.life.total_seconds()),
        "by": publisher.by.to_dict(),
        "created_at": publisher.created_at,
        "last_used_at": publisher.last_used_at,
    }


def _publisher(row: AnyRow) -> Publisher:
    return Publisher(
        id=row.id,
        org=row.org,
        name=row.name,
        provider=Provider(row.provider),
        issuer=row.issuer,
        audience=row.audience,
        claims=row.claims,
        products=tuple(row.products),
        life=timedelta(seconds=row.life_seconds),
        by=Actor.from_dict(row.by),
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )


def _token_row(token: PublishToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "org": token.org,
        "publisher": token.publisher,
        "sha256": token.sha256,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "claims": dict(token.claims),
    }
