"""The tables. Nothing outside ``store`` may import them; a change here needs a migration (a test compares the two).

Those of accounts stand in ``store.account_models``.
Every row belongs to an organisation by its slug. Ids are prefixed ULIDs, digests lower-case hex, times UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from store import account_models
from store.account_models import org_column
from store.columns import JsonText, Key, UtcDateTime
from store.command_models import device_commands as device_commands
from store.command_models import log_bundles as log_bundles
from store.history_models import device_returns as device_returns
from store.history_models import device_steps as device_steps
from store.history_models import metered_nights as metered_nights
from store.metric_models import metric_readings as metric_readings
from store.permit_models import permit_places as permit_places
from store.permit_models import permits as permits
from store.publisher_models import publish_tokens as publish_tokens
from store.publisher_models import spent_id_tokens as spent_id_tokens
from store.publisher_models import trusted_publishers as trusted_publishers
from store.webhook_models import webhook_deliveries as webhook_deliveries
from store.webhook_models import webhooks as webhooks

metadata = account_models.metadata

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("path", Key, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("sha256", Key, nullable=False),
    Column("product", Key, nullable=False),
    Column("version", Key, nullable=False),
    Column("platform", Key, nullable=False),
    Column("channel", Key, nullable=False),
    Column("file_name", String, nullable=False),
    Column("publisher", JsonText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("notes", Text, nullable=False),
    Column("labels", JsonText, nullable=False),
    Column("security", Boolean, nullable=False),
    Column("yanked", JsonText),
    Column("serial", BigInteger, nullable=False),
    Column("withdrawn", JsonText),
    # fleet.version_order.order_key(version), as of ``device_running``; the default, of no version, is below all others.
    Column("order_key", Key, nullable=False, server_default="0"),
    UniqueConstraint("org", "path"),
    Index("ix_artifacts_org_product_version", "org", "product", "version"),
    Index("ix_artifacts_org_sha256", "org", "sha256"),
)

# Those that may be newly installed: the newest for a device is one look-up.
Index(
    "ix_artifacts_newest",
    *(artifacts.c[name] for name in ("org", "product", "channel", "platform", "order_key")),
    sqlite_where=artifacts.c.yanked.is_(None) & artifacts.c.withdrawn.is_(None),
    postgresql_where=artifacts.c.yanked.is_(None) & artifacts.c.withdrawn.is_(None),
)

sboms = Table(
    "sboms",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("artifact", Key, ForeignKey("artifacts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("path", Key, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("sha256", Key, nullable=False),
    Column("format", String, nullable=False),
    Column("spec_version", String, nullable=False),
    Column("components", Integer, nullable=False),
    Column("media_type", String, nullable=False),
    UniqueConstraint("org", "path"),
)

attestations = Table(
    "attestations",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("artifact", Key, ForeignKey("artifacts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("path", Key, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("sha256", Key, nullable=False),
    Column("kind", String, nullable=False),
    Column("media_type", String, nullable=False),
    Column("state", String, nullable=False),
    Column("subject_matches", Boolean, nullable=False),
    Column("verified_by", JsonText, nullable=False),
    Column("reason", Text),
    Column("predicate_type", Text),
    Column("builder", Text),
    Column("source", Text),
    Column("source_digest", Text),
    UniqueConstraint("org", "path"),
)

repository_state = Table(
    "repository_state",
    metadata,
    org_column(primary_key=True),
    Column("projected_serial", BigInteger, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("name", Key, nullable=False),
    Column("status", String, nullable=False),
    Column("platform", Key, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("hostname", String, nullable=False),
    Column("os_family", String, nullable=False),
    Column("os_name", String, nullable=False),
    Column("agent_version", String, nullable=False),
    Column("labels", JsonText, nullable=False),
    Column("last_seen_at", UtcDateTime),
    Column("state", Text, nullable=False),
    Column("reboot_pending", String, nullable=False, default=""),
    Column("has_commands", Boolean, nullable=False, default=False),
    UniqueConstraint("org", "name"),
    Index("ix_devices_org_reboot_pending", "org", "reboot_pending"),
    # A page in order of id; without it SQLite reads and sorts the whole organisation.
    Index("ix_devices_org_id", "org", "id"),
)

device_certificates = Table(
    "device_certificates",
    metadata,
    Column("fingerprint", Key, primary_key=True),
    org_column(),
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("serial", String, nullable=False),
    Column("not_before", UtcDateTime, nullable=False),
    Column("not_after", UtcDateTime, nullable=False),
)

device_running = Table(
    "device_running",
    metadata,
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("product", Key, primary_key=True),
    org_column(),
    Column("version", String, nullable=False),
    Column("path", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("rollout", String, nullable=False),
    # fleet.version_order.order_key(version): bytewise order is the order of versions.
    Column("order_key", Key, nullable=False),
    Index("ix_device_running_org_product_order_key", "org", "product", "order_key"),
)

# The labels of ``devices.labels`` again, one a row, for selectors to look at; changed with them.
device_labels = Table(
    "device_labels",
    metadata,
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Key, primary_key=True),
    org_column(),
    Column("value", Key, nullable=False),
    Index("ix_device_labels_org_name_value", "org", "name", "value"),
)

# ``selector`` is NULL for a static group. ``revision`` counts people's edits.
groups = Table(
    "groups",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("name", Key, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("selector", Text),
    Column("revision", Integer, nullable=False),
    UniqueConstraint("org", "name"),
)

# Kept beside the members, so that a group's size costs the same for ten devices and for a million. A table of its own,
# because check-ins hold a shared lock on ``groups`` while they change these.
group_sizes = Table(
    "group_sizes",
    metadata,
    Column("group_id", Key, ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    org_column(),
    Column("devices", Integer, nullable=False),
    Column("active", Integer, nullable=False),
)

# ``edited_at`` is when a person's edit put the device there; NULL when it came by enrolling or by what it says.
group_devices = Table(
    "group_devices",
    metadata,
    Column("group_id", Key, ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, index=True),
    org_column(),
    Column("edited_at", UtcDateTime),
)
# Only edited rows: members that enrolled into the group are the many, and nobody asks when.
Index(
    "ix_group_devices_edited",
    group_devices.c.group_id,
    group_devices.c.edited_at,
    sqlite_where=group_devices.c.edited_at.is_not(None),
    postgresql_where=group_devices.c.edited_at.is_not(None),
)

enroll_tokens = Table(
    "enroll_tokens",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("name", String, nullable=False),
    Column("sha256", Key, nullable=False, unique=True),
    Column("created_by", Key, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("max_uses", Integer, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("group_names", JsonText, nullable=False),
    Column("labels", JsonText, nullable=False),
)

# At most one a device, the newest, also when it was used: a second use is told when the first was.
device_codes = Table(
    "device_codes",
    metadata,
    Column("device", Key, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    org_column(),
    Column("id", Key, nullable=False),
    Column("sha256", Key, nullable=False, unique=True),
    Column("created_by", Key, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
)

# The document is the whole rollout; the other columns repeat what queries and compare-and-set look at.
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("product", Key, nullable=False),
    Column("channel", Key, nullable=False),
    Column("state", Key, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("plan_hash", Key, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("document", JsonText, nullable=False),
    Index("ix_rollouts_org_state", "org", "state"),
)

# By name and not by id: a rollout outlives the group it was for. ``opened_at`` is when the rollout last opened a wave,
# on the groups that one of its waves has reached; NULL on the others.
rollout_groups = Table(
    "rollout_groups",
    metadata,
    Column("rollout", Key, ForeignKey("rollouts.id"), primary_key=True),
    Column("name", Key, primary_key=True),
    org_column(),
    Column("opened_at", UtcDateTime),
    Index("ix_rollout_groups_org_name", "org", "name"),
)

# The primary key is the rollout: one intent at a time, held by the database itself.
rollout_intents = Table(
    "rollout_intents",
    metadata,
    Column("rollout", Key, ForeignKey("rollouts.id"), primary_key=True),
    Column("id", Key, nullable=False, unique=True),
    org_column(),
    Column("proposed_at", UtcDateTime, nullable=False),
    Column("document", JsonText, nullable=False),
)

rollout_counters = Table(
    "rollout_counters",
    metadata,
    Column("rollout", Key, ForeignKey("rollouts.id"), primary_key=True),
    Column("wave", Integer, primary_key=True, autoincrement=False),
    org_column(),
    Column("acting", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("rolled_back", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("finishes", Integer, nullable=False),
)

# No foreign key to devices: what a device did in a rollout stays true, and counted, after the device is deleted.
rollout_devices = Table(
    "rollout_devices",
    metadata,
    Column("rollout", Key, ForeignKey("rollouts.id"), primary_key=True),
    Column("device", Key, primary_key=True),
    org_column(),
    Column("wave", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("progress", Key, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("code", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("finishes", Integer, nullable=False),
    Column("last_report", String, nullable=False),
    Index("ix_rollout_devices_progress", "rollout", "progress", "wave", "at"),
)

# What an organisation says beside every plan; each document is the whole value.
exclusions = Table(
    "exclusions",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("document", JsonText, nullable=False),
    Index("ix_exclusions_org", "org"),
)

freezes = Table(
    "freezes",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("document", JsonText, nullable=False),
    Index("ix_freezes_org", "org"),
)

rollout_templates = Table(
    "rollout_templates",
    metadata,
    org_column(primary_key=True),
    Column("name", Key, primary_key=True),
    Column("document", JsonText, nullable=False),
)

# The last seq given out; its row lock is what makes seq gapless and in order of commit on PostgreSQL.
audit_heads = Table(
    "audit_heads",
    metadata,
    org_column(primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

# ``body`` holds the exact bytes that ``leaf_hash`` is over; the other columns repeat what queries look at. ``device``:
# in whose history the event stands, ``evidence.model.device_of``.
audit_events = Table(
    "audit_events",
    metadata,
    org_column(primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Key, nullable=False, unique=True),
    Column("tag", Key, nullable=False),
    Column("subject", Key, nullable=False),
    Column("actor_kind", String, nullable=False),
    Column("actor_id", Key, nullable=False),
    Column("actor_name", String, nullable=False),
    Column("actor_credential", String),
    Column("at", UtcDateTime, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("device", Key),
    Index("ix_audit_events_org_subject_seq", "org", "subject", "seq"),
    Index("ix_audit_events_org_tag_seq", "org", "tag", "seq"),
)
Index(
    "ix_audit_events_device",
    audit_events.c.org,
    audit_events.c.device,
    audit_events.c.at,
    audit_events.c.id,
    sqlite_where=audit_events.c.device.is_not(None),
    postgresql_where=audit_events.c.device.is_not(None),
)

# ``status`` is NULL while the first request with the key is at work; ``claim`` says which attempt may answer for it.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    org_column(primary_key=True),
    Column("actor", Key, primary_key=True),
    Column("key", Key, primary_key=True),
    Column("route", String, nullable=False),
    Column("body_sha256", String, nullable=False),
    Column("claim", Key, nullable=False),
    Column("claimed_at", UtcDateTime, nullable=False),
    Column("status", Integer),
    Column("response", LargeBinary),
    Column("etag", String),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)

# One row for each job that one process at a time may do. ``expires_at`` is in milliseconds since 1970 by the database's
# own clock, and ``token`` goes up with every change of hands: see store/leases.py.
leases = Table(
    "leases",
    metadata,
    Column("name", Key, primary_key=True),
    Column("holder", String, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

# Unlogged on PostgreSQL. ``ends_at`` is in seconds since 1970, the end of the window: see store/request_counts.py.
request_counts = Table(
    "request_counts",
    metadata,
    Column("key", Key, primary_key=True),
    Column("ends_at", BigInteger, primary_key=True, index=True),
    Column("used", Integer, nullable=False),
)
