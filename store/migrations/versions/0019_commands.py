"""Commands of devices, the log bundles that came of them, and whether a device needs a reboot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("devices", sa.Column("reboot_pending", sa.String(), nullable=True))
    op.add_column("devices", sa.Column("has_commands", sa.Boolean(), nullable=True))
    op.execute(sa.text("UPDATE devices SET reboot_pending = '', has_commands = FALSE"))
    with op.batch_alter_table("devices") as batch:
        batch.alter_column("reboot_pending", existing_type=sa.String(), nullable=False)
        batch.alter_column("has_commands", existing_type=sa.Boolean(), nullable=False)
    op.create_index("ix_devices_org_reboot_pending", "devices", ["org", "reboot_pending"])
    op.create_table(
        "device_commands",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("device", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("own_window", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("delivered_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_device_commands_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_device_commands_org"),
        sa.PrimaryKeyConstraint("id", name="pk_device_commands"),
    )
    op.create_index("ix_device_commands_device", "device_commands", ["device", "kind", "id"])
    op.create_index("ix_device_commands_org_state", "device_commands", ["org", "state", "expires_at"])
    op.create_table(
        "log_bundles",
        sa.Column("command", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("device", KEY, nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("kept_until", TIME, nullable=False),
        sa.ForeignKeyConstraint(["command"], ["device_commands.id"], name="fk_log_bundles_command", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_log_bundles_org"),
        sa.PrimaryKeyConstraint("command", name="pk_log_bundles"),
    )
    op.create_index("ix_log_bundles_org_kept_until", "log_bundles", ["org", "kept_until"])
