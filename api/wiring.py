"""Joins the rooms: one place that knows which class fulfils which port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from api.settings import Settings
from evidence.errors import SecretUnreadable
from evidence.webhooks.service import Webhooks
from keys.device_ca import DeviceCa
from keys.errors import SealBroken
from keys.keyring import Keyring
from keys.password import Passwords, PasswordSettings
from keys.seal import Seal
from repo_signing.bucket import Bucket, BucketAddress
from repo_signing.errors import ApproversSign, CommitRefused, NoRepository
from repo_signing.repository import SignedRepository
from repo_signing.shared_storage import SharedStorage
from repo_signing.storage import LocalStorage
from rollout.errors import RolloutChanged, SignaturesNeeded
from rollout.excluding import Exclusions
from rollout.freezing import Freezes
from rollout.permits import Permits
from rollout.preview import Previews
from rollout.rules import Rules
from rollout.service import RolloutService
from sbom.read import read_sbom
from store.accounts import Accounts
from store.artifacts import ArtifactIndex, SqlReleases
from store.audit import AuditLog
from store.database import Database
from store.fleet import SqlFleet
from store.idempotency import IdempotencyKeys
from store.inventory import SqlInventory
from store.login_failures import LoginFailures
from store.permits import SqlPermits
from store.pool import Limits
from store.readings import SqlReadings
from store.repository_lease import SqlLease
from store.rollouts import SqlRollouts
from store.rules import SqlExclusions, SqlFreezes, SqlTemplates
from store.second_factors import SecondFactors
from store.webhook_deliveries import SqlDeliveries
from store.webhooks import SqlWebhooks

ROOT_FILE = "root.json"  # the copy of the first root to carry to devices and auditors by a way of its own
MARKER = "initialised"  # written last by `publish init`: its absence tells a half-made home


class NotInitialised(Exception):
    """There is no finished home here; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wavegate:
    """The product, wired: what the API, the device port, the jobs and the commands work with."""

    version: str
    settings: Settings
    org: str
    db: Database
    repository: SignedRepository
    artifacts: ArtifactIndex
    rollouts: RolloutService
    rollout_store: SqlRollouts
    permits: Permits
    readings: SqlReadings
    exclusions: Exclusions
    freezes: Freezes
    templates: SqlTemplates
    previews: Previews
    fleet: SqlFleet
    accounts: Accounts
    failures: LoginFailures
    second_factors: SecondFactors
    audit: AuditLog
    idempotency: IdempotencyKeys
    webhooks: Webhooks
    deliveries: SqlDeliveries
    device_ca: DeviceCa
    passwords: Passwords
    seal: Seal

    def close(self) -> None:
        """Let go of the database; nothing else is held open."""
        self.db.close()


class SignedDecisions:
    """The rollout room's ``Decisions`` port, fulfilled by the signed repository."""

    def __init__(self, repository: SignedRepository) -> None:
        self._repository = repository

    def approvers_sign(self, product: str) -> bool:
        """Whether ``waves-<product>`` is delegated."""
        return self._repository.approvals.rule(product) is not None

    def lacking(self, changes: Mapping[str, bytes | None]) -> str:
        """What too few approvers have signed."""
        return self._repository.approvals.lacking(changes)

    def proposed(self, rollout_id: str) -> Mapping[int, Mapping[str, bytes]]:
        """What was proposed last, whether it still stands or not."""
        found = self._repository.approvals.find(rollout_id)
        if found is None:
            return {}
        return {
            number: {path: text.encode() for path, text in documents.items()}
            for number, documents in zip(found.waves, found.documents, strict=True)
        }

    def commit(self, changes: Mapping[str, bytes | None], *, only_if: Callable[[], bool], now: datetime) -> int:
        """Sign the documents in one commit; a refusal of ``only_if`` means that somebody else was first."""
        try:
            return self._repository.commit_documents(changes, only_if=only_if, now=now)
        except CommitRefused as error:
            raise RolloutChanged("the rollout was changed while its decision was being signed; look again") from error
        except ApproversSign as error:
            raise SignaturesNeeded(str(error)) from error

    def served(self, path: str) -> bytes | None:
        """The document as clients get it now."""
        return self._repository.served(path)

    def exclusively(self, action: Callable[[], None]) -> None:
        """Run under the repository lock."""
        self._repository.exclusively(action)


class SealedSecrets:
    """The ``Seal`` port of webhooks, fulfilled by a seal of the home."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def seal(self, text: str, *, bound_to: str) -> str:
        """What to store."""
        return self._seal.close(text.encode(), of=bound_to)

    def open(self, sealed: str, *, bound_to: str) -> str:
        """The text again."""
        try:
            return self._seal.open(sealed, of=bound_to).decode()
        except SealBroken as error:
            raise SecretUnreadable(f"the secret cannot be opened, rotate it: {error}") from error


def packages_of(repository: SignedRepository, artifacts: ArtifactIndex, artifact: str) -> frozenset[str]:
    """Names and purls in all SBOMs of an artifact; empty without any. The last few are remembered."""
    found: frozenset[str] = frozenset()
    for sbom in artifacts.sboms_of(artifact):
        found |= _packages_in(repository.blob_path(sbom.sha256))
    return found


@lru_cache(maxsize=32)
def _packages_in(blob: Path) -> frozenset[str]:
    # The scheduler asks at every look while a package is excluded; a blob is named by its digest and never changes.
    return read_sbom(blob).packages


def repository_folder(settings: Settings, org: str) -> Path:
    """Where an organisation's repository is kept."""
    return settings.storage / org / "repository"


