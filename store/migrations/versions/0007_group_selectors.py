"""Groups by selector: labels and versions a database can compare, kept sizes, and when an edit or a wave came."""

from __future__ import annotations

import json
from datetime import datetime

import sqlalchemy as sa
from alembic import op

from fleet.version_order import order_key
from store.columns import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
BATCH = 10_000  # rows held in memory


def upgrade() -> None:
    _tables()
    _labels()
    _versions()
    _sizes()
    _opened()


def _tables() -> None:
    op.create_table(
        "device_labels",
        sa.Column("device", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("value", KEY, nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_device_labels_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_device_labels_org"),
        sa.PrimaryKeyConstraint("device", "name", name="pk_device_labels"),
    )
    op.create_index("ix_device_labels_org_name_value", "device_labels", ["org", "name", "value"])
    op.create_index("ix_devices_org_id", "devices", ["org", "id"])
    op.create_table(
        "group_sizes",
        sa.Column("group_id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_group_sizes_group_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_group_sizes_org"),
        sa.PrimaryKeyConstraint("group_id", name="pk_group_sizes"),
    )
    op.add_column("groups", sa.Column("selector", sa.Text(), nullable=True))
    op.add_column("groups", sa.Column("revision", sa.Integer(), nullable=True))
    op.execute(sa.text("UPDATE groups SET revision = 1"))
    with op.batch_alter_table("groups") as batch:
        batch.alter_column("revision", existing_type=sa.Integer(), nullable=False)
    op.add_column("group_devices", sa.Column("edited_at", TIME, nullable=True))
    edited = sa.text("edited_at IS NOT NULL")
    op.create_index(
        "ix_group_devices_edited",
        "group_devices",
        ["group_id", "edited_at"],
        sqlite_where=edited,
        postgresql_where=edited,
    )
    op.add_column("device_running", sa.Column("order_key", KEY, nullable=True))
    op.add_column("rollout_groups", sa.Column("opened_at", TIME, nullable=True))


def _labels() -> None:
    devices = sa.table("devices", sa.column("id"), sa.column("org"), sa.column("labels"))
    labels = sa.table("device_labels", *(sa.column(name) for name in ("device", "name", "org", "value")))
    after = ""
    query = sa.select(devices).where(devices.c.labels != "{}").order_by(devices.c.id).limit(BATCH)
    while rows := op.get_bind().execute(query.where(devices.c.id > after)).all():
        told = [
            {"device": row.id, "name": name, "org": row.org, "value": value}
            for row in rows
            for name, value in json.loads(row.labels).items()
        ]
        op.get_bind().execute(sa.insert(labels), told)
        after = rows[-1].id


def _versions() -> None:
    running = sa.table("device_running", sa.column("version"), sa.column("order_key"))
    change = sa.update(running).where(running.c.version == sa.bindparam("of")).values(order_key=sa.bindparam("key"))
    versions = [*op.get_bind().execute(sa.select(running.c.version).distinct()).scalars()]
    if versions:
        op.get_bind().execute(change, [{"of": version, "key": order_key(version)} for version in versions])
    with op.batch_alter_table("device_running") as batch:
        batch.alter_column("order_key", existing_type=KEY, nullable=False)
    op.create_index("ix_device_running_org_product_order_key", "device_running", ["org", "product", "order_key"])


def _sizes() -> None:
    op.execute(
        sa.text(
            "INSERT INTO group_sizes (group_id, org, devices, active) "
            "SELECT g.id, g.org, count(d.id), coalesce(sum(CASE WHEN d.status = 'active' THEN 1 ELSE 0 END), 0) "
            "FROM groups g LEFT JOIN group_devices m ON m.group_id = g.id LEFT JOIN devices d ON d.id = m.device "
            "GROUP BY g.id, g.org"
        )
    )


def _opened() -> None:
    rollouts = sa.table("rollouts", sa.column("id"), sa.column("document"))
    named = sa.table("rollout_groups", sa.column("rollout"), sa.column("name"), sa.column("opened_at", UtcDateTime))
    for row in op.get_bind().execute(sa.select(rollouts)).all():
        document = json.loads(row.document)
        opened = {
            plan["group"]: datetime.fromisoformat(wave["opened_at"])
            for plan, wave in zip(document["plan"]["waves"], document["waves"], strict=False)
            if wave["opened_at"] is not None
        }
        if opened:
            reached = (named.c.rollout == row.id) & named.c.name.in_(list(opened))
            op.get_bind().execute(sa.update(named).where(reached).values(opened_at=max(opened.values())))
