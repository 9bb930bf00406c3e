"""What every setting means, in the words of the reference, and in which range a number may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from api.oidc_settings import OIDC_MEANINGS

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
    "device_connections_per_address": "connections to the device port from one address, those beyond are hung up on "
    "within seconds; 0, no limit, where many devices share an address or a proxy stands in front (0 to 100000; Linux)",
    "device_log_bytes": "largest log bundle taken from a device, in bytes (1024 to 1099511627776)",
    "device_log_quota_bytes": "bytes that all log bundles of an organisation may have together",
    "device_log_days": "days a log bundle is kept (1 to 3650)",
    "max_artifact_bytes": "largest artifact accepted, in bytes",
    "max_body_bytes": "largest JSON body accepted, in bytes",
    "scheduler_seconds": "seconds between two looks at the rollouts (0.05 to 3600)",
    "lease_seconds": "seconds after which another server moves the rollouts of one that stopped (2 to 3600)",
    "refresh_seconds": "seconds between two looks at what must be re-signed (1 to 3600)",
    "canary_seconds": "seconds between two looks whether the canary has a new state to read (0.2 to 3600)",
    "canary_url": "URL where the canary reads the repository; empty: `public_url`; `off`: no canary",
    "device_ca_key": "address of the key that the device CA of a new home signs with, such as `hsm:2?label=ca`; "
    "empty: an encrypted file in the home",
    "device_ca_pin_file": "file with the PIN of the token that holds that key; read once, when the home is made",
    "check_in_seconds": "seconds a device waits between two heartbeats (1 to 86400)",
    "session_hours": "hours after which a console session ends (1 to 720)",
    "session_idle_minutes": "minutes without a request after which a console session ends (1 to 43200)",
    "token_hours": "hours a login token lasts (1 to 24)",
    "certificate_days": "days a device certificate lasts (1 to 398)",
    "password_memory_kib": "memory of one password hash (argon2id), in KiB (8192 to 1048576)",
    "require_password_change": "`true`: a login with a one-time password may do nothing but change it",
    "registration": "who may register an organisation: `first`: whoever has the setup code of a home without one; "
    "`open`: anybody, further ones too; `off`: nobody",
    "require_if_match": "`true`: a PATCH or DELETE without `If-Match` is refused",
    "trusted_proxies": "addresses or networks (CIDR) of proxies whose `X-Forwarded-For` and `X-Request-Id` are "
    "believed, with commas; empty: nobody's",
    "rate_limit_store": "where requests are counted: `memory` (each server for itself), `database` (PostgreSQL), or "
    "`redis://…`, `rediss://…`",
    "rate_limit_reads": "GET requests a minute of one credential; 0: no limit, here and below",
    "rate_limit_writes": "other requests a minute of one credential",
    "rate_limit_uploads": "uploads, or pieces of them, a minute of one credential",
    "rate_limit_logins": "logins a minute from one address",
    "rate_limit_enrolments": "enrolments of devices a minute from one address",
    "rate_limit_anonymous": "requests a minute from one address without a credential that counts",
    "log_level": "`debug`, `info`, `warning` or `error`",
    "log_format": "`text` or `json`, a line an event; empty: text on a terminal, else JSON",
    "otlp_endpoint": "URL of an OpenTelemetry collector (OTLP over HTTP, such as `http://127.0.0.1:4318`) that gets "
    "traces; empty: none. Needs the extra `otel`",
    "otlp_percent": "share of requests, device calls and jobs that are traced (0 to 100)",
    "attestation_keys": "folder of public keys (`*.pem`, `*.pub`) and `sigstore.toml` to verify attestations with",
    "metric_sources": "where gates may measure: a table of names, each with `url` and perhaps "
    "`bearer_token_file`; as a variable, JSON",
    "webhook_allow": "networks (`10.0.0.0/8`) and hosts that webhooks may reach although they are private, with or "
    "without TLS: a list; as a variable, with commas between",
    "oidc_allow": "networks and hosts, as in `webhook_allow`, where issuers of identity tokens may be although they "
    "are private",
    **OIDC_MEANINGS,
}

RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "database_pool": (1, 200),
    "database_overflow": (0, 500),
    "database_wait_seconds": (0.1, 60),
    "database_connect_seconds": (2, 60),
    "database_statement_seconds": (1, 3600),
    "database_idle_seconds": (1, 3600),
    "http_threads": (1, 512),
    "device_threads": (1, 512),
    "device_connections_per_address": (0, 100_000),
    "device_log_bytes": (1024, 2**40),
    "device_log_quota_bytes": (1024, 2**50),
    "device_log_days": (1, 3650),
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
    "rate_limit_reads": (0, 10**9),
    "rate_limit_writes": (0, 10**9),
    "rate_limit_uploads": (0, 10**9),
    "rate_limit_logins": (0, 10**9),
    "rate_limit_enrolments": (0, 10**9),
    "rate_limit_anonymous": (0, 10**9),
    "otlp_percent": (0, 100),
}
