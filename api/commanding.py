"""Joins the rooms for commands of devices: their rows, and the bytes of log bundles."""

from __future__ import annotations

from datetime import timedelta

from api.settings import Settings
from fleet.commanding import Commands, LogTerms
from fleet.ports import Fleet
from repo_signing.bucket import Bucket, BucketAddress
from store.commands import SqlCommands
from store.database import Database
from store.log_files import LogFiles


def commands_of(settings: Settings, fleet: Fleet, db: Database, address: BucketAddress) -> Commands:
    """Commands of all organisations; the bundles of each lie beside its repository, or in its part of the bucket."""
    buckets: dict[str, Bucket] = {}

    def bucket_of(org: str) -> Bucket | None:
        if settings.bucket and org not in buckets:
            buckets[org] = Bucket(address.below(org))
        return buckets.get(org)

    terms = LogTerms(
        most_bytes=settings.device_log_bytes,
        quota_bytes=settings.device_log_quota_bytes,
        kept=timedelta(days=settings.device_log_days),
    )
    files = LogFiles(lambda org: settings.storage / org / "logs", bucket_of)
    return Commands(fleet, SqlCommands(db), files, terms)
