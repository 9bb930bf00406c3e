"""Permits of disruption budgets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "permit_places",
        sa.Column("org", KEY, nullable=False),
        sa.Column("label", KEY, nullable=False),
        sa.Column("value", KEY, nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_permit_places_org"),
        sa.PrimaryKeyConstraint("org", "label", "value", name="pk_permit_places"),
    )
    op.create_table(
        "permits",
        sa.Column("rollout", KEY, nullable=False),
        sa.Column("device", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("label", KEY, nullable=False),
        sa.Column("value", KEY, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("granted_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_permits_rollout", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_permits_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_permits_org"),
        sa.PrimaryKeyConstraint("rollout", "device", name="pk_permits"),
    )
    op.create_index("ix_permits_device", "permits", ["device"])
    op.create_index("ix_permits_org_label_value", "permits", ["org", "label", "value"])
