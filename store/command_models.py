"""The tables of commands and log bundles; ``store.models`` has them among all others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from store.account_models import metadata, org_column
from store.columns import JsonText, Key, UtcDateTime

device_commands = Table(
    "device_commands",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Key, nullable=False),
    Column("made_by", JsonText, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("not_before", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("own_window", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Key, nullable=False),
    Column("delivered_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("code", String, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_device_commands_device", "device", "kind", "id"),
    Index("ix_device_commands_org_state", "org", "state", "expires_at"),
)

log_bundles = Table(
    "log_bundles",
    metadata,
    Column("command", Key, ForeignKey("device_commands.id", ondelete="CASCADE"), primary_key=True),
    org_column(),
    Column("device", Key, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("sha256", Key, nullable=False),
    Column("files", Integer, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("kept_until", UtcDateTime, nullable=False),
    Index("ix_log_bundles_org_kept_until", "org", "kept_until"),
)
