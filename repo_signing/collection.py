"""Collecting what no client can ask for any more: mark from every snapshot that may still be held, then sweep.

A client that was away comes back with the snapshot of its last poll in hand, or is in the middle of a poll. So kept are
the ten newest snapshots, and each that was current at some moment of the last seven days, longer than any timestamp
lives; with them every role version and blob they name. Roots are kept for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from evidence.model import Actor, AuditEvent
from repo_signing import roles
from repo_signing.blobs import Blobs
from repo_signing.commit import Committer
from repo_signing.draft_box import DraftBox
from repo_signing.errors import CommitFailed, RepositoryDamaged
from repo_signing.paths import is_sha256, versioned_name
from repo_signing.quarantine import Quarantine
from repo_signing.sheets import sheet_name
from repo_signing.storage import LocalStorage, Stored
from repo_signing.view import View

KEPT_FOR: Final = timedelta(days=7)  # three times a timestamp's life; also a week for a mirror to follow
KEPT_VERSIONS: Final = 10
# An upload is named among the blobs shortly before it is signed, and waits at most a day for that.
BLOB_GRACE: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection took away, or would take: names of metadata files, digests, and bytes in all."""

    metadata: tuple[str, ...]
    blobs: tuple[str, ...]
    quarantined: tuple[str, ...]
    freed: int
    dry_run: bool

    def is_empty(self) -> bool:
        """Say whether there was nothing to take."""
        return not (self.metadata or self.blobs or self.quarantined)


class Sweep:
    """One collection. :meth:`mark` may run ahead without the lock, :meth:`sweep` runs under it.

    Args:
        committer: Whose folder is collected.
        blobs: Of the same folder.
        quarantine: Of the same folder.
        needed: Digests of blobs that stay although nothing signed may name them.
        now: Ages count from here.
    """

    def __init__(
        self, committer: Committer, blobs: Blobs, quarantine: Quarantine, *, needed: Collection[str], now: datetime
    ) -> None:
        self._metadata: Final = committer.metadata
        self._committer: Final = committer
        self._storage: Final[LocalStorage] = committer.storage
        self._blobs: Final = blobs
        self._quarantine: Final = quarantine
        self._needed: Final = frozenset(needed)
        self._now: Final = now
        self._named: Final[dict[str, frozenset[str]]] = {}  # digests by role file; those files never change

    def mark(self) -> tuple[set[str], set[str]]:
        """Names of metadata files and digests of blobs that stay; raises RepositoryDamaged, CommitFailed."""
        with _reading():
            return self._mark()

    def _mark(self) -> tuple[set[str], set[str]]:
        view = self._committer.view()
        files: set[str] = set()
        for version, snapshot in self._kept_snapshots(view):
            files.add(f"{version}.{roles.SNAPSHOT}.json")
            files.update(f"{meta['version']}.{name}" for name, meta in snapshot["meta"].items())
        files.update(f"{number}.{name}.json" for name, number in view.versions.items())
        # What waits for signatures may be signed any day.
        blobs = DraftBox(self._metadata.parent, self._storage).named_blobs() | self._needed
        for name in files:
            if not name.endswith(f".{roles.SNAPSHOT}.json"):
                blobs |= self._targets_of(name)
        sheets = {sheet_name(*named) for named in map(versioned_name, files) if named is not None}
        return files | sheets, blobs

    def sweep(self, *, dry_run: bool) -> Collected:
        """Take away what is not marked. To be called under the lock; raises RepositoryDamaged, CommitFailed.

        Snapshots go before the roles they name, so a snapshot that is there has all its roles, whenever this is cut
        short; the next collection goes on where this one ended.
        """
        files, named = self.mark()
        with _reading():
            metadata = sorted(
                self._swept_metadata(files), key=lambda one: (versioned_name(one.path.name) or (0, ""))[::-1]
            )
            metadata.sort(key=lambda one: not one.path.name.endswith(f".{roles.SNAPSHOT}.json"))
            blobs = list(self._swept_blobs(named))
            aside = self._quarantine.overdue(self._now)
        freed = sum(one.length for one in (*metadata, *blobs, *aside))
        if not dry_run:
            try:
                for one in (*metadata, *blobs, *aside):
                    self._storage.remove(one.path)
            except OSError as error:
                raise CommitFailed(f"the collection was cut short: {error.strerror}; run it again") from error
        return Collected(
            metadata=tuple(one.path.name for one in metadata),
            blobs=tuple(one.path.name for one in blobs),
            quarantined=tuple(one.path.name for one in aside),
            freed=freed,
            dry_run=dry_run,
        )

    def _kept_snapshots(self, view: View) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Newest first. A snapshot was current until the next one was signed."""
        versions = sorted(
            (named[0] for named in self._versioned() if named[1] == roles.SNAPSHOT and named[0] <= view.serial),
            reverse=True,
        )
        # An index that is behind is brought up by what changed since its own state.
        projected = self._committer.projected_serial()
        known = next((version for version in versions if version <= projected), 0)
        replaced_at: datetime | None = None
        for place, version in enumerate(versions):
            body = self._body(f"{version}.{roles.SNAPSHOT}.json")
            if place < KEPT_VERSIONS or replaced_at is None or self._now - replaced_at <= KEPT_FOR:
                yield version, body
            elif version == known:
                yield version, body
                return
            elif version < known:
                return  # all older ones were replaced earlier
            replaced_at = roles.time_in(body["expires"]) - roles.SNAPSHOT_LIFE

    def _swept_metadata(self, kept: set[str]) -> Iterator[Stored]:
        serial = self._committer.view().serial
        for one in self._storage.listing(self._metadata):
            named = versioned_name(one.path.name)
            # What is above the serial is a crashed commit's; recovery burns its number before it removes it.
            if named is not None and named[1] != roles.ROOT and named[0] <= serial and one.path.name not in kept:
                yield one

    def _swept_blobs(self, named: set[str]) -> Iterator[Stored]:
        for one in self._blobs.all():
            if is_sha256(one.path.name) and one.path.name not in named and self._now - one.changed > BLOB_GRACE:
                yield one

    def _targets_of(self, name: str) -> frozenset[str]:
        found = self._named.get(name)
        if found is None:
            targets = self._body(name)["targets"].values()
            found = self._named[name] = frozenset(entry["hashes"]["sha256"] for entry in targets)
        return found

    def _versioned(self) -> Iterator[tuple[int, str]]:
        for one in self._storage.listing(self._metadata):
            named = versioned_name(one.path.name)
            if named is not None:
                yield named

    def _body(self, name: str) -> Mapping[str, Any]:
        content = self._storage.read(self._metadata / name)
        try:
            if content is None:
                raise ValueError("it is missing")
            body: Mapping[str, Any] = orjson.loads(content)["signed"]
        except (ValueError, KeyError, TypeError) as error:
            # Who cannot read what is named must not take away what is not.
            raise RepositoryDamaged(f"{name} cannot be read ({error}); nothing was collected, run a check") from error
        return body


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommitFailed(
            f"the repository's folders could not be read: {error.strerror or error}; nothing was collected, try again"
        ) from error


def collected(outcome: Collected, subject: str, by: Actor, now: datetime) -> AuditEvent:
    """The event of a collection."""
    told: dict[str, object] = {
        "metadata": len(outcome.metadata),
        "blobs": len(outcome.blobs),
        "quarantined": list(outcome.quarantined),
        "freed": outcome.freed,
    }
    return AuditEvent("repository.collected", subject, by, now, told)
