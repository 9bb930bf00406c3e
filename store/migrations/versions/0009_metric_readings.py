"""Readings of the metrics that gates are judged by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "metric_readings",
        sa.Column("rollout", KEY, nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_metric_readings_rollout", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_metric_readings_org"),
        sa.PrimaryKeyConstraint("rollout", "wave", "name", name="pk_metric_readings"),
    )
