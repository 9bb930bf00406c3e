"""Webhooks at rest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from evidence.errors import TooManyWebhooks, UnknownWebhook, WebhookChanged
from evidence.model import Actor, AuditEvent
from evidence.webhooks.model import DeliveryState, Secret, Webhook
from store.audit import append
from store.columns import AnyRow
from store.database import Database
from store.models import audit_heads, webhook_deliveries, webhooks


class SqlWebhooks:
    """Fulfils ``evidence.webhooks.ports.WebhookRows``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, org: str) -> Sequence[Webhook]:
        """In order of id."""
        query = select(webhooks).where(webhooks.c.org == org).order_by(webhooks.c.id)
        with self._database.read() as connection:
            return [_webhook(row) for row in connection.execute(query)]

    def get(self, org: str, webhook: str) -> Webhook:
        """Raises UnknownWebhook."""
        query = select(webhooks).where(webhooks.c.org == org, webhooks.c.id == webhook)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise _unknown(webhook)
        return _webhook(row)

    def add(self, webhook: Webhook, event: AuditEvent, *, most: int) -> Webhook:
        """Store a new one, its position at the end of the log; raises TooManyWebhooks when there are ``most``."""
        count = select(func.count()).select_from(webhooks).where(webhooks.c.org == webhook.org)
        with self._database.write() as connection:
            append(connection, webhook.org, [event])  # locks the organisation's log: nobody else adds one meanwhile
            if connection.execute(count).scalar_one() >= most:
                raise TooManyWebhooks(f"there are {most} webhooks, the most possible; delete one first")
            connection.execute(
                insert(webhooks),
                {
                    "id": webhook.id,
                    "org": webhook.org,
                    "enabled": webhook.enabled,
                    "position": _head(connection, webhook.org),
                    "failing_since": webhook.failing_since,
                    "revision": webhook.revision,
                    "document": _document(webhook),
                },
            )
        return self.get(webhook.org, webhook.id)

    def save(self, webhook: Webhook, event: AuditEvent, *, from_now: bool) -> Webhook:
        """Store a change of revision ``webhook.revision``, which goes up by one; its waiting deliveries fail if it is
        disabled. ``from_now`` moves its position to the end of the log.

        Raises:
            UnknownWebhook, WebhookChanged: Nothing is stored.
        """
        mine = (webhooks.c.org == webhook.org) & (webhooks.c.id == webhook.id)
        change: dict[str, Any] = {
            "enabled": webhook.enabled,
            "revision": webhook.revision + 1,
            "document": _document(webhook),
        }
        if from_now:
            change["failing_since"] = None
        with self._database.write() as connection:
            stored = connection.execute(
                update(webhooks).where(mine, webhooks.c.revision == webhook.revision).values(change)
            )
            if not stored.rowcount:
                if connection.execute(select(webhooks.c.id).where(mine)).first() is None:
                    raise _unknown(webhook.id)
                raise WebhookChanged(f"webhook {webhook.id} was changed meanwhile; read it again and decide afresh")
            if not webhook.enabled:
                waiting = (webhook_deliveries.c.webhook == webhook.id) & (
                    webhook_deliveries.c.state == DeliveryState.WAITING.value
                )
                failed = {
                    "state": DeliveryState.FAILED.value,
                    "next_at": None,
                    "revision": webhook_deliveries.c.revision + 1,
                }
                connection.execute(update(webhook_deliveries).where(waiting).values(failed))
            append(connection, webhook.org, [event])
            if from_now:
                connection.execute(update(webhooks).where(mine).values(position=_head(connection, webhook.org)))
        return self.get(webhook.org, webhook.id)

    def remove(self, org: str, webhook: str, event: AuditEvent) -> None:
        """Forget it with its deliveries; raises UnknownWebhook."""
        gone = delete(webhooks).where(webhooks.c.org == org, webhooks.c.id == webhook)
        with self._database.write() as connection:
            if not connection.execute(gone).rowcount:
                raise _unknown(webhook)
            append(connection, org, [event])


def _head(connection: Connection, org: str) -> int:
    head: int = connection.execute(select(audit_heads.c.seq).where(audit_heads.c.org == org)).scalar_one()
    return head


def _unknown(webhook: str) -> UnknownWebhook:
    return UnknownWebhook(f"no webhook {webhook}; `publish webhook list` shows those there are")


def _document(webhook: Webhook) -> dict[str, Any]:
    return {
        "url": webhook.url,
        "description": webhook.description,
        "events": list(webhook.events),
        "secrets": [
            {
                "sealed": one.sealed,
                "made_at": one.made_at.isoformat(),
                "ends_at": None if one.ends_at is None else one.ends_at.isoformat(),
            }
            for one in webhook.secrets
        ],
        "by": webhook.by.to_dict(),
        "created_at": webhook.created_at.isoformat(),
        "disabled_because": webhook.disabled_because,
    }


def _webhook(row: AnyRow) -> Webhook:
    stored: dict[str, Any] = row.document
    return Webhook(
        id=row.id,
        org=row.org,
        url=stored["url"],
        description=stored["description"],
        events=tuple(stored["events"]),
        secrets=tuple(
            Secret(
                one["sealed"],
                datetime.fromisoformat(one["made_at"]),
                None if one["ends_at"] is None else datetime.fromisoformat(one["ends_at"]),
            )
            for one in stored["secrets"]
        ),
        by=Actor.from_dict(stored["by"]),
        created_at=datetime.fromisoformat(stored["created_at"]),
        enabled=row.enabled,
        disabled_because=stored["disabled_because"],
        position=row.position,
        failing_since=row.failing_since,
        revision=row.revision,
    )
