"""Where login tokens are kept: in the system's own keyring where there is one, else not here.

The keyring is used when the package ``keyring`` is installed (the extra ``keyring``) and finds one that works;
``WAVEGATE_KEYRING=off`` leaves it alone. Servers without a desktop have none.
"""

from __future__ import annotations

import os
from typing import Any, Final

_SERVICE: Final = "wavegate"


def put(name: str, token: str) -> bool:
    """Keep a token; false when there is no keyring that takes it."""
    backend = _backend()
    if backend is None:
        return False
    try:
        backend.set_password(_SERVICE, name, token)
    except Exception:  # noqa: BLE001 - backends raise what their systems do; the file is as good
        return False
    return True


def get(name: str) -> str | None:
    """The token again; None when it or the keyring is gone."""
    backend = _backend()
    if backend is None:
        return None
    try:
        found = backend.get_password(_SERVICE, name)
    except Exception:  # noqa: BLE001 - a locked keyring is a login to make anew
        return None
    return str(found) if found else None


def drop(name: str) -> bool:
    """Forget a token; false when that cannot be known, for the keyring is gone or locked."""
    backend = _backend()
    if backend is None:
        return False
    try:
        if backend.get_password(_SERVICE, name) is not None:
            backend.delete_password(_SERVICE, name)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _backend() -> Any:
    if os.environ.get("WAVEGATE_KEYRING", "").strip().lower() in ("off", "0", "false", "no"):
        return None
    try:
        import keyring
    except ImportError:
        return None
    try:
        found = keyring.get_keyring()
        # Those that keep nothing, or fail, say so by a priority of nothing.
        return found if found.priority > 0 else None
    except Exception:  # noqa: BLE001 - a keyring that cannot say what it is is none
        return None
