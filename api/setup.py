"""The making of a home: database, device CA, and its first organisation with an admin and an API key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from api.organisations import Holders, NewAdmin, SetupRefused, add_first_key, check_founding, create_organisation
from api.settings import Settings
from api.wiring import MARKER, device_ca_folder, open_database
from keys.device_ca import create_device_ca
from keys.errors import CustodyError
from keys.files import make_private_folder, write_private
from repo_signing.roles import BINS
from store.database import Database
from store.organisations import Organisations


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

    ``layout`` is that of the repository, ``bins`` or ``paths``, and stays. For ``holders`` see
    :func:`api.organisations.create_organisation`.

    The API key belongs to an automation account of its own, role operator: what it creates, the admin can approve.

    Raises:
        SetupRefused: The home or the database is in use, or a name cannot be used. A home whose making was cut short is
            refused too: remove the folder and begin again, no device trusts it yet.
    """
    home = settings.home
    check_founding(org, holders)
    db = _begin(settings, now=now)
    try:
        founded = create_organisation(
            settings, db, org=org, admin=NewAdmin(email=admin), now=now, layout=layout, holders=holders
        )
        key = add_first_key(db, org, now)
    finally:
        db.close()
    write_private(home / MARKER, f"{org}\n".encode())
    return Initialised(
        home=home,
        org=org,
        root=founded.root,
        root_sha256=founded.root_sha256,
        draft=founded.draft,
        admin_email=admin,
        admin_password=founded.password or "",
        api_key=key,
    )


def make_home(settings: Settings, *, now: datetime) -> None:
    """Make a home without an organisation, for a server whose first one registers; raises SetupRefused."""
    _begin(settings, now=now).close()
    write_private(settings.home / MARKER, b"\n")


def _begin(settings: Settings, *, now: datetime) -> Database:
    home = settings.home
    if (home / MARKER).exists():
        raise SetupRefused(f"{home} is a Wavegate home already; nothing was changed")
    if home.exists() and any(home.iterdir()):
        raise SetupRefused(
            f"{home} is not empty and no finished home; choose another folder with WAVEGATE_HOME, or, when an earlier "
            "`publish init` was cut short there, remove it first"
        )
    make_private_folder(home)
    db = open_database(settings)
    try:
        db.migrate()
        if Organisations(db).all():
            raise SetupRefused("the database belongs to another home already; nothing was changed in it")
        _create_device_ca(settings, now=now)
    except BaseException:
        db.close()
        raise
    return db


def _create_device_ca(settings: Settings, *, now: datetime) -> None:
    try:
        pin = None
        if settings.device_ca_pin_file is not None:
            pin = settings.device_ca_pin_file.read_text("utf-8").strip()
        create_device_ca(device_ca_folder(settings), now=now, key=settings.device_ca_key, pin=pin)
    except OSError as error:
        raise SetupRefused(
            f"the device CA cannot be made: {error.strerror}: {error.filename}; remove {settings.home} and begin again"
        ) from error
    except CustodyError as error:
        raise SetupRefused(
            f"the device CA cannot be made: {error}; mend it, remove {settings.home} and begin again"
        ) from error
