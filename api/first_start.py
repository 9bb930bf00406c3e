"""A server that is started on no home: it makes one without an organisation, and says who may register the first.

Apart from :mod:`api.registration`, because the server's first process answers no requests.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from api.installation import Installation
from api.organisations import SetupRefused
from api.settings import Settings
from api.setup import make_home
from api.wiring import NotInitialised
from keys.files import write_private
from keys.secret import SETUP_CODE, new_secret

CODE_FILE: Final = "setup-code"
IN_USE: Final = "setup-code.in-use"


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
        (file.parent / IN_USE).unlink(missing_ok=True)  # left by a registration that was cut short
        write_private(file, f"{new_secret(SETUP_CODE).text}\n".encode())
    return file
