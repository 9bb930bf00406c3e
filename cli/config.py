"""What `publish` remembers between calls: servers by name, and who is logged in where.

Two files in the person's configuration folder (``WAVEGATE_CONFIG_DIR``, else the platform's, e.g.
``~/.config/wavegate``): ``config.toml`` holds ``[profiles.<name>]`` with a ``url``; ``credentials``, mode 0600, maps a
server's address to the login token made there, so that no token is ever sent to another server.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cli.errors import UsageFault

DEFAULT_URL: Final = "http://127.0.0.1:8080"
_MAX_KEY_FILE: Final = 4096  # bytes; a key has about 60 characters, more is some other file


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer token and where it came from, in words for messages. Its ``repr`` does not show the token."""

    token: str
    origin: str

    def __repr__(self) -> str:
        return f"Credential(origin={self.origin!r})"


@dataclass(frozen=True, slots=True)
class Login:
    """A person's login as stored: RFC 3339 end of life, and the e-mail address."""

    token: str
    expires_at: str
    email: str

    def is_expired(self, now: datetime) -> bool:
        """Whether the server would refuse it; a time that cannot be read counts as over."""
        try:
            return datetime.fromisoformat(self.expires_at) <= now
        except (ValueError, TypeError):
            return True


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration folder and the environment's key; reading never makes a file."""

    folder: Path
    api_key: str | None = None

    @classmethod
    def from_environment(cls) -> Config:
        """The only place where the commands read ``WAVEGATE_CONFIG_DIR`` and ``WAVEGATE_API_KEY``."""
        named = os.environ.get("WAVEGATE_CONFIG_DIR")
        if named:
            folder = Path(named)
        else:
            from platformdirs import user_config_path

            folder = user_config_path("wavegate", appauthor=False)
        return cls(folder, os.environ.get("WAVEGATE_API_KEY", "").strip() or None)

    def base_url(self, url: str | None, profile: str) -> str:
        """Address of the server without a trailing slash.

        Args:
            url: What the call said; goes before the profile.
            profile: Name of a remembered server. Only ``default`` may be unknown: then it is this machine.

        Raises:
            UsageFault: The address is no http(s) URL, or the profile does not exist.
        """
        if url is None:
            profiles = self._profiles()
            if profile in profiles:
                url = profiles[profile]
            elif profile == "default":
                url = DEFAULT_URL
            else:
                known = ", ".join(sorted(profiles)) or "none"
                raise UsageFault(
                    f"there is no profile {profile!r} (known: {known})",
                    hint=f"make it with `publish login --profile {profile} --url URL`",
                )
        return checked_url(url)

    def credential(self, base_url: str, *, api_key_file: str | None, as_person: bool) -> Credential | None:
        """What to prove oneself with at this server.

        A key file named in the call goes first, then ``WAVEGATE_API_KEY``, then the stored login; for what only
        a person may do, the stored login goes before ``WAVEGATE_API_KEY``.
        """
        if api_key_file is not None:
            return Credential(_read_key(api_key_file), f"the key in {api_key_file}")
        login = self.login(base_url)
        stored = None
        if login is not None and not login.is_expired(datetime.now(UTC)):
            stored = Credential(login.token, f"the login of {login.email}")
        given = Credential(self.api_key, "WAVEGATE_API_KEY") if self.api_key else None
        return (stored or given) if as_person else (given or stored)

    def login(self, base_url: str) -> Login | None:
        """The stored login at this server, over or not."""
        stored = self._logins().get(base_url)
        try:
            return None if stored is None else Login(stored["token"], stored["expires_at"], stored["email"])
        except (KeyError, TypeError):
            return None

    def remember(self, base_url: str, login: Login, profile: str) -> None:
        """Store a login for this server, and the server under the profile's name."""
        logins = self._logins()
        logins[base_url] = {"token": login.token, "expires_at": login.expires_at, "email": login.email}
        self._write_private("credentials", json.dumps(logins, indent=2) + "\n")
        profiles = self._profiles()
        if profiles.get(profile) != base_url:
            profiles[profile] = base_url
            sections = (f"[profiles.{json.dumps(name)}]\nurl = {json.dumps(to)}\n" for name, to in profiles.items())
            self._write_private("config.toml", "\n".join(sections))

    def forget(self, base_url: str) -> bool:
        """Drop the stored login of this server; false when there was none."""
        logins = self._logins()
        if logins.pop(base_url, None) is None:
            return False
        self._write_private("credentials", json.dumps(logins, indent=2) + "\n")
        return True

    def _profiles(self) -> dict[str, str]:
        path = self.folder / "config.toml"
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageFault(f"{path} cannot be read: {error}", hint="mend or remove the file") from error
        profiles = told.get("profiles", {})
        if not isinstance(profiles, dict):
            raise UsageFault(f"{path}: profiles is no table of profiles", hint='write [profiles.default] url = "…"')
        found = {}
        for name, profile in profiles.items():
            if not isinstance(profile, dict) or not isinstance(profile.get("url"), str):
                raise UsageFault(f"{path}: profile {name!r} has no url", hint='write url = "https://…" below it')
            found[str(name)] = profile["url"]
        return found

    def _logins(self) -> dict[str, Any]:
        try:
            told = json.loads((self.folder / "credentials").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UsageFault(
                f"{self.folder / 'credentials'} cannot be read: it is no JSON", hint="remove it and log in again"
            ) from error
        return dict(told) if isinstance(told, Mapping) else {}

    def _write_private(self, name: str, text: str) -> None:
        """Replace a file at once, mode 0600 from its first byte on whatever the umask says."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.folder / f".{name}.{secrets.token_hex(8)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise


def checked_url(url: str) -> str:
    """The address without trailing slashes.

    Raises:
        UsageFault: It is not http or https, has no host, or carries a user name, query or fragment.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment:
        raise UsageFault(f"{url!r} is not the address of a server", hint="write it like https://wavegate.example.com")
    return url.rstrip("/")


def _read_key(path: str) -> str:
    try:
        if path == "-":
            text = sys.stdin.read(_MAX_KEY_FILE + 1)
        else:
            with open(path, encoding="ascii") as file:
                text = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise UsageFault(f"the API key file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path} holds no API key: it is no text") from error
    key = text.strip()
    if not key or len(text) > _MAX_KEY_FILE or any(character.isspace() for character in key):
        raise UsageFault(f"{path} holds no API key", hint="the file must hold the key alone, as it was shown once")
    return key
