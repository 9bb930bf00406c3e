"""The tables of what devices did, and of what is counted of them; ``store.models`` has them among all others."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from store.account_models import metadata, org_column
from store.columns import Key, UtcDateTime

# One row for each time a device called after a silence, the first call too; nothing is written for the calls between.
# ``silent_since`` is the call before the silence, so that the end of the time online before it stands in the later row.
# ``untold`` until an event tells of it.
device_returns = Table(
    "device_returns",
    metadata,
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("at", UtcDateTime, primary_key=True),
    Column("id", Key, nullable=False),
    org_column(),
    Column("silent_since", UtcDateTime),
    Column("untold", Boolean, nullable=False),
)
Index(
    "ix_device_returns_untold",
    device_returns.c.org,
    device_returns.c.id,
    sqlite_where=device_returns.c.untold.is_(True),
    postgresql_where=device_returns.c.untold.is_(True),
)

# Every step that counted in a rollout, where ``rollout_devices`` has the last one. ``platform`` is the device's at that
# time, by which the plan names the artifact. ``untold`` for a failure that no event tells of yet.
device_steps = Table(
    "device_steps",
    metadata,
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("at", UtcDateTime, primary_key=True),
    Column("id", Key, primary_key=True),
    org_column(),
    Column("rollout", Key, ForeignKey("rollouts.id"), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("progress", Key, nullable=False),
    Column("code", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("platform", Key, nullable=False),
    Column("untold", Boolean, nullable=False),
)
Index(
    "ix_device_steps_untold",
    device_steps.c.org,
    device_steps.c.id,
    sqlite_where=device_steps.c.untold.is_(True),
    postgresql_where=device_steps.c.untold.is_(True),
)

# ``night`` is the UTC date that ended with it. Written once; docs/adr/0155-active-devices-are-counted-from-the-log.md.
metered_nights = Table(
    "metered_nights",
    metadata,
    org_column(primary_key=True),
    Column("night", Key, primary_key=True),
    Column("active", Integer, nullable=False),
    Column("counted_at", UtcDateTime, nullable=False),
)
