"""The order of artifacts' versions, to find which device runs an older one than there is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fleet.version_order import order_key

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
BATCH = 10_000  # rows held in memory


def upgrade() -> None:
    op.add_column("artifacts", sa.Column("order_key", KEY, nullable=False, server_default="0"))
    artifacts = sa.table("artifacts", *(sa.column(name) for name in ("id", "version", "order_key")))
    query = sa.select(artifacts.c.id, artifacts.c.version).order_by(artifacts.c.id).limit(BATCH)
    change = sa.update(artifacts).where(artifacts.c.id == sa.bindparam("of")).values(order_key=sa.bindparam("key"))
    after = ""
    while rows := op.get_bind().execute(query.where(artifacts.c.id > after)).all():
        op.get_bind().execute(change, [{"of": row.id, "key": order_key(row.version)} for row in rows])
        after = rows[-1].id
    there = sa.text("yanked IS NULL AND withdrawn IS NULL")
    op.create_index(
        "ix_artifacts_newest",
        "artifacts",
        ["org", "product", "channel", "platform", "order_key"],
        sqlite_where=there,
        postgresql_where=there,
    )
