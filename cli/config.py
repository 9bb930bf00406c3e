"""What `publish` remembers between calls: servers and persons by name, and who is logged in where.

Two files in the person's configuration folder (``WAVEGATE_CONFIG_DIR``, else the platform's, e.g.
``~/.config/wavegate``): ``config.toml`` holds ``[profiles.<name>]`` with a ``url`` and the ``email`` of who logged in
there last, and ``current``, the profile that is used unnamed; ``credentials``, mode 0600, maps a server's address, with
``#<profile>`` behind it, to the login made there, so that no token is ever sent to another server. Its token is in
there, too, unless the system's keyring took it.
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

from cli import token_store
from cli.errors import UsageFault

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_PROFILE: Final = "default"
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
class Profile:
    """A server remembered under a name, and the e-mail address of who logged in there last."""

    url: str
    email: str | None


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

    def profile_name(self, named: str | None) -> str:
        """The profile that a call is about: the one it names, else the one chosen by `publish profile use`."""
        return named or self._read()[0] or DEFAULT_PROFILE

    def base_url(self, url: str | None, profile: str | None) -> str:
        """Address of the server without a trailing slash.

        Args:
            url: What the call said; goes before the profile.
            profile: Name of a remembered server, None for the current one. Only ``default`` may be unknown: then it is
                this machine.

        Raises:
            UsageFault: The address is no http(s) URL, or the profile does not exist.
        """
        if url is None:
            profiles, name = self.profiles(), self.profile_name(profile)
            if name in profiles:
                url = profiles[name].url
            elif name == DEFAULT_PROFILE:
                url = DEFAULT_URL
            else:
                raise _no_profile(name, profiles)
        return checked_url(url)

    def credential(
        self, base_url: str, *, api_key_file: str | None, as_person: bool, profile: str | None = None
    ) -> Credential | None:
        """What to prove oneself with at this server.

        A key file named in the call goes first, then ``WAVEGATE_API_KEY``, then the stored login; for what only
        a person may do, the stored login goes before ``WAVEGATE_API_KEY``.
        """
        if api_key_file is not None:
            return Credential(_read_key(api_key_file), f"the key in {api_key_file}")
        login = self.login(base_url, profile)
        stored = None
        if login is not None and not login.is_expired(datetime.now(UTC)):
            stored = Credential(login.token, f"the login of {login.email}")
        given = Credential(self.api_key, "WAVEGATE_API_KEY") if self.api_key else None
        return (stored or given) if as_person else (given or stored)

    def login(self, base_url: str, profile: str | None = None) -> Login | None:
        """The stored login at this server, over or not.

        Without a profile named it is the current profile's, else the only one there is at this server.
        """
        logins = self._logins()
        name = self._entry(logins, base_url, profile)
        try:
            stored = logins[name]
            token = token_store.get(name) if stored.get("in_keyring") else stored["token"]
            return None if token is None else Login(token, stored["expires_at"], stored["email"])
        except (KeyError, TypeError, AttributeError):
            return None

    def remember(self, base_url: str, login: Login, profile: str) -> None:
        """Store a login for this server, and the server and the person under the profile's name."""
        logins, name = self._logins(), _entry_name(base_url, profile)
        kept = {"expires_at": login.expires_at, "email": login.email}
        logins[name] = (
            {"in_keyring": True, **kept} if token_store.put(name, login.token) else {"token": login.token, **kept}
        )
        self._write_private("credentials", json.dumps(logins, indent=2) + "\n")
        current, profiles = self._read()
        profiles[profile] = Profile(base_url, login.email)
        self._write(current, profiles)

    def forget(self, base_url: str, profile: str | None = None) -> bool:
        """Drop the stored login of this server; false when there was none."""
        logins = self._logins()
        name = self._entry(logins, base_url, profile)
        found = logins.pop(name, None)
        if found is None:
            return False
        if isinstance(found, dict) and found.get("in_keyring"):
            token_store.drop(name)
        self._write_private("credentials", json.dumps(logins, indent=2) + "\n")
        return True

    def profiles(self) -> dict[str, Profile]:
        """All profiles by name."""
        return self._read()[1]

    def use(self, profile: str) -> Profile:
        """Make a profile the one that is used unnamed; raises UsageFault when it does not exist."""
        _, profiles = self._read()
        if profile not in profiles and profile != DEFAULT_PROFILE:
            raise _no_profile(profile, profiles)
        self._write(profile, profiles)
        return profiles.get(profile, Profile(DEFAULT_URL, None))

    def remove(self, profile: str) -> Profile:
        """Forget a profile with its login; raises UsageFault when it does not exist."""
        current, profiles = self._read()
        if profile not in profiles:
            raise _no_profile(profile, profiles)
        gone = profiles.pop(profile)
        self.forget(checked_url(gone.url), profile)
        self._write(None if current == profile else current, profiles)
        return gone

    def _entry(self, logins: Mapping[str, Any], base_url: str, profile: str | None) -> str:
        name = _entry_name(base_url, self.profile_name(profile))
        if profile is None and name not in logins:
            others = [one for one in logins if one == base_url or one.startswith(f"{base_url}#")]
            if len(others) == 1:
                return others[0]
        return name

    def _write(self, current: str | None, profiles: Mapping[str, Profile]) -> None:
        chosen = [f"current = {json.dumps(current)}\n"] if current else []
        sections = [
            f"[profiles.{json.dumps(name)}]\nurl = {json.dumps(one.url)}\n"
            + (f"email = {json.dumps(one.email)}\n" if one.email else "")
            for name, one in profiles.items()
        ]
        text = "\n".join(chosen + sections)
        if text != self._text():
            self._write_private("config.toml", text)

    def _text(self) -> str:
        try:
            return (self.folder / "config.toml").read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _read(self) -> tuple[str | None, dict[str, Profile]]:
        """The current profile, if one was chosen, and all of them."""
        path = self.folder / "config.toml"
        try:
            told = tomllib.loads(self._text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageFault(f"{path} cannot be read: {error}", hint="mend or remove the file") from error
        profiles, current = told.get("profiles", {}), told.get("current")
        if not isinstance(profiles, dict):
            raise UsageFault(f"{path}: profiles is no table of profiles", hint='write [profiles.default] url = "…"')
        found = {}
        for name, profile in profiles.items():
            if not isinstance(profile, dict) or not isinstance(profile.get("url"), str):
                raise UsageFault(f"{path}: profile {name!r} has no url", hint='write url = "https://…" below it')
            email = profile.get("email")
            found[str(name)] = Profile(profile["url"], email if isinstance(email, str) else None)
        return (current if isinstance(current, str) and current else None), found

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


def _entry_name(base_url: str, profile: str) -> str:
    # An address has no fragment, so nothing else is called this.
    return base_url if profile == DEFAULT_PROFILE else f"{base_url}#{profile}"


def _no_profile(name: str, profiles: Mapping[str, Profile]) -> UsageFault:
    known = ", ".join(sorted(profiles)) or "none"
    return UsageFault(
        f"there is no profile {name!r} (known: {known})",
        hint=f"make it with `publish login --profile {name} --url URL`",
    )


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
