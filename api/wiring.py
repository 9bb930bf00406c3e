"""Joins the rooms: one place that knows which class fulfils which port."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.auth.issuers import Issuers
from api.commanding import commands_of
from api.guarded import Guarded
from api.settings import Settings
from api.traced import TracedIndex, TracedKeyring
from api.tracing import is_on, statement
from evidence.errors import SecretUnreadable
from evidence.webhooks.service import Webhooks
from fleet.commanding import Commands
from fleet.rules import online_within
from keys.device_ca import DeviceCa
from keys.errors import SealBroken
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
from store.history import SqlHistories
from store.idempotency import IdempotencyKeys
from store.identities import Identities
from store.inventory import SqlInventory
from store.invitations import Invitations
from store.login_failures import LoginFailures
from store.metering import SqlMeter
from store.organisations import Organisations
from store.permits import SqlPermits
from store.pool import Limits
from store.publishers import Publishers
from store.readings import SqlReadings
from store.repository_lease import SqlLease
from store.rollouts import SqlRollouts
from store.rules import SqlExclusions, SqlFreezes, SqlTemplates
from store.second_factors import SecondFactors
from store.webhook_deliveries import SqlDeliveries
from store.webhooks import SqlWebhooks

if TYPE_CHECKING:
    from api.auth.oidc import OidcClient

ROOT_FILE = "root.json"  # the copy of the first root to carry to devices and auditors by a way of its own
MARKER = "initialised"  # written last by `publish init`: its absence tells a half-made home


class NotInitialised(Exception):
    """There is no finished home here; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all organisations of an installation share; whatever is kept here takes the organisation as an argument."""

    version: str
    settings: Settings
    db: Database
    rollout_store: SqlRollouts
    permits: Permits
    readings: SqlReadings
    freezes: Freezes
    templates: SqlTemplates
    fleet: SqlFleet
    histories: SqlHistories
    meter: SqlMeter
    organisations: Organisations
    accounts: Accounts
    invitations: Invitations
    failures: LoginFailures
    second_factors: SecondFactors
    publishers: Publishers
    issuers: Issuers
    identities: Identities
    oidc: OidcClient | None
    audit: AuditLog
    idempotency: IdempotencyKeys
    webhooks: Webhooks
    deliveries: SqlDeliveries
    device_ca: DeviceCa
    commands: Commands
    passwords: Passwords
    seal: Seal

    def close(self) -> None:
        """Let go of the database; nothing else is held open."""
        self.db.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wavegate(Shared):
    """The product, wired for one organisation: what the API, the jobs and the commands work with."""

    org: str
    repository: SignedRepository
    artifacts: ArtifactIndex
    rollouts: RolloutService
    exclusions: Exclusions
    previews: Previews


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
    root = root_file(settings, org)
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


def device_ca_folder(settings: Settings) -> Path:
    """Where the CA of device certificates is kept, one for all organisations."""
    return settings.home / "device-ca"


def root_file(settings: Settings, org: str) -> Path:
    """Where the copy of an organisation's first root is: in the home that was made with it, else in its own folder."""
    marker, own = settings.home / MARKER, settings.home / "orgs" / org / ROOT_FILE
    if marker.is_file():
        return settings.home / ROOT_FILE if org == marker.read_text("utf-8").strip() else own
    # The home is being made, or restored: this organisation is its first unless there is a file that says otherwise.
    return own if own.is_file() else settings.home / ROOT_FILE


def first_of(settings: Settings, slugs: Sequence[str]) -> str:
    """The organisation that a home was made with, else the oldest of ``slugs``."""
    made_with = (settings.home / MARKER).read_text("utf-8").strip()
    return made_with if made_with in slugs else slugs[0]


def check_home(settings: Settings) -> None:
    """Raises NotInitialised unless there is a finished home."""
    if not (settings.home / MARKER).is_file():
        raise NotInitialised(f"{settings.home} is no Wavegate home; make one with `publish init`, or set WAVEGATE_HOME")


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


def organisations_of(settings: Settings) -> list[str]:
    """The slugs of all organisations of a finished home, oldest first; raises NotInitialised."""
    check_home(settings)
    db = open_database(settings)
    try:
        db.migrate()
        return [one.slug for one in Organisations(db).all()]
    finally:
        db.close()


def organisation_of(settings: Settings, named: str | None = None) -> str:
    """The organisation of a finished home that is meant: the one that is named, or the only one there is.

    Raises:
        NotInitialised: There is no home, no such organisation in it, or several and none is named.
    """
    return _one_of(organisations_of(settings), named, settings)


def _one_of(known: Sequence[str], named: str | None, settings: Settings) -> str:
    if named is None and len(known) == 1:
        return known[0]
    if named in known:
        return str(named)
    there = f"there are {', '.join(known)}" if known else "make one with `publish org create`"
    found = f"has no organisation {named}" if named is not None else f"has {len(known)} organisations; name one"
    raise NotInitialised(f"{settings.home} {found}: {there}")


