"""Every setting of the server, read once at the door: ``WAVEGATE_*`` variables or a TOML file.

Nothing is ever read from the working directory.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from platformdirs import user_data_path

from api.oidc_settings import read_oidc
from api.setting_meanings import MEANINGS, RANGES
from evidence.federation import Wanted
from evidence.people import Role
from evidence.webhooks.addresses import Allowed


class InvalidSettings(ValueError):
    """A setting is unknown or its value cannot work; the message names it, what was found and what is expected."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSource:
    """Where a source is: the base of a Prometheus server, or the whole URL of a check. The token is read each time."""

    url: str
    bearer_token_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The server's settings; :data:`MEANINGS` says what each is for, in the words of the documentation."""

    home: Path
    database_url: str
    storage: Path
    listen: Address
    device_listen: Address
    public_url: str
    device_endpoint: str
    database_pool: int = 10
    database_overflow: int = 30
    database_wait_seconds: float = 10.0
    database_connect_seconds: int = 10
    database_statement_seconds: float = 60.0
    database_idle_seconds: float = 60.0
    database_pooler: bool = False
    http_threads: int = 16
    device_threads: int = 16
    device_connections_per_address: int = 0
    max_artifact_bytes: int = 64 * 1024**3
    max_body_bytes: int = 1024**2
    scheduler_seconds: float = 1.0
    lease_seconds: float = 10.0
    refresh_seconds: float = 60.0
    canary_seconds: float = 5.0
    canary_url: str = ""
    check_in_seconds: int = 300
    session_hours: int = 12
    session_idle_minutes: int = 60
    token_hours: int = 24
    certificate_days: int = 30
    device_ca_key: str = ""
    device_ca_pin_file: Path | None = None
    password_memory_kib: int = 65_536
    device_log_bytes: int = 64 * 1024**2
    device_log_quota_bytes: int = 10 * 1024**3
    device_log_days: int = 30
    log_level: str = "info"
    log_format: str = ""
    otlp_endpoint: str = ""
    otlp_percent: float = 100.0
    attestation_keys: Path = Path()
    bucket: str = ""
    storage_endpoint: str = ""
    storage_region: str = ""
    storage_virtual_host: bool = False
    storage_allow_http: bool = False
    target_downloads: str = "serve"
    metric_sources: Mapping[str, MetricSource] = field(default_factory=dict)
    webhook_allow: Allowed = field(default_factory=Allowed)
    oidc_allow: Allowed = field(default_factory=lambda: Allowed(setting="oidc_allow"))
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret_file: Path | None = None
    oidc_scopes: str = "openid email profile"
    oidc_email_domains: tuple[str, ...] = ()
    oidc_required_claim: Wanted | None = None
    oidc_roles: Mapping[Role, Wanted] = field(default_factory=dict)
    oidc_default_role: Role | None = None
    oidc_organization: str = ""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    rate_limit_store: str = "memory"
    rate_limit_reads: int = 12_000
    rate_limit_writes: int = 6_000
    rate_limit_uploads: int = 6_000
    rate_limit_logins: int = 120
    rate_limit_enrolments: int = 1_200
    rate_limit_anonymous: int = 1_200
    require_password_change: bool = False
    registration: str = "first"
    require_if_match: bool = False


BUCKETS: Final = ("s3", "gs", "az")

# Variables of this prefix that belong to the clients, the agent or the tests and may stand in the same environment, and
# those by which the server's first process tells the one that answers HTTP.
_OTHERS: Final = frozenset(
    {
        "URL",
        "API_KEY",
        "API_KEY_FILE",
        "ID_TOKEN",
        "AUDIENCE",
        "KEYRING",
        "CONFIG_DIR",
        "ROOT",
        "FILE",
        "ACTION",
        "CONFIG",
        "PROFILE",
        "DEBUG",
        "TALLIES",
    }
)
_OTHER_PREFIXES: Final = ("AGENT_", "TEST_", "DEMO_", "INSTALL_")


def read_settings(environ: Mapping[str, str] | None = None, config: Path | None = None) -> Settings:
    """Read the settings: a variable beats the file, the file beats the default.

    Args:
        environ: The environment; the process's own when None.
        config: A TOML file with the settings' names as top-level keys, e.g. ``listen = "0.0.0.0:8080"``.

    Raises:
        InvalidSettings: An unknown name, a value out of range, or an unreadable file.
    """
    environ = os.environ if environ is None else environ
    found = _from_file(config) if config is not None else {}
    for variable, value in environ.items():
        name = variable.removeprefix("WAVEGATE_")
        if name == variable or name in _OTHERS or name.startswith(_OTHER_PREFIXES):
            continue
        if name.lower() not in MEANINGS:
            raise InvalidSettings(f"{variable} is no setting; the settings are {', '.join(sorted(MEANINGS))}")
        found[name.lower()] = value
    return _build(found)


