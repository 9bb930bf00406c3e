"""One repository in a bucket, written by as many servers as a test wants, each with a copy of its own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from keys.keyring import Keyring, create_keyring
from repo_signing.bucket import Bucket, BucketAddress
from repo_signing.ceremony import create_repository
from repo_signing.ports import Lease, Projection
from repo_signing.repository import SignedRepository
from repo_signing.shared_storage import SharedStorage
from tests.simulators.projection import ProjectionSimulator


class OneTurn:
    """A lease without a database: one turn among the servers of this process; :meth:`run_out` ends it early."""

    seconds = 15.0

    def __init__(self) -> None:
        self._guard: Final = threading.Lock()
        self._token = 0
        self._held = False
        self.turns = 0

    def take(self) -> int | None:
        with self._guard:
            if self._held:
                return None
            self._token, self._held, self.turns = self._token + 1, True, self.turns + 1
            return self._token

    def renew(self, token: int) -> bool:
        with self._guard:
            return self._held and token == self._token

    def give_back(self, token: int) -> None:
        with self._guard:
            if token == self._token:
                self._held = False

    def run_out(self) -> None:
        """The holder stalled for longer than a turn lasts."""
        with self._guard:
            self._held = False


class BucketHome:
    """Keys, index and bucket of one organisation's repository; :meth:`server` is one more machine."""

    def __init__(self, folder: Path, address: BucketAddress, *, layout: str = "bins") -> None:
        self.folder: Final = folder
        self.address: Final = address
        self.now: Final = datetime.now(UTC)
        self.projection: Final = ProjectionSimulator()
        self.lease: Final = OneTurn()
        self._numbers: Final = itertools.count(1)
        folder.mkdir(parents=True)
        keyring = create_keyring(folder / "keys", folder / "offline-keys")
        self.root: Final = create_repository(
            self._copy("maker"), keyring, now=self.now, storage=self.storage("maker"), layout=layout
        )

    def storage(self, name: str, *, bucket: Bucket | None = None, lease: Lease | None = None) -> SharedStorage:
        """What a server of this name changes the bucket with."""
        return SharedStorage(self._copy(name), bucket or Bucket(self.address), lease or self.lease, first_root=None)

    def server(
        self,
        name: str | None = None,
        *,
        storage: SharedStorage | None = None,
        projection: Projection | None = None,
    ) -> SignedRepository:
        """A server; one without a name is new and begins with an empty disk."""
        named = name or f"server-{next(self._numbers)}"
        return SignedRepository(
            self._copy(named),
            Keyring(self.folder / "keys"),
            self.projection if projection is None else projection,
            storage=storage or self.storage(named),
        )

    def later(self, **span: float) -> datetime:
        return self.now + timedelta(**span)

    def objects(self) -> list[str]:
        """Every object below the repository's prefix."""
        return sorted(entry.key for entry in Bucket(self.address).list(""))

    def _copy(self, name: str) -> Path:
        place = self.folder / "servers" / name
        place.mkdir(parents=True, exist_ok=True)
        return place / "repository"


def empty(bucket: Bucket, keys: Iterable[str]) -> None:
    """Remove objects behind a repository's back."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bucket.remove, keys))


def settings_of(home: Path, database_url: str, address: BucketAddress, **more: str) -> dict[str, str]:
    """The environment of a server whose repository is in that bucket."""
    return {
        "WAVEGATE_HOME": str(home),
        "WAVEGATE_PASSWORD_MEMORY_KIB": "8192",
        "WAVEGATE_DATABASE_URL": database_url,
        "WAVEGATE_STORAGE_URL": address.url,
        "WAVEGATE_STORAGE_ENDPOINT": address.endpoint,
        "WAVEGATE_STORAGE_REGION": address.region,
        "WAVEGATE_STORAGE_ALLOW_HTTP": "true",
        **more,
    }