def open_wavegate(settings: Settings, org: str | None = None) -> Wavegate:
    """Open one organisation of a home, by default the only one; brings the database to this program's version.

    Raises:
        NotInitialised: There is no home, its making was cut short, or its organisation is not the only one.
    """
    shared = open_shared(settings)
    try:
        known = [one.slug for one in Organisations(shared.db).all()]
        return wire(shared, _one_of(known, org, settings))
    except BaseException:
        shared.close()
        raise


def open_shared(settings: Settings) -> Shared:
    """Open a home without any of its organisations; brings the database to this program's version.

    Raises:
        NotInitialised: There is no home, or its making was cut short.
    """
    check_home(settings)
    db = open_database(settings)
    db.migrate()
    if is_on():
        db.observe(statement)
    rollout_store, deliveries, issuers = SqlRollouts(db), SqlDeliveries(db), Issuers(Guarded(settings.oidc_allow))
    fleet = SqlFleet(db, online_within=online_within(timedelta(seconds=settings.check_in_seconds)))
    return Shared(
        version=version("wavegate"),
        settings=settings,
        db=db,
        rollout_store=rollout_store,
        permits=Permits(rows=SqlPermits(db), rollouts=rollout_store, groups=fleet),
        readings=SqlReadings(db),
        freezes=Freezes(rows=SqlFreezes(db)),
        templates=SqlTemplates(db),
        fleet=fleet,
        histories=SqlHistories(db),
        meter=SqlMeter(db),
        organisations=Organisations(db),
        accounts=Accounts(db),
        invitations=Invitations(db),
        failures=LoginFailures(db),
        second_factors=SecondFactors(db),
        publishers=Publishers(db),
        issuers=issuers,
        identities=Identities(db),
        oidc=_oidc(settings, issuers),
        audit=AuditLog(db),
        idempotency=IdempotencyKeys(db),
        webhooks=Webhooks(
            rows=SqlWebhooks(db),
            deliveries=deliveries,
            seal=SealedSecrets(_seal(settings, "webhook secrets")),
            allowed=settings.webhook_allow,
        ),
        deliveries=deliveries,
        device_ca=DeviceCa.open(device_ca_folder(settings)),
        commands=commands_of(settings, fleet, db, bucket_address(settings)),
        passwords=Passwords(PasswordSettings(memory_kib=settings.password_memory_kib)),
        seal=_seal(settings, "second factors"),
    )


def wire(shared: Shared, org: str) -> Wavegate:
    """Open an organisation's repository and join the rooms over it.

    Raises:
        NotInitialised: Its root and targets are not signed yet.
        RepositoryError, CustodyError, OSError: Its repository or its keys cannot be opened.
    """
    settings, db = shared.settings, shared.db
    artifacts = TracedIndex(db, org)
    try:
        repository = SignedRepository(
            repository_folder(settings, org),
            TracedKeyring(keys_folder(settings, org)),
            artifacts,
            storage=repository_storage(settings, org, db),
        )
    except NoRepository as error:
        raise NotInitialised(
            f"root and targets of {org} in {settings.home} are not signed yet: `publish repo draft list --home "
            f"{settings.home} --org {org}` shows whose signatures are missing"
        ) from error
    decisions = SignedDecisions(repository)
    exclusions = Exclusions(
        rows=SqlExclusions(db),
        decisions=decisions,
        groups=shared.fleet,
        packages_of=lambda artifact: packages_of(repository, artifacts, artifact),
    )
    service = RolloutService(
        rollouts=shared.rollout_store,
        decisions=decisions,
        releases=SqlReleases(db),
        groups=shared.fleet,
        rules=Rules(exclusions=exclusions, freezes=shared.freezes),
        updating=shared.permits.words,
        readings=shared.readings.of,
    )
    with_all: dict[str, Any] = {one.name: getattr(shared, one.name) for one in fields(Shared)}
    return Wavegate(
        **with_all,
        org=org,
        repository=repository,
        artifacts=artifacts,
        rollouts=service,
        exclusions=exclusions,
        previews=Previews(
            rollouts=shared.rollout_store,
            decisions=service.decisions,
            releases=service.releases,
            groups=shared.fleet,
            inventory=SqlInventory(db),
            make_salt=service.make_salt,
            rules=service.rules,
        ),
    )


def _oidc(settings: Settings, issuers: Issuers) -> OidcClient | None:
    if not settings.oidc_issuer:
        return None
    from api.auth.oidc import OidcClient  # it speaks HTTP, which the server's first process does not need

    return OidcClient(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        secret_file=settings.oidc_client_secret_file,
        scopes=settings.oidc_scopes,
        issuers=issuers,
        seal=_seal(settings, "oidc logins"),
    )


def _seal(settings: Settings, purpose: str) -> Seal:
    # Derived from a secret that every server of an installation and every backup with keys has anyhow.
    return Seal((device_ca_folder(settings) / "passphrase").read_bytes().strip(), purpose=purpose)
