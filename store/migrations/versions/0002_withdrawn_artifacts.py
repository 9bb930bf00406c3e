"""Artifacts that were withdrawn or revoked keep their row, which says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("artifacts", sa.Column("withdrawn", sa.Text(), nullable=True))
