"""First tables: all of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "orgs",
        sa.Column("slug", KEY, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("slug", name="pk_orgs"),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("path", KEY, nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("product", KEY, nullable=False),
        sa.Column("version", KEY, nullable=False),
        sa.Column("platform", KEY, nullable=False),
        sa.Column("channel", KEY, nullable=False),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.Column("publisher", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("security", sa.Boolean(), nullable=False),
        sa.Column("yanked", sa.Text(), nullable=True),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_artifacts_org"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
        sa.UniqueConstraint("org", "path", name="uq_artifacts_org_path"),
    )
    op.create_index("ix_artifacts_org_product_version", "artifacts", ["org", "product", "version"])

    op.create_table(
        "audit_events",
        sa.Column("org", KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("tag", KEY, nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("actor_kind", sa.String(), nullable=False),
        sa.Column("actor_id", KEY, nullable=False),
        sa.Column("actor_name", sa.String(), nullable=False),
        sa.Column("actor_credential", sa.String(), nullable=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_audit_events_org"),
        sa.PrimaryKeyConstraint("org", "seq", name="pk_audit_events"),
        sa.UniqueConstraint("id", name="uq_audit_events_id"),
    )
    op.create_index("ix_audit_events_org_subject_seq", "audit_events", ["org", "subject", "seq"])
    op.create_index("ix_audit_events_org_tag_seq", "audit_events", ["org", "tag", "seq"])

    op.create_table(
        "audit_heads",
        sa.Column("org", KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_audit_heads_org"),
        sa.PrimaryKeyConstraint("org", name="pk_audit_heads"),
    )
    op.create_table(
        "devices",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("platform", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("hostname", sa.String(), nullable=False),
        sa.Column("os_family", sa.String(), nullable=False),
        sa.Column("os_name", sa.String(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("last_seen_at", TIME, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_devices_org"),
        sa.PrimaryKeyConstraint("id", name="pk_devices"),
        sa.UniqueConstraint("org", "name", name="uq_devices_org_name"),
    )
    op.create_table(
        "enroll_tokens",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("created_by", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("group_names", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_enroll_tokens_org"),
        sa.PrimaryKeyConstraint("id", name="pk_enroll_tokens"),
        sa.UniqueConstraint("sha256", name="uq_enroll_tokens_sha256"),
    )
    op.create_table(
        "groups",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_groups_org"),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
        sa.UniqueConstraint("org", "name", name="uq_groups_org_name"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("org", KEY, nullable=False),
        sa.Column("actor", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("claim", KEY, nullable=False),
        sa.Column("claimed_at", TIME, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_idempotency_keys_org"),
        sa.PrimaryKeyConstraint("org", "actor", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])

    op.create_table(
        "login_failures",
        sa.Column("org", KEY, nullable=False),
        sa.Column("account_sha256", KEY, nullable=False),
        sa.Column("source", KEY, nullable=False),
        sa.Column("minute", TIME, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_login_failures_org"),
        sa.PrimaryKeyConstraint("org", "account_sha256", "source", "minute", name="pk_login_failures"),
    )
    op.create_table(
        "repository_state",
        sa.Column("org", KEY, nullable=False),
        sa.Column("projected_serial", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_repository_state_org"),
        sa.PrimaryKeyConstraint("org", name="pk_repository_state"),
    )
    op.create_table(
        "rollouts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("product", KEY, nullable=False),
        sa.Column("channel", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("plan_hash", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_rollouts_org"),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    op.create_index("ix_rollouts_org_state", "rollouts", ["org", "state"])

    op.create_table(
        "users",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("email_key", KEY, nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("password_change_required", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_users_org"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("org", "email_key", name="uq_users_org_email_key"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("created_by", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_api_keys_org"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_keys_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("sha256", name="uq_api_keys_sha256"),
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])

    op.create_table(
        "device_certificates",
        sa.Column("fingerprint", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("device", KEY, nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("not_after", TIME, nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_device_certificates_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_device_certificates_org"),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_device_certificates"),
    )
    op.create_index("ix_device_certificates_device", "device_certificates", ["device"])

    op.create_table(
        "device_running",
        sa.Column("device", KEY, nullable=False),
        sa.Column("product", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("rollout", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_device_running_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_device_running_org"),
        sa.PrimaryKeyConstraint("device", "product", name="pk_device_running"),
    )
    op.create_table(
        "group_devices",
        sa.Column("group_id", KEY, nullable=False),
        sa.Column("device", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_group_devices_device", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_group_devices_group_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_group_devices_org"),
        sa.PrimaryKeyConstraint("group_id", "device", name="pk_group_devices"),
    )
    op.create_index("ix_group_devices_device", "group_devices", ["device"])

    op.create_table(
        "rollout_counters",
        sa.Column("rollout", KEY, nullable=False),
        sa.Column("wave", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("acting", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("rolled_back", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("finishes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_rollout_counters_org"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_counters_rollout"),
        sa.PrimaryKeyConstraint("rollout", "wave", name="pk_rollout_counters"),
    )
    op.create_table(
        "rollout_devices",
        sa.Column("rollout", KEY, nullable=False),
        sa.Column("device", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("progress", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("finishes", sa.Integer(), nullable=False),
        sa.Column("last_report", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_rollout_devices_org"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_devices_rollout"),
        sa.PrimaryKeyConstraint("rollout", "device", name="pk_rollout_devices"),
    )
    op.create_table(
        "rollout_groups",
        sa.Column("rollout", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_rollout_groups_org"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_groups_rollout"),
        sa.PrimaryKeyConstraint("rollout", "name", name="pk_rollout_groups"),
    )
    op.create_index("ix_rollout_groups_org_name", "rollout_groups", ["org", "name"])

    op.create_table(
        "rollout_intents",
        sa.Column("rollout", KEY, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("proposed_at", TIME, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_rollout_intents_org"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_intents_rollout"),
        sa.PrimaryKeyConstraint("rollout", name="pk_rollout_intents"),
        sa.UniqueConstraint("id", name="uq_rollout_intents_id"),
    )
    op.create_table(
        "sboms",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("artifact", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", KEY, nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("spec_version", sa.String(), nullable=False),
        sa.Column("components", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["artifacts.id"], name="fk_sboms_artifact", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_sboms_org"),
        sa.PrimaryKeyConstraint("id", name="pk_sboms"),
        sa.UniqueConstraint("org", "path", name="uq_sboms_org_path"),
    )
    op.create_index("ix_sboms_artifact", "sboms", ["artifact"])

    op.create_table(
        "sessions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("org", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["org"], ["orgs.slug"], name="fk_sessions_org"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("sha256", name="uq_sessions_sha256"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first tables; restore a backup instead")
