"""How often somebody called within a window; the ETag of an answer that may be asked for again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("idempotency_keys", sa.Column("etag", sa.String(), nullable=True))
    op.create_table(
        "request_counts",
        sa.Column("key", KEY, nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "ends_at", name="pk_request_counts"),
    )
    op.create_index("ix_request_counts_ends_at", "request_counts", ["ends_at"])
    if op.get_bind().dialect.name == "postgresql":
        # Nobody needs these numbers after a crash, and every request would wait for a disk.
        op.execute("ALTER TABLE request_counts SET UNLOGGED")
