"""Tables of who may do what: organisations, people, keys, sessions. As private to ``store`` as ``store.models``."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from store.columns import JsonText, Key, UtcDateTime

# Fixed names let a migration alter a constraint on both databases (SQLite's batch mode finds it by name only).
NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)


def org_column(*, primary_key: bool = False) -> Column[str]:
    """Whose row it is."""
    return Column("org", Key, ForeignKey("orgs.slug"), primary_key=primary_key, nullable=False)


orgs = Table(
    "orgs",
    metadata,
    Column("slug", Key, primary_key=True),
    Column("name", String, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("email", String, nullable=False),
    # The address case-folded in Python (SQLite folds ASCII only); NULL for accounts without one.
    Column("email_key", Key),
    Column("name", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("role", String, nullable=False),
    Column("password_hash", String),
    Column("password_change_required", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # The second factor: its sealed secret, since when it counts, and the last step whose code was taken.
    Column("totp_secret", String),
    Column("totp_confirmed_at", UtcDateTime),
    Column("totp_step", Integer),
    UniqueConstraint("org", "email_key"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("user_id", Key, ForeignKey("users.id"), nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("prefix", String, nullable=False),
    Column("sha256", Key, nullable=False, unique=True),
    Column("created_by", Key, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("scope", JsonText),
    Column("replaced_by", Key),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("user_id", Key, ForeignKey("users.id"), nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("sha256", Key, nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
)

# One row per account, source and minute, so that an attack makes a counter large and not the table. The account is a
# digest: what people type there by mistake is now and then their password.
login_failures = Table(
    "login_failures",
    metadata,
    org_column(primary_key=True),
    Column("account_sha256", Key, primary_key=True),
    Column("source", Key, primary_key=True),
    Column("minute", UtcDateTime, primary_key=True),
    Column("failures", Integer, nullable=False),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("user_id", Key, ForeignKey("users.id"), primary_key=True),
    Column("sha256", Key, primary_key=True),
    Column("used_at", UtcDateTime),
)

invitations = Table(
    "invitations",
    metadata,
    Column("id", Key, primary_key=True),
    org_column(),
    Column("email", String, nullable=False),
    Column("role", String, nullable=False),
    Column("sha256", Key, nullable=False, unique=True),
    Column("invited_by", Key, ForeignKey("users.id"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("accepted_at", UtcDateTime),
    Column("accepted_by", Key, ForeignKey("users.id")),
    Column("revoked_at", UtcDateTime),
)

# Who somebody is elsewhere. One person may have an account in each of several organisations.
identities = Table(
    "identities",
    metadata,
    org_column(primary_key=True),
    Column("issuer", Key, primary_key=True),
    Column("subject", Key, primary_key=True),
    Column("user_id", Key, ForeignKey("users.id"), nullable=False, index=True),
    Column("follows_roles", Boolean, nullable=False),
    Column("linked_at", UtcDateTime, nullable=False),
)
