"""What devices did: which events are theirs, when they came back, every step of an update; nights that were metered."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from evidence.ids import is_id

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
BATCH = 10_000  # rows held in memory
# Of these the device is not the subject: it stands in what they tell.
ABOUT_A_DEVICE = ("group.device.added", "group.device.removed", "exclusion.added", "exclusion.removed")


def upgrade() -> None:
    _tables()
    op.add_column("audit_events", sa.Column("device", KEY, nullable=True))
    _events()
    named = sa.text("device IS NOT NULL")
    op.create_index(
        "ix_audit_events_device",
        "audit_events",
        ["org", "device", "at", "id"],
        sqlite_where=named,
        postgresql_where=named,
    )
    # What was before is not known: who has called has been there since the last call that is.
    op.execute(
        sa.text(
            "INSERT INTO device_returns (device, at, id, org, silent_since, untold) "
            "SELECT id, last_seen_at, 'ret' || substr(id, 4), org, NULL, false "
            "FROM devices WHERE last_seen_at IS NOT NULL"
        )
    )


def _tables() -> None:
    op.create_table(
        "device_returns",
        sa.Column("device", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("silent_since", TIME, nullable=True),
        sa.Column("untold", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_device_returns_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_device_returns_org"),
        sa.PrimaryKeyConstraint("device", "at", name="pk_device_returns"),
    )
    op.create_table(
        "device_steps",
        sa.Column("device", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("rollout", KEY, nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("progress", KEY, nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("platform", KEY, nullable=False),
        sa.Column("untold", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_device_steps_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_device_steps_org"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_device_steps_rollout"),
        sa.PrimaryKeyConstraint("device", "at", "id", name="pk_device_steps"),
    )
    untold = sa.column("untold", sa.Boolean()).is_(True)
    for table in ("device_returns", "device_steps"):
        op.create_index(f"ix_{table}_untold", table, ["org", "id"], sqlite_where=untold, postgresql_where=untold)
    op.create_table(
        "metered_nights",
        sa.Column("org", KEY, nullable=False),
        sa.Column("night", KEY, nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("counted_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_metered_nights_org"),
        sa.PrimaryKeyConstraint("org", "night", name="pk_metered_nights"),
    )


def _events() -> None:
    op.execute(sa.text("UPDATE audit_events SET device = subject WHERE subject LIKE 'dev\\_%' ESCAPE '\\'"))
    events = sa.table("audit_events", *(sa.column(name) for name in ("org", "seq", "tag", "body", "device")))
    put = sa.update(events).where(events.c.org == sa.bindparam("of"), events.c.seq == sa.bindparam("place"))
    query = sa.select(events.c.org, events.c.seq, events.c.body).where(events.c.tag.in_(ABOUT_A_DEVICE))
    query = query.order_by(events.c.org, events.c.seq).limit(BATCH)
    org, seq = "", 0
    here = sa.tuple_(events.c.org, events.c.seq)
    while rows := op.get_bind().execute(query.where(here > sa.tuple_(org, seq))).all():
        told = [(row.org, row.seq, json.loads(bytes(row.body))["data"].get("device")) for row in rows]
        named = [
            {"of": owner, "place": place, "named": device}
            for owner, place, device in told
            if isinstance(device, str) and is_id(device, "dev")
        ]
        if named:
            op.get_bind().execute(put.values(device=sa.bindparam("named")), named)
        org, seq = rows[-1].org, rows[-1].seq