def _from_file(config: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = tomllib.loads(config.read_text("utf-8"))
    except OSError as error:
        raise InvalidSettings(f"the configuration file {config} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"the configuration file {config} is no TOML: {error}") from error
    for name in found:
        if name not in MEANINGS:
            raise InvalidSettings(f"{config}: {name!r} is no setting; the settings are {', '.join(sorted(MEANINGS))}")
    return found


def _build(found: Mapping[str, object]) -> Settings:
    home = Path(str(found["home"])) if "home" in found else user_data_path("wavegate")
    home = home.expanduser().absolute()
    listen = _address("listen", str(found.get("listen", "127.0.0.1:8080")))
    device_listen = _address("device_listen", str(found.get("device_listen", "127.0.0.1:8443")))
    plain: dict[str, object] = {}
    for one in fields(Settings):
        if one.name in RANGES and one.name in found:
            plain[one.name] = _number(one.name, found[one.name], whole=one.type == "int")
    level = str(found.get("log_level", "info")).lower()
    if level not in {"debug", "info", "warning", "error"}:
        raise InvalidSettings(f"log_level is {level!r}, expected debug, info, warning or error")
    database_url = str(found.get("database_url", f"sqlite:///{home / 'wavegate.db'}"))
    if not database_url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
        raise InvalidSettings("database_url is neither sqlite:///… nor postgresql://…")
    issuers_allowed = _allowed("oidc_allow", found.get("oidc_allow", ()))
    try:
        oidc = read_oidc(found, issuers_allowed)
    except ValueError as error:
        raise InvalidSettings(str(error)) from None
    storage, bucket = _storage(str(found.get("storage_url", (home / "orgs").as_uri())), home)
    return Settings(
        home=home,
        database_url=database_url,
        database_pooler=_flag("database_pooler", found.get("database_pooler", False)),
        storage=storage,
        bucket=bucket,
        storage_endpoint=_endpoint(str(found.get("storage_endpoint", "")), found.get("storage_allow_http", False)),
        storage_region=str(found.get("storage_region", "")),
        storage_virtual_host=_flag("storage_virtual_host", found.get("storage_virtual_host", False)),
        storage_allow_http=_flag("storage_allow_http", found.get("storage_allow_http", False)),
        target_downloads=_one_of("target_downloads", str(found.get("target_downloads", "serve")), "serve", "redirect"),
        listen=listen,
        device_listen=device_listen,
        public_url=_public_url(str(found.get("public_url", f"http://{listen}"))),
        device_endpoint=str(_address("device_endpoint", str(found.get("device_endpoint", device_listen)))),
        device_ca_key=str(found.get("device_ca_key", "")),
        device_ca_pin_file=_file_or_nothing("device_ca_pin_file", str(found.get("device_ca_pin_file", ""))),
        canary_url=_canary_url(str(found.get("canary_url", ""))),
        log_level=level,
        otlp_endpoint=_url_or_nothing("otlp_endpoint", str(found.get("otlp_endpoint", ""))),
        log_format=_log_format(str(found.get("log_format", ""))),
        attestation_keys=_folder(str(found.get("attestation_keys", home / "attestation-keys"))),
        metric_sources=_metric_sources(found.get("metric_sources", {})),
        rate_limit_store=_rate_limit_store(str(found.get("rate_limit_store", "memory")), database_url),
        webhook_allow=_allowed("webhook_allow", found.get("webhook_allow", ())),
        oidc_allow=issuers_allowed,
        trusted_proxies=_networks(found.get("trusted_proxies", "")),
        require_password_change=_flag("require_password_change", found.get("require_password_change", False)),
        registration=_one_of("registration", str(found.get("registration", "first")), "first", "open", "off"),
        **oidc,
        require_if_match=_flag("require_if_match", found.get("require_if_match", False)),
        **plain,  # type: ignore[arg-type]  # numbers by name, checked just above
    )


def _allowed(name: str, told: object) -> Allowed:
    entries = told.split(",") if isinstance(told, str) else told
    if not isinstance(entries, list | tuple) or not all(isinstance(one, str) for one in entries):
        raise InvalidSettings(f"{name} is no list of networks and host names")
    try:
        return Allowed.parse([one.strip() for one in entries if one.strip()], name)
    except ValueError as error:
        raise InvalidSettings(f"{name}: {error}") from None


def _metric_sources(told: object) -> dict[str, MetricSource]:
    try:
        sources = json.loads(told) if isinstance(told, str) else told
    except ValueError:
        raise InvalidSettings("metric_sources is no JSON; expected an object of names, each with a url") from None
    if not isinstance(sources, dict):
        raise InvalidSettings("metric_sources is no table; expected [metric_sources.NAME] with a url")
    return {name: _metric_source(name, one) for name, one in sources.items()}


def _metric_source(name: str, told: object) -> MetricSource:
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", name) is None:
        raise InvalidSettings(f"metric_sources has {name!r}, expected a name of 1 to 63 of a-z 0-9 . _ -")
    if not isinstance(told, dict) or not told.keys() <= {"url", "bearer_token_file"} or "url" not in told:
        raise InvalidSettings(f"metric_sources.{name} is to have a url, and perhaps a bearer_token_file")
    parts = urlsplit(str(told["url"]))
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
        raise InvalidSettings(f"metric_sources.{name}.url is not http(s)://host[:port]/… without credentials")
    token = told.get("bearer_token_file")
    if token is not None and not Path(str(token)).is_absolute():
        raise InvalidSettings(f"metric_sources.{name}.bearer_token_file is {token!r}, expected an absolute path")
    return MetricSource(url=str(told["url"]), bearer_token_file=None if token is None else Path(str(token)))


def _networks(told: object) -> tuple[IPv4Network | IPv6Network, ...]:
    entries = told if isinstance(told, list) else [one for one in str(told).split(",") if one.strip()]
    try:
        return tuple(ip_network(str(one).strip()) for one in entries)
    except ValueError as error:
        raise InvalidSettings(f"trusted_proxies: {error}; expected addresses or networks such as 10.0.0.0/8") from None


def _log_format(text: str) -> str:
    if text not in {"", "text", "json"}:
        raise InvalidSettings(f"log_format is {text!r}, expected text, json, or nothing")
    return text


def _rate_limit_store(told: str, database_url: str) -> str:
    if told == "database" and database_url.startswith("sqlite:"):
        raise InvalidSettings(
            "rate_limit_store is database, which needs PostgreSQL; with SQLite there is one server: use memory"
        )
    if told not in {"memory", "database"} and not told.startswith(("redis://", "rediss://")):
        # Never the value: a Redis URL has a password in it.
        raise InvalidSettings("rate_limit_store is neither memory, database, redis://… nor rediss://…")
    return told


def _folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.is_absolute():
        raise InvalidSettings(f"attestation_keys is {text!r}, expected an absolute path")
    return folder


def _file_or_nothing(name: str, text: str) -> Path | None:
    file = Path(text).expanduser() if text else None
    if file is not None and not file.is_absolute():
        raise InvalidSettings(f"{name} is {text!r}, expected an absolute path")
    return file


def _storage(url: str, home: Path) -> tuple[Path, str]:
    """The folder of the repositories, and the bucket that it is a copy of, if there is one."""
    parts = urlsplit(url)
    if parts.scheme in BUCKETS and parts.hostname and not (parts.query or parts.fragment or "@" in parts.netloc):
        return home / "orgs", url.rstrip("/")
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        # Never the whole: somebody may have put a secret into it.
        raise InvalidSettings(
            f"storage_url has the scheme {parts.scheme!r} or no place in it; expected file:///absolute/path, "
            "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, and credentials in the environment"
        )
    return Path(unquote(parts.path)), ""


def _endpoint(url: str, allow_http: object) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc):
        raise InvalidSettings("storage_endpoint is no http(s)://host[:port] without credentials")
    if parts.scheme == "http" and not _flag("storage_allow_http", allow_http):
        raise InvalidSettings("storage_endpoint is without TLS; if that is meant, set storage_allow_http = true")
    return url.rstrip("/")


def _flag(name: str, value: object) -> bool:
    text = str(value).lower()
    if text not in {"true", "false", "1", "0"}:
        raise InvalidSettings(f"{name} is {value!r}, expected true or false")
    return text in {"true", "1"}


def _one_of(name: str, value: str, *allowed: str) -> str:
    if value not in allowed:
        raise InvalidSettings(f"{name} is {value!r}, expected {' or '.join(allowed)}")
    return value


def _public_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise InvalidSettings(f"public_url is {url!r}, expected http://host[:port] or https://host[:port]")
    return url.rstrip("/")


def _canary_url(url: str) -> str:
    return url if url == "off" else _url_or_nothing("canary_url", url, more=", `off`")


def _url_or_nothing(name: str, url: str, more: str = "") -> str:
    parts = urlsplit(url)
    usable = parts.scheme in {"http", "https"} and parts.hostname and not (parts.query or parts.fragment)
    if url and (not usable or "@" in parts.netloc):
        # Never the whole: somebody may have put a secret into it.
        raise InvalidSettings(f"{name} is no http(s)://host[:port] without credentials{more}, or nothing")
    return url.rstrip("/")


def _address(name: str, text: str) -> Address:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise InvalidSettings(f"{name} is {text!r}, expected host:port such as 127.0.0.1:8080")
    return Address(host, int(port))


def _number(name: str, value: object, *, whole: bool) -> int | float:
    least, most = RANGES[name]
    try:
        number = int(str(value)) if whole else float(str(value))
    except ValueError:
        raise InvalidSettings(f"{name} is {value!r}, expected a {'whole ' if whole else ''}number") from None
    if not least <= number <= most:
        raise InvalidSettings(f"{name} is {value!r}, expected {least:g} to {most:g}")
    return number
