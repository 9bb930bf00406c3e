"""Devices of a rollout by their progress: who stands still, and what failed."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_rollout_devices_progress", "rollout_devices", ["rollout", "progress", "wave", "at"])
