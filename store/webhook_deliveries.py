"""Deliveries to webhooks at rest: what waits, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from evidence.errors import UnknownDelivery
from evidence.model import AuditEvent
from evidence.webhooks.model import Attempt, Delivery, DeliveryState, Told, Webhook
from store.audit import append, decode_body
from store.columns import AnyRow
from store.database import Database
from store.models import audit_events, webhook_deliveries, webhooks


class SqlDeliveries:
    """Fulfils ``evidence.webhooks.ports.DeliveryRows``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unseen(self, webhook: Webhook, limit: int) -> Sequence[Told]:
        """Events behind the webhook's position, in order."""
        query = (
            select(audit_events.c.seq, audit_events.c.id, audit_events.c.body)
            .where(audit_events.c.org == webhook.org, audit_events.c.seq > webhook.position)
            .order_by(audit_events.c.seq)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [Told(row.seq, row.id, decode_body(row.body)) for row in connection.execute(query)]

    def queue(self, webhook: Webhook, upto: int, deliveries: Sequence[Delivery]) -> bool:
        """Store new deliveries and move the position, in one transaction; False and nothing when it was moved before,
        or the webhook was disabled."""
        move = update(webhooks).where(
            webhooks.c.id == webhook.id, webhooks.c.position == webhook.position, webhooks.c.enabled
        )
        with self._database.write() as connection:
            if not connection.execute(move.values(position=upto)).rowcount:
                return False
            if deliveries:
                connection.execute(insert(webhook_deliveries), [_row(one) for one in deliveries])
            return True

    def add(self, org: str, event: AuditEvent, make: Delivery) -> Delivery:
        """Write the event, and a delivery of just this event: ``make`` with its message and seq."""
        last = select(audit_events.c.id, audit_events.c.seq).where(audit_events.c.org == org)
        with self._database.write() as connection:
            append(connection, org, [event])
            place = connection.execute(last.order_by(audit_events.c.seq.desc()).limit(1)).one()
            made = replace(make, message=place.id, seq=place.seq)
            connection.execute(insert(webhook_deliveries), _row(made))
        return made

    def due(self, org: str, now: datetime, *, limit: int, each: int) -> Sequence[Delivery]:
        """Waiting ones whose time has come, the longest waiting first, at most ``each`` of one webhook."""
        rank = func.row_number().over(
            partition_by=webhook_deliveries.c.webhook,
            order_by=(webhook_deliveries.c.next_at, webhook_deliveries.c.id),
        )
        waiting = (
            select(webhook_deliveries.c.id, rank.label("rank"))
            .where(
                webhook_deliveries.c.org == org,
                webhook_deliveries.c.state == DeliveryState.WAITING.value,
                webhook_deliveries.c.next_at <= now,
            )
            .subquery()
        )
        query = (
            select(webhook_deliveries)
            .join(waiting, waiting.c.id == webhook_deliveries.c.id)
            .where(waiting.c.rank <= each)
            .order_by(webhook_deliveries.c.next_at, webhook_deliveries.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def told(self, delivery: Delivery) -> Told:
        """The event of a delivery."""
        query = select(audit_events.c.body).where(
            audit_events.c.org == delivery.org, audit_events.c.seq == delivery.seq
        )
        with self._database.read() as connection:
            return Told(delivery.seq, delivery.message, decode_body(connection.execute(query).scalar_one()))

    def get(self, org: str, delivery: str) -> Delivery:
        """Raises UnknownDelivery."""
        query = select(webhook_deliveries).where(webhook_deliveries.c.org == org, webhook_deliveries.c.id == delivery)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise UnknownDelivery(f"no delivery {delivery}; `publish webhook deliveries` shows those there are")
        return _delivery(row)

    def page(self, webhook: str, *, before: str | None, limit: int, state: str | None) -> Sequence[Delivery]:
        """Of one webhook, the newest first; ``before`` is the id of the last one seen."""
        query = select(webhook_deliveries).where(*_filters(webhook, state))
        if before is not None:
            query = query.where(webhook_deliveries.c.id < before)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(webhook_deliveries.c.id.desc()).limit(limit))
            return [_delivery(row) for row in found]

    def count(self, webhook: str, *, state: str | None) -> int:
        """How many :meth:`page` has in all."""
        query = select(func.count()).select_from(webhook_deliveries).where(*_filters(webhook, state))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def count_waiting(self, org: str) -> int:
        """How many of an organisation are still to be made, now or later."""
        query = select(func.count()).where(
            webhook_deliveries.c.org == org, webhook_deliveries.c.state == DeliveryState.WAITING.value
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def save(self, before: Delivery, after: Delivery, events: Sequence[AuditEvent]) -> bool:
        """Store a change if nobody was first; False and nothing otherwise."""
        same = (webhook_deliveries.c.id == before.id) & (webhook_deliveries.c.revision == before.revision)
        with self._database.write() as connection:
            if not connection.execute(update(webhook_deliveries).where(same).values(_row(after))).rowcount:
                return False
            append(connection, after.org, events)
            return True

    def failing(self, webhook: Webhook, since: datetime | None) -> None:
        """Remember the first failure since the last success; None for a success."""
        mine = webhooks.c.id == webhook.id
        if since is None:
            change = update(webhooks).where(mine, webhooks.c.failing_since.is_not(None)).values(failing_since=None)
        else:
            change = update(webhooks).where(mine, webhooks.c.failing_since.is_(None)).values(failing_since=since)
        with self._database.write() as connection:
            connection.execute(change)

    def forget(self, org: str, before: datetime) -> int:
        """Drop deliveries made before that no longer wait; how many."""
        old = delete(webhook_deliveries).where(
            webhook_deliveries.c.org == org,
            webhook_deliveries.c.created_at < before,
            webhook_deliveries.c.state != DeliveryState.WAITING.value,
        )
        with self._database.write() as connection:
            return connection.execute(old).rowcount


def _filters(webhook: str, state: str | None) -> list[Any]:
    filters: list[Any] = [webhook_deliveries.c.webhook == webhook]
    if state is not None:
        filters.append(webhook_deliveries.c.state == state)
    return filters


def _row(one: Delivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "org": one.org,
        "webhook": one.webhook,
        "message": one.message,
        "seq": one.seq,
        "tag": one.tag,
        "state": one.state.value,
        "tries": one.tries,
        "next_at": one.next_at,
        "created_at": one.created_at,
        "revision": one.revision,
        "attempts": [attempt.to_dict() for attempt in one.attempts],
    }


def _delivery(row: AnyRow) -> Delivery:
    return Delivery(
        id=row.id,
        org=row.org,
        webhook=row.webhook,
        message=row.message,
        seq=row.seq,
        tag=row.tag,
        created_at=row.created_at,
        state=DeliveryState(row.state),
        next_at=row.next_at,
        tries=row.tries,
        attempts=tuple(Attempt.from_dict(stored) for stored in row.attempts),
        revision=row.revision,
    )
