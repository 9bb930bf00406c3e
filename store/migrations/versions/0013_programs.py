"""Trusted publishers with their tokens, and the identities that people log in by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "trusted_publishers",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("issuer", KEY, nullable=False),
        sa.Column("audience", KEY, nullable=False),
        sa.Column("claims", sa.Text(), nullable=False),
        sa.Column("products", sa.Text(), nullable=False),
        sa.Column("life_seconds", sa.Integer(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("last_used_at", TIME),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_trusted_publishers_org"),
        sa.PrimaryKeyConstraint("id", name="pk_trusted_publishers"),
    )
    op.create_index("ix_trusted_publishers_org_id", "trusted_publishers", ["org", "id"])
    op.create_index("ix_trusted_publishers_issuer", "trusted_publishers", ["issuer"])
    op.create_table(
        "publish_tokens",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("publisher", KEY, nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("claims", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_publish_tokens_org"),
        sa.ForeignKeyConstraint(
            ["publisher"], ["trusted_publishers.id"], name="fk_publish_tokens_publisher", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_publish_tokens"),
        sa.UniqueConstraint("sha256", name="uq_publish_tokens_sha256"),
    )
    op.create_index("ix_publish_tokens_publisher", "publish_tokens", ["publisher"])
    op.create_index("ix_publish_tokens_expires_at", "publish_tokens", ["expires_at"])
    op.create_table(
        "spent_id_tokens",
        sa.Column("digest", KEY, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_spent_id_tokens"),
    )
    op.create_index("ix_spent_id_tokens_expires_at", "spent_id_tokens", ["expires_at"])
    op.create_table(
        "identities",
        sa.Column("org", KEY, nullable=False),
        sa.Column("issuer", KEY, nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("follows_roles", sa.Boolean(), nullable=False),
        sa.Column("linked_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_identities_org"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_identities_user_id"),
        sa.PrimaryKeyConstraint("org", "issuer", "subject", name="pk_identities"),
    )
    op.create_index("ix_identities_user_id", "identities", ["user_id"])
