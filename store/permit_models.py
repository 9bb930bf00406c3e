"""The tables of permits; ``store.models`` has them among all others."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table

from store.account_models import metadata, org_column
from store.columns import Key, UtcDateTime

# A row of each value of a label that a permit was ever asked for; its lock is what lets one decide at a time.
permit_places = Table(
    "permit_places",
    metadata,
    org_column(primary_key=True),
    Column("label", Key, primary_key=True),
    Column("value", Key, primary_key=True),
)

permits = Table(
    "permits",
    metadata,
    Column("rollout", Key, ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, index=True),
    org_column(),
    Column("label", Key, nullable=False),
    Column("value", Key, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("granted_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_permits_org_label_value", "org", "label", "value"),
)
