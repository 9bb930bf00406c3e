"""The tables of webhooks; ``store.models`` has them among all others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, UniqueConstraint

from store.account_models import metadata, org_column
from store.columns import JsonText, Key, UtcDateTime

# ``position`` is the seq of the last event looked at; ``revision`` counts changes by people, not deliveries.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("enabled", Boolean, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("failing_since", UtcDateTime),
    Column("revision", Integer, nullable=False),
    Column("document", JsonText, nullable=False),
    Index("ix_webhooks_org_id", "org", "id"),
)

# ``message`` is the event's id; an event is delivered to a webhook once, and replayed in the same row.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("webhook", Key, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("message", Key, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("tag", Key, nullable=False),
    Column("state", Key, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("attempts", JsonText, nullable=False),
    UniqueConstraint("webhook", "message"),
    Index("ix_webhook_deliveries_org_state_next_at", "org", "state", "next_at"),
    Index("ix_webhook_deliveries_webhook_id", "webhook", "id"),
)
