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
    password_memory_kib: int = 65_536
    log_level: str = "info"
    attestation_keys: Path = Path()
    bucket: str = ""
    storage_endpoint: str = ""
    storage_region: str = ""
    storage_virtual_host: bool = False
    storage_allow_http: bool = False
    target_downloads: str = "serve"
    metric_sources: Mapping[str, MetricSource] = field(default_factory=dict)
    webhook_allow: Allowed = field(default_factory=Allowed)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    require_password_change: bool = False


MEANINGS: Final[Mapping[str, str]] = {
    "home": "folder of the server's data: database, repository, keys, device CA",
    "database_url": "`sqlite:///…` (default: `wavegate.db` in the home) or `postgresql://…`",
    "database_pool": "connections that each process keeps open to the database (1 to 200)",
    "database_overflow": "connections opened beside them when all are in use (0 to 500)",
    "database_wait_seconds": "seconds a request waits for a free connection before it is answered 503 (0.1 to 60)",
    "database_connect_seconds": "seconds PostgreSQL may take to accept a connection (2 to 60)",
    "database_statement_seconds": "seconds one statement may take on PostgreSQL, but for migrations (1 to 3600)",
    "database_idle_seconds": "seconds after which PostgreSQL ends a transaction in which nothing happens (1 to 3600)",
    "database_pooler": "`true`: a pooler such as PgBouncer gives a connection for one transaction at a time",
    "storage_url": "where the signed repository lives: `file:///…` (default: `orgs` in the home), "
    "`s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`",
    "storage_endpoint": "URL of an object store that is not the provider's own; empty: the provider's",
    "storage_region": "region of the bucket (S3); empty: as `AWS_REGION` says",
    "storage_virtual_host": "`true`: name the bucket in the host, not in the path (S3)",
    "storage_allow_http": "`true`: permit an object store without TLS, for tests",
    "target_downloads": "large targets of a bucket: `serve` hands them on, `redirect` sends clients to the bucket "
    "by a URL of 15 minutes",
    "listen": "address of the REST API and the repository, `host:port`; port 0 picks a free one",
    "device_listen": "address of device gRPC (mTLS), `host:port`",
    "public_url": "URL under which clients and devices reach the API and the repository",
    "device_endpoint": "`host:port` under which devices reach device gRPC; its host is in the server certificate",
    "http_threads": "requests served at once (1 to 512)",
    "device_threads": "device calls served at once (1 to 512)",
    "max_artifact_bytes": "largest artifact accepted, in bytes",
    "max_body_bytes": "largest JSON body accepted, in bytes",
    "scheduler_seconds": "seconds between two looks at the rollouts (0.05 to 3600)",
    "lease_seconds": "seconds after which another server moves the rollouts of one that stopped (2 to 3600)",
    "refresh_seconds": "seconds between two looks at what must be re-signed (1 to 3600)",
    "canary_seconds": "seconds between two looks whether the canary has a new state to read (0.2 to 3600)",
    "canary_url": "URL where the canary reads the repository; empty: `public_url`; `off`: no canary",
    "check_in_seconds": "seconds a device waits between two heartbeats (1 to 86400)",
    "session_hours": "hours after which a console session ends (1 to 720)",
    "session_idle_minutes": "minutes without a request after which a console session ends (1 to 43200)",
    "token_hours": "hours a login token lasts (1 to 24)",
    "certificate_days": "days a device certificate lasts (1 to 398)",
    "password_memory_kib": "memory of one password hash (argon2id), in KiB (8192 to 1048576)",
    "require_password_change": "`true`: a login with a one-time password may do nothing but change it",
    "trusted_proxies": "addresses or networks (CIDR) of proxies whose `X-Forwarded-For` is believed, with commas; "
    "empty: nobody's",
    "log_level": "`debug`, `info`, `warning` or `error`",
    "attestation_keys": "folder of public keys (`*.pem`, `*.pub`) and `sigstore.toml` to verify attestations with",
    "metric_sources": "where gates may measure: a table of names, each with `url` and perhaps "
    "`bearer_token_file`; as a variable, JSON",
    "webhook_allow": "networks (`10.0.0.0/8`) and hosts that webhooks may reach although they are private, with or "
    "without TLS: a list; as a variable, with commas between",
}

