"""The table of metric readings; ``store.models`` has it among all others."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, Table

from store.account_models import metadata, org_column
from store.columns import JsonText, Key

# The last reading of each metric; the document is the whole of it.
metric_readings = Table(
    "metric_readings",
    metadata,
    Column("rollout", Key, ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("wave", Integer, primary_key=True, autoincrement=False),
    Column("name", Key, primary_key=True),
    org_column(),
    Column("document", JsonText, nullable=False),
)
