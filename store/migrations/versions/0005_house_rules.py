"""Exclusions, freeze windows and rollout templates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    for table in ("exclusions", "freezes"):
        op.create_table(
            table,
            sa.Column("id", KEY, nullable=False),
            sa.Column("org", KEY, nullable=False),
            sa.Column("document", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name=f"fk_{table}_org"),
            sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        )
        op.create_index(f"ix_{table}_org", table, ["org"])
    op.create_table(
        "rollout_templates",
        sa.Column("org", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_rollout_templates_org"),
        sa.PrimaryKeyConstraint("org", "name", name="pk_rollout_templates"),
    )
