"""The tables of trusted publishers; ``store.models`` has them among all others."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table

from store.account_models import metadata, org_column
from store.columns import JsonText, Key, UtcDateTime

trusted_publishers = Table(
    "trusted_publishers",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("name", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("issuer", Key, nullable=False),
    Column("audience", Key, nullable=False),
    Column("claims", JsonText, nullable=False),
    Column("products", JsonText, nullable=False),
    Column("life_seconds", Integer, nullable=False),
    Column("by", JsonText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
    Index("ix_trusted_publishers_org_id", "org", "id"),
    # A token comes without an organisation: what it says of itself finds those that may trust it.
    Index("ix_trusted_publishers_issuer", "issuer"),
)

publish_tokens = Table(
    "publish_tokens",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("publisher", Key, ForeignKey("trusted_publishers.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("sha256", Key, nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
    Column("claims", JsonText, nullable=False),
)

# Identity tokens that were exchanged, whoever's organisation it was for: each is good once in the whole installation.
spent_id_tokens = Table(
    "spent_id_tokens",
    metadata,
    Column("digest", Key, primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)