_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "database_pool": (1, 200),
    "database_overflow": (0, 500),
    "database_wait_seconds": (0.1, 60),
    "database_connect_seconds": (2, 60),
    "database_statement_seconds": (1, 3600),
    "database_idle_seconds": (1, 3600),
    "http_threads": (1, 512),
    "device_threads": (1, 512),
    "max_artifact_bytes": (1, 2**50),
    "max_body_bytes": (1024, 2**30),
    "scheduler_seconds": (0.05, 3600),
    "lease_seconds": (2, 3600),
    "refresh_seconds": (1, 3600),
    "canary_seconds": (0.2, 3600),
    "check_in_seconds": (1, 86_400),
    "session_hours": (1, 720),
    "session_idle_minutes": (1, 43_200),
    "token_hours": (1, 24),
    "certificate_days": (1, 398),
    "password_memory_kib": (8192, 1_048_576),
}

BUCKETS: Final = ("s3", "gs", "az")

# Variables of this prefix that belong to the clients, the agent or the tests and may stand in the same environment.
_OTHERS: Final = frozenset(
    {"URL", "API_KEY", "API_KEY_FILE", "CONFIG_DIR", "ROOT", "FILE", "ACTION", "CONFIG", "PROFILE"}
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
        if one.name in _RANGES and one.name in found:
            plain[one.name] = _number(one.name, found[one.name], whole=one.type == "int")
    level = str(found.get("log_level", "info")).lower()
    if level not in {"debug", "info", "warning", "error"}:
        raise InvalidSettings(f"log_level is {level!r}, expected debug, info, warning or error")
    database_url = str(found.get("database_url", f"sqlite:///{home / 'wavegate.db'}"))
    if not database_url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
        raise InvalidSettings("database_url is neither sqlite:///… nor postgresql://…")
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
        canary_url=_canary_url(str(found.get("canary_url", ""))),
        log_level=level,
        attestation_keys=_folder(str(found.get("attestation_keys", home / "attestation-keys"))),
        metric_sources=_metric_sources(found.get("metric_sources", {})),
        webhook_allow=_webhook_allow(found.get("webhook_allow", ())),
        trusted_proxies=_networks(found.get("trusted_proxies", "")),
        require_password_change=_flag("require_password_change", found.get("require_password_change", False)),
        **plain,  # type: ignore[arg-type]  # numbers by name, checked just above
    )


def _webhook_allow(told: object) -> Allowed:
    entries = told.split(",") if isinstance(told, str) else told
    if not isinstance(entries, list | tuple) or not all(isinstance(one, str) for one in entries):
        raise InvalidSettings("webhook_allow is no list of networks and host names")
    try:
        return Allowed.parse([one.strip() for one in entries if one.strip()])
    except ValueError as error:
        raise InvalidSettings(f"webhook_allow: {error}") from None


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


def _folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.is_absolute():
        raise InvalidSettings(f"attestation_keys is {text!r}, expected an absolute path")
    return folder


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
    if url in ("", "off"):
        return url
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise InvalidSettings(f"canary_url is {url!r}, expected http(s)://host[:port], `off`, or nothing")
    return url.rstrip("/")


def _address(name: str, text: str) -> Address:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise InvalidSettings(f"{name} is {text!r}, expected host:port such as 127.0.0.1:8080")
    return Address(host, int(port))


def _number(name: str, value: object, *, whole: bool) -> int | float:
    least, most = _RANGES[name]
    try:
        number = int(str(value)) if whole else float(str(value))
    except ValueError:
        raise InvalidSettings(f"{name} is {value!r}, expected a {'whole ' if whole else ''}number") from None
    if not least <= number <= most:
        raise InvalidSettings(f"{name} is {value!r}, expected {least:g} to {most:g}")
    return number
