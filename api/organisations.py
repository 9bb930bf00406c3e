"""The making of an organisation in a home: keys, signed repository, first admin.

Signed first, recorded after: an organisation is there when its row is, and then everything else of it is, too.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from api.settings import Settings
from api.wiring import keys_folder, open_database, repository_folder, repository_storage, root_file
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import ApiKey, Role, User
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
from store.errors import OrgExists
from store.organisations import Organisations

SLUG: Final = r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?"
KEY_LIFE: Final = timedelta(days=366)
SETUP: Final = Actor(ActorKind.SYSTEM, "system:setup", "publish init")


class SetupRefused(Exception):
    """It cannot be made; nothing that was there has changed, and the message says what to do."""


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
class NewAdmin:
    """The first person of an organisation. Without a password one is chosen, for one time only."""

    email: str
    name: str = ""
    password: str | None = None

    def __repr__(self) -> str:
        return f"NewAdmin(email={self.email!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """An organisation just made.

    ``root_sha256`` is empty and ``draft`` the draft's id while root waits for the signatures of its holders.
    ``password`` is the admin's, where it was chosen here; it is kept nowhere.
    """

    org: str
    root: Path
    root_sha256: str
    draft: str | None
    admin: User
    password: str | None


def check_founding(org: str, holders: Holders | None) -> None:
    """Raises SetupRefused for a slug that is none, and for keys of holders that cannot be used."""
    if re.fullmatch(SLUG, org) is None:
        raise SetupRefused(f"{org!r} is no organisation slug, expected a-z, 0-9 and - such as `acme`, at most 50")
    if holders is not None:
        try:
            check_holders(holders.keys, holders.thresholds)
        except RepositoryError as error:
            raise SetupRefused(f"{error}; nothing was made") from error


def create_organisation(
    settings: Settings,
    db: Database,
    *,
    org: str,
    name: str = "",
    admin: NewAdmin,
    by: Actor = SETUP,
    now: datetime,
    layout: str = BINS,
    holders: Holders | None = None,
) -> Founded:
    """Make an organisation with keys and a signed repository of its own; servers that run see it within a second.

    Args:
        settings: Of the home, whose device CA exists.
        db: Its database, migrated.
        org: The slug: a part of URLs and folders, for ever.
        name: For people; the slug if empty.
        admin: Who administers it. Password and address are the caller's to judge.
        by: Who asks, for its log.
        now: When.
        layout: Of the repository, ``bins`` or ``paths``; it stays.
        holders: Whose root and targets are; no key of these is ever here then, both are left as a draft for them to
            sign, and :func:`finish_ceremony` makes the repository when they have.

    Raises:
        SetupRefused: ``org`` is no slug, or the keys of ``holders`` cannot be used; nothing was made.
        OrgExists: The slug is taken, or a folder of this name was left by a making that was cut short.
        RepositoryError, CustodyError, OSError: What was begun is removed again.
        StoreError: It may or may not be recorded; what was signed is left.
    """
    check_founding(org, holders)
    if any(one.slug == org for one in Organisations(db).all()):
        raise OrgExists(f"the organisation {org} exists already")
    own = keys_folder(settings, org).parent
    make_private_folder(own.parent)
    try:
        own.mkdir(mode=0o700)  # of two who make it at once, one goes on
    except FileExistsError as error:
        raise OrgExists(
            f"{own} is there without an organisation: its making is under way, or was cut short, or the database is "
            "older than it; remove the folder if you know that no device trusts it, or choose another slug"
        ) from error
    try:
        draft, root_sha256 = _sign(settings, db, org, now, layout, holders)
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)  # nobody was given its root yet
        raise
    password = random_password() if admin.password is None else admin.password
    person = _person(settings, org, admin, password, now)
    events = [AuditEvent("user.created", person.id, by, now, {"name": person.name, "role": "admin"})]
    if draft is None:
        events.insert(0, AuditEvent("repository.created", org, by, now, {"serial": 1, "root_sha256": root_sha256}))
    Organisations(db).found(org, name or org, person, events, serial=1 if draft is None else 0, now=now)
    return Founded(
        org=org,
        root=root_file(settings, org),
        root_sha256=root_sha256,
        draft=draft,
        admin=person,
        password=password if admin.password is None else None,
    )


def add_first_key(db: Database, org: str, now: datetime, *, by: Actor = SETUP) -> str:
    """Make an API key, of an automation account of its own, role operator: what it creates, the admin can approve."""
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
    Accounts(db).add_key(key, AuditEvent("api_key.created", key.id, by, now, told), owner=owner)
    return secret.text


def finish_ceremony(settings: Settings, org: str, *, now: datetime) -> str | None:
    """Record a repository that its holders have just signed and keep a copy of its root; again changes nothing.

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
        content = first.read_bytes()
        root_sha256 = hashlib.sha256(content).hexdigest()
        if root_file(settings, org).exists():
            return root_sha256
        index = ArtifactIndex(db, org)
        if index.projected_serial() == 0:
            told = {"serial": 1, "root_sha256": root_sha256}
            index.project(1, [], [AuditEvent("repository.created", org, SETUP, now, told)])
        _write_root(root_file(settings, org), content)
        return root_sha256
    finally:
        db.close()


def _sign(
    settings: Settings, db: Database, org: str, now: datetime, layout: str, holders: Holders | None
) -> tuple[str | None, str]:
    """The draft that waits, if any, and the digest of the root, if there is one."""
    keys = keys_folder(settings, org)
    offline = keys.parent / "offline-keys" if holders is None else None
    keyring = create_keyring(keys, offline, elsewhere={} if holders is None else holders.ring())
    folder = repository_folder(settings, org)
    make_private_folder(folder.parent)
    storage = repository_storage(settings, org, db)
    if holders is not None:
        ceremony = Ceremony(folder, keyring, storage=storage)
        return ceremony.begin(holders.keys, holders.thresholds, by=SETUP, now=now, layout=layout).id, ""
    made = create_repository(folder, keyring, now=now, storage=storage, layout=layout)
    _write_root(root_file(settings, org), made)
    return None, hashlib.sha256(made).hexdigest()


def _write_root(path: Path, content: bytes) -> None:
    write_private(path, content)
    path.chmod(0o644)  # public by nature, unlike its neighbours


def _person(settings: Settings, org: str, admin: NewAdmin, password: str, now: datetime) -> User:
    return User(
        id=new_id("usr"),
        org=org,
        email=admin.email,
        name=admin.name or admin.email.partition("@")[0] or admin.email,
        kind=ActorKind.USER,
        role=Role.ADMIN,
        created_at=now,
        password_hash=Passwords(PasswordSettings(memory_kib=settings.password_memory_kib)).hash(password),
        password_change_required=admin.password is None,
    )
