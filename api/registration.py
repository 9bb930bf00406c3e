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
from api.first_start import CODE_FILE, IN_USE
from api.installation import Installation
from api.organisations import Founded, NewAdmin, SetupRefused, create_organisation
from evidence.model import Actor, ActorKind

_BY: Final = Actor(ActorKind.SYSTEM, "system:registration", "registration")


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
    file, held = home / CODE_FILE, home / IN_USE
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
