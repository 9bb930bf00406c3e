"""Single-use codes of devices that are known before they come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "device_codes",
        sa.Column("device", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("created_by", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_device_codes_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_device_codes_org"),
        sa.PrimaryKeyConstraint("device", name="pk_device_codes"),
        sa.UniqueConstraint("sha256", name="uq_device_codes_sha256"),
    )
