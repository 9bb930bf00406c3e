"""Accounts: keys narrowed and rotated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("scope", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("replaced_by", KEY, nullable=True))
