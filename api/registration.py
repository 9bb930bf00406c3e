"""Registration: how a server whose home has no organisation yet gets its first one, and whether others may follow.

A server without an administrator is anybody's who calls first. So the first registration needs the setup code, a file
in the home that only who runs the server can read; of any number of callers one uses it up.
Source: docs/adr/0129-the-first-registration-needs-the-setup-code.md
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from api.errors import ApiError
from api.installation import Installation
from api.organisations import Founded, NewAdmin, SetupRefused, create_organisation
from api.settings import Settings
from api.setup import make_home
from api.wiring import NotInitialised
from evidence.model import Actor, ActorKind
from keys.files import write_private
from keys.secret import SETUP_CODE, new_secret

CODE_FILE: Final = "setup-code"
_IN_USE: Final = "setup-code.in-use"
_BY: Final = Actor(ActorKind.SYSTEM, "system:registration", "registration")


def prepare_home(settings: Settings, *, now: datetime) -> None:
    """Make a home for a server that is started on none, where somebody may register; else change nothing.

    A folder with anything in it is never taken for an empty home.

    Raises:
        NotInitialised: It cannot be made; the message says why.
    """
    home = settings.home
    if settings.registration == "off" or (home.exists() and any(home.iterdir())):
        return
    try:
        make_home(settings, now=now)
    except SetupRefused as error:
        raise NotInitialised(str(error)) from error


def setup_code_file(installation: Installation) -> Path | None:
    """The file with the code of the first registration, made if need be; None where none is waited for."""
    if installation.settings.registration == "off" or installation.slugs():
        return None
    file = installation.settings.home / CODE_FILE
    if not file.exists():
        (file.parent / _IN_USE).unlink(missing_ok=True)  # left by a registration that was cut short
        write_private(file, f"{new_secret(SETUP_CODE).text}\n".encode())
    return file


def register(
    installation: Installation, *, org: str, name: str, admin: NewAdmin, code: str | None, now: datetime
) -> Founded:
    """Make an organisation for somebody who is nobody here yet; it is served at once.

    Args:
        code: The setup code; asked for as long as there is no organisation.

    Raises:
        ApiError: 403 ``registration_closed`` when nobody may register (any more), ``setup_code_refused``.
        OrgExists: The slug is taken.
        RepositoryError, CustodyError: It could not be signed; nothing of it is left, and the code is good again.
    """
    settings = installation.settings
    installation.look_again()
    is_first = not installation.slugs()
    if settings.registration == "off" or not (is_first or settings.registration == "open"):
        raise _closed()
    if not is_first:
        return _found(installation, org, name, admin, now)
    with _used_up(settings.home, code or ""):
        return _found(installation, org, name, admin, now)


def _found(installation: Installation, org: str, name: str, admin: NewAdmin, now: datetime) -> Founded:
    shared = installation.shared
    try:
        made = create_organisation(shared.settings, shared.db, org=org, name=name, admin=admin, by=_BY, now=now)
    except SetupRefused as error:
        raise ApiError(400, "validation_failed", str(error)) from error
    installation.look_again()
    return made


@contextmanager
def _used_up(home: Path, code: str) -> Iterator[None]:
    """Hold the setup code while its owner registers; it is gone afterwards, and back if they could not."""
    file, held = home / CODE_FILE, home / _IN_USE
    try:
        wanted = file.read_text("utf-8").strip()
    except FileNotFoundError:
        raise _closed() from None
    if not hmac.compare_digest(wanted.encode(), code.strip().encode()):
        raise ApiError(
            403,
            "setup_code_refused",
            f"the first registration needs the code in the file {CODE_FILE} of the server's home",
        )
    try:
        file.rename(held)  # of any number of callers one finds it
    except FileNotFoundError:
        raise _closed() from None
    try:
        yield
    except BaseException:
        with suppress(FileNotFoundError):
            held.rename(file)
        raise
    held.unlink(missing_ok=True)


def _closed() -> ApiError:
    return ApiError(
        403, "registration_closed", "nobody registers here (any more); ask an administrator for an invitation"
    )
