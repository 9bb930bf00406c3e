"""Attestations beside artifacts, and artifacts found by their digest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "attestations",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("artifact", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", KEY, nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("subject_matches", sa.Boolean(), nullable=False),
        sa.Column("verified_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("predicate_type", sa.Text(), nullable=True),
        sa.Column("builder", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("source_digest", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["artifact"], ["artifacts.id"], name="fk_attestations_artifact", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_attestations_org"),
        sa.PrimaryKeyConstraint("id", name="pk_attestations"),
        sa.UniqueConstraint("org", "path", name="uq_attestations_org_path"),
    )
    op.create_index("ix_attestations_artifact", "attestations", ["artifact"])
    op.create_index("ix_artifacts_org_sha256", "artifacts", ["org", "sha256"])