def repository_storage(settings: Settings, org: str, db: Database) -> LocalStorage:
    """What changes an organisation's repository: its folder, or the bucket that the folder is a copy of.

    With PostgreSQL several servers may write one bucket, a lease each after the other; with SQLite there is one server.

    Raises:
        StorageUnusable: The bucket cannot be reached the way it is set up.
    """
    if not settings.bucket:
        return LocalStorage()
    root = settings.home / ROOT_FILE
    return SharedStorage(
        repository_folder(settings, org),
        Bucket(bucket_address(settings).below(org)),
        None if db.is_sqlite else SqlLease(db, org),
        first_root=root.read_bytes() if root.is_file() else None,
    )


def bucket_address(settings: Settings) -> BucketAddress:
    """Where the bucket of all organisations is."""
    return BucketAddress(
        url=settings.bucket,
        endpoint=settings.storage_endpoint,
        region=settings.storage_region,
        virtual_host=settings.storage_virtual_host,
        allow_http=settings.storage_allow_http,
    )


def keys_folder(settings: Settings, org: str) -> Path:
    """Where an organisation's keyring and online keys are kept."""
    return settings.home / "orgs" / org / "keys"


def organisation_of(settings: Settings) -> str:
    """The organisation of a finished home; raises NotInitialised."""
    marker = settings.home / MARKER
    if not marker.is_file():
        raise NotInitialised(f"{settings.home} is no Wavegate home; make one with `publish init`, or set WAVEGATE_HOME")
    return marker.read_text("utf-8").strip()


def open_database(settings: Settings) -> Database:
    """The database of a home; nothing is connected before the first transaction."""
    return Database(
        settings.database_url,
        limits=Limits(
            size=settings.database_pool,
            overflow=settings.database_overflow,
            wait_seconds=settings.database_wait_seconds,
            connect_seconds=settings.database_connect_seconds,
            statement_seconds=settings.database_statement_seconds,
            idle_seconds=settings.database_idle_seconds,
            pooler=settings.database_pooler,
        ),
    )


def open_wavegate(settings: Settings) -> Wavegate:
    """Open a home that ``publish init`` made; brings the database to this program's version.

    Raises:
        NotInitialised: There is no home, or its making was cut short.
    """
    org = organisation_of(settings)
    db = open_database(settings)
    db.migrate()
    accounts = Accounts(db)
    artifacts = ArtifactIndex(db, org)
    keyring = Keyring(keys_folder(settings, org))
    try:
        storage = repository_storage(settings, org, db)
        repository = SignedRepository(repository_folder(settings, org), keyring, artifacts, storage=storage)
    except BaseException as error:
        db.close()
        if not isinstance(error, NoRepository):
            raise
        raise NotInitialised(
            f"root and targets of {settings.home} are not signed yet: `publish repo draft list --home {settings.home}` "
            "shows whose signatures are missing"
        ) from error
    fleet = SqlFleet(db)
    rollout_store = SqlRollouts(db)
    decisions = SignedDecisions(repository)
    exclusions = Exclusions(
        rows=SqlExclusions(db),
        decisions=decisions,
        groups=fleet,
        packages_of=lambda artifact: packages_of(repository, artifacts, artifact),
    )
    freezes = Freezes(rows=SqlFreezes(db))
    readings = SqlReadings(db)
    permits = Permits(rows=SqlPermits(db), rollouts=rollout_store, groups=fleet)
    deliveries = SqlDeliveries(db)
    service = RolloutService(
        rollouts=rollout_store,
        decisions=decisions,
        releases=SqlReleases(db),
        groups=fleet,
        rules=Rules(exclusions=exclusions, freezes=freezes),
        updating=permits.words,
        readings=readings.of,
    )
    return Wavegate(
        version=version("wavegate"),
        settings=settings,
        org=org,
        db=db,
        repository=repository,
        artifacts=artifacts,
        rollouts=service,
        rollout_store=rollout_store,
        permits=permits,
        readings=readings,
        exclusions=exclusions,
        freezes=freezes,
        templates=SqlTemplates(db),
        previews=Previews(
            rollouts=rollout_store,
            decisions=service.decisions,
            releases=service.releases,
            groups=fleet,
            inventory=SqlInventory(db),
            make_salt=service.make_salt,
            rules=service.rules,
        ),
        fleet=fleet,
        accounts=accounts,
        failures=LoginFailures(db),
        second_factors=SecondFactors(db),
        audit=AuditLog(db),
        idempotency=IdempotencyKeys(db),
        webhooks=Webhooks(
            rows=SqlWebhooks(db),
            deliveries=deliveries,
            seal=SealedSecrets(_seal(settings, "webhook secrets")),
            allowed=settings.webhook_allow,
        ),
        deliveries=deliveries,
        device_ca=DeviceCa.open(settings.home / "device-ca"),
        passwords=Passwords(PasswordSettings(memory_kib=settings.password_memory_kib)),
        seal=_seal(settings, "second factors"),
    )


def _seal(settings: Settings, purpose: str) -> Seal:
    # Derived from a secret that every server of an installation and every backup with keys has anyhow.
    return Seal((settings.home / "device-ca" / "passphrase").read_bytes().strip(), purpose=purpose)
