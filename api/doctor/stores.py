"""What the home holds: the database, the signed repository and its index, who leads, the last backup."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from api.doctor.model import Check, Looks, clock, fail, unknown, warn, well
from api.settings import Settings
from api.wiring import keys_folder, repository_folder, repository_storage
from keys.keyring import Keyring
from repo_signing import roles
from repo_signing.errors import NoRepository, RepositoryError
from repo_signing.model import Finding, RoleStatus
from repo_signing.outlook import Outlook, warnings
from repo_signing.repository import SignedRepository
from store.artifacts import ArtifactIndex
from store.audit import AuditLog, EventFilter
from store.backup import sqlite_file
from store.database import Database
from store.errors import DatabaseNotMigrated, DatabaseTooNew, StoreError
from store.leases import Leases

_BACKUP_SOON: Final = timedelta(days=7)
_LEFT_OVER: Final = frozenset({"orphan_metadata", "temporary_file", "stale_upload", "index_behind"})


def database(settings: Settings, db: Database, now: datetime) -> Looks:
    """Whether the database answers, and has this program's version. Nothing is made or migrated."""
    file = sqlite_file(settings.database_url)
    if file is not None and not file.is_file():
        todo = "put it back from a backup; `publish repo rebuild-db` makes the index of artifacts anew and nothing else"
        yield fail("database", f"there is no {file}", todo)
        return
    try:
        db.check_schema()
    except DatabaseNotMigrated as error:
        yield warn("database", str(error), "the next start of the server migrates it; back it up before")
        return
    except DatabaseTooNew as error:
        yield fail("database", str(error), "install the release that was here before, or a later one")
        return
    except StoreError as error:
        yield fail("database", str(error), "start it, or look at WAVEGATE_DATABASE_URL and the network")
        return
    yield well("database", f"{'SQLite' if db.is_sqlite else 'PostgreSQL'}, schema {db.schema_version()}")
    if not db.is_sqlite:
        yield clock("clock of the database", now - Leases(db).clock(), "the database's")


def repository(settings: Settings, org: str, db: Database, now: datetime) -> Looks:
    """Expiries, and whether what is signed, stored and recorded agree (blobs by their length)."""
    try:
        signed = SignedRepository(
            repository_folder(settings, org),
            Keyring(keys_folder(settings, org)),
            ArtifactIndex(db, org),
            storage=repository_storage(settings, org, db),
        )
    except NoRepository:
        todo = "`publish repo draft list` shows whose signatures are missing"
        yield fail("repository", "root and targets are not signed yet", todo)
        return
    except RepositoryError as error:
        yield fail("repository", str(error), "`publish repo check`; docs/operate.md has the runbooks")
        return
    status = signed.status(now=now)
    yield from _expiries(status.roles, now)
    timestamp = next(one for one in status.roles if one.name == roles.TIMESTAMP)
    signed_at = timestamp.expires - roles.life(roles.TIMESTAMP, timestamp.version)
    ahead = signed_at - now
    if ahead > timedelta(minutes=1):
        todo = "set the clock; until then nothing is signed (docs/operate.md#the-clock-was-wrong)"
        yield fail("clock", f"{ahead.total_seconds():.0f} s behind the last commit", todo)
    else:
        yield well("clock", "not behind the last commit")
    findings = signed.check(now=now, deep=False)
    yield _agree(findings)
    if signed.storage.trouble is not None:
        yield warn("copy of the bucket", signed.storage.trouble, "look at the bucket and the network")


def _expiries(all_roles: tuple[RoleStatus, ...], now: datetime) -> Looks:
    late = warnings(all_roles, now)
    for how, line in late:
        todo = "the server signs it anew by itself: see that it runs, and its log; or `publish repo refresh`"
        if "`publish repo draft" in line:
            todo = "call its holders together (docs/offline-keys.md)"
        yield (warn if how is Outlook.SOON else fail)("metadata", line, todo)
    if not late:
        first = min(all_roles, key=lambda one: one.expires)
        yield well(
            "metadata", f"{len(all_roles)} roles; the first to expire is {first.name}, {first.expires:%Y-%m-%d %H:%M}Z"
        )


def _agree(findings: list[Finding]) -> Check:
    if not findings:
        return well("repository", "signed, stored and recorded agree")
    kinds: dict[str, int] = {}
    for one in findings:
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    if kinds.keys() <= _LEFT_OVER:
        return warn("repository", told, "`publish repo check --repair`")
    return fail(
        "repository", told, "`publish repo check` names them; what is damaged comes back from a backup or mirror"
    )


def leader(org: str, db: Database, *, serving: bool) -> Check:
    """Whether somebody moves the rollouts."""
    holder = Leases(db).holder(f"scheduler/{org}")
    if holder is not None:
        return well("leader", f"{holder} moves the rollouts")
    if serving:
        todo = "wait WAVEGATE_LEASE_SECONDS and ask again; then see the log for failures of the scheduler"
        return warn("leader", "a server answers and nobody moves the rollouts", todo)
    return unknown("leader", "no server runs, so nobody moves the rollouts")


def backup(org: str, db: Database, now: datetime) -> Check:
    """When the last backup was made."""
    made = AuditLog(db).events(org, EventFilter(tag="repository.backed_up"), newest_first=True, limit=1)
    todo = "`publish repo backup FILE.tar`, every day from a timer (docs/operate.md#backup)"
    if not made:
        return warn("backup", "none was ever made", todo)
    (last,) = made
    age = now - last.event.at
    told = f"the last was made on {last.event.at:%Y-%m-%d %H:%M}Z"
    return warn("backup", told, todo) if age > _BACKUP_SOON else well("backup", told)
