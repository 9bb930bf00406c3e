"""The making of a home: database, keys, signed repository, device CA, the first admin and the first API key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from api.settings import Settings
from api.wiring import MARKER, ROOT_FILE, keys_folder, open_database, repository_folder, repository_storage
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import ApiKey, Role, User
from keys.device_ca import create_device_ca
from keys.files import make_private_folder, write_private
from keys.keyring import create_keyring
from keys.password import Passwords, PasswordSettings
from keys.ring_file import RoleKey, RoleKeys
from keys.secret import API_KEY, new_secret, random_password, shown_prefix
from repo_signing.ceremony import create_repository
from repo_signing.errors import RepositoryError
from repo_signing.first_drafts import Ceremony
from repo_signing.payloads import PublicKey, check_holders, public_key
from repo_signing.roles import BINS
from store.accounts import Accounts
from store.artifacts import ArtifactIndex
from store.database import Database

KEY_LIFE: Final = timedelta(days=366)
_SETUP: Final = Actor(ActorKind.SYSTEM, "system:setup", "publish init")
_ORG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")


class SetupRefused(Exception):
    """The home cannot be made; nothing that was there has changed, and the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Whose keys root and targets get: public keys by role, and how many of them must sign."""

    keys: Mapping[str, Sequence[PublicKey]]
    thresholds: Mapping[str, int]

    def ring(self) -> dict[str, RoleKeys]:
        """Their public halves as the keyring notes them: no URI, for they are in nobody's reach here."""
        return {
            role: RoleKeys(tuple(RoleKey(None, public_key(key)) for key in keys), self.thresholds[role])
            for role, keys in self.keys.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised:
    """What ``publish init`` tells. Password and key are shown here and never again.

    ``root_sha256`` is empty and ``draft`` the draft's id while root waits for the signatures of its holders.
    """

    home: Path
    org: str
    root: Path
    root_sha256: str
    draft: str | None = None
    admin_email: str
    admin_password: str
    api_key: str


def initialise(
    settings: Settings, *, org: str, admin: str, now: datetime, layout: str = BINS, holders: Holders | None = None
) -> Initialised:
    """Make a home. The folder must be absent or empty; everything in it is for its owner alone (0700, secrets 0600).

    ``layout`` is that of the repository, ``bins`` or ``paths``, and stays.

    With ``holders`` no key of root or targets is ever here: both are left as a draft for them to sign, and
    :func:`finish_ceremony` makes the repository when they have.

    The API key belongs to an automation account of its own, role operator: what it creates, the admin can approve.

    Raises:
        SetupRefused: The home or the database is in use, or a name cannot be used. A home whose making was cut short is
            refused too: remove the folder and begin again, no device trusts it yet.
    """
    home = settings.home
    if _ORG.fullmatch(org) is None:
        raise SetupRefused(f"{org!r} is no organisation slug, expected a-z, 0-9 and - such as `acme`, at most 50")
    if (home / MARKER).exists():
        raise SetupRefused(f"{home} is a Wavegate home already; nothing was changed")
    if home.exists() and any(home.iterdir()):
        raise SetupRefused(
            f"{home} is not empty and no finished home; choose another folder with WAVEGATE_HOME, or, when an earlier "
            "`publish init` was cut short there, remove it first"
        )
    if holders is not None:
        try:
            check_holders(holders.keys, holders.thresholds)
        except RepositoryError as error:
            raise SetupRefused(f"{error}; nothing was made") from error
    make_private_folder(home)
    db = open_database(settings)
    try:
        db.migrate()
        accounts = Accounts(db)
        if accounts.orgs():
            raise SetupRefused("the database belongs to another home already; nothing was changed in it")
        accounts.add_org(org, org, now=now)
        offline = home / "orgs" / org / "offline-keys"
        keyring = create_keyring(
            keys_folder(settings, org),
            offline if holders is None else None,
            elsewhere={} if holders is None else holders.ring(),
        )
        folder = repository_folder(settings, org)
        make_private_folder(folder.parent)
        storage = repository_storage(settings, org, db)
        create_device_ca(home / "device-ca", now=now, organisation=org)
        draft = root_sha256 = None
        if holders is None:
            made = create_repository(folder, keyring, now=now, storage=storage, layout=layout)
            root_sha256 = _tell_root(settings, db, org, made, now)
        else:
            ceremony = Ceremony(folder, keyring, storage=storage)
            draft = ceremony.begin(holders.keys, holders.thresholds, by=_SETUP, now=now, layout=layout).id
        password = _add_admin(settings, accounts, org, admin, now)
        key = _add_key(accounts, org, now)
    finally:
        db.close()
    write_private(home / MARKER, f"{org}\n".encode())
    return Initialised(
        home=home,
        org=org,
        root=home / ROOT_FILE,
        root_sha256=root_sha256 or "",
        draft=draft,
        admin_email=admin,
        admin_password=password,
        api_key=key,
    )


def finish_ceremony(settings: Settings, org: str, *, now: datetime) -> str | None:
    """Record a repository that its holders have just signed and copy its root to the home; again changes nothing.

    Returns:
        The digest of the root, or None when the repository is not there yet.
    """
    folder = repository_folder(settings, org)
    first = folder / "metadata" / "1.root.json"
    db = open_database(settings)
    try:
        repository_storage(settings, org, db).follow(folder)
        if not (first.parent / "timestamp.json").exists():
            return None
        if (settings.home / ROOT_FILE).exists():
            return hashlib.sha256(first.read_bytes()).hexdigest()
        return _tell_root(settings, db, org, first.read_bytes(), now)
    finally:
        db.close()


def _tell_root(settings: Settings, db: Database, org: str, root_file: bytes, now: datetime) -> str:
    root_sha256 = hashlib.sha256(root_file).hexdigest()
    created = AuditEvent("repository.created", org, _SETUP, now, {"serial": 1, "root_sha256": root_sha256})
    index = ArtifactIndex(db, org)
    if index.projected_serial() == 0:
        index.project(1, [], [created])
    root = settings.home / ROOT_FILE
    write_private(root, root_file)
    root.chmod(0o644)  # public by nature, unlike its neighbours
    return root_sha256


def _add_admin(settings: Settings, accounts: Accounts, org: str, email: str, now: datetime) -> str:
    password = random_password()
    admin = User(
        id=new_id("usr"),
        org=org,
        email=email,
        name=email.partition("@")[0] or email,
        kind=ActorKind.USER,
        role=Role.ADMIN,
        created_at=now,
        password_hash=Passwords(PasswordSettings(memory_kib=settings.password_memory_kib)).hash(password),
        password_change_required=True,
    )
    accounts.add_user(admin, AuditEvent("user.created", admin.id, _SETUP, now, {"name": admin.name, "role": "admin"}))
    return password


def _add_key(accounts: Accounts, org: str, now: datetime) -> str:
    owner = User(
        id=new_id("usr"),
        org=org,
        email="",
        name="automation",
        kind=ActorKind.SERVICE,
        role=Role.OPERATOR,
        created_at=now,
    )
    secret = new_secret(API_KEY)
    key = ApiKey(
        id=new_id("key"),
        org=org,
        user=owner.id,
        name="first key",
        prefix=shown_prefix(secret.text),
        sha256=secret.sha256,
        created_by=owner.id,
        created_at=now,
        expires_at=now + KEY_LIFE,
    )
    told = {"name": key.name, "prefix": key.prefix}
    accounts.add_key(key, AuditEvent("api_key.created", key.id, _SETUP, now, told), owner=owner)
    return secret.text
