"""Bringing a server's copy up to what others committed: fetch what is missing, verify it, and only then show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from repo_signing import roles
from repo_signing.bucket import Bucket, Content
from repo_signing.commit import BURNED_FILE
from repo_signing.errors import RepositoryDamaged
from repo_signing.offline_drafts import OVERLAP_FILE
from repo_signing.paths import versioned_name
from repo_signing.role_cache import Role, RoleCache
from repo_signing.sheets import has_sheet, named_sheet, sheet_name
from repo_signing.storage import LocalStorage, read_or_none
from repo_signing.view import View, read_root, verified

_TIMESTAMP: Final = "metadata/timestamp.json"
_TRIES: Final = 3

Each = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]


class Following:
    """What is known of the bucket's changing objects. To be used by one thread of one process at a time.

    Args:
        folder: The copy.
        bucket: Of the repository.
        each: Does something with many objects at once.
        first_root: What ``1.root.json`` must be; None takes the one of the copy, or else the bucket's.
    """

    NOTES: Final = (BURNED_FILE, OVERLAP_FILE)

    def __init__(self, folder: Path, bucket: Bucket, each: Each, first_root: bytes | None) -> None:
        self._folder: Final = folder
        self._metadata: Final = folder / "metadata"
        self._bucket: Final = bucket
        self._each: Final = each
        self._first_root: Final = first_root
        self._disk: Final = LocalStorage()  # of the copy alone
        self._known: Final[dict[str, Content]] = {}

    def known(self, key: str) -> Content | None:
        """The last seen state of a changing object."""
        return self._known.get(key)

    def note(self, key: str, content: Content) -> None:
        """Remember a state that was just written; only of what is looked at again and again."""
        if key == _TIMESTAMP or key in self.NOTES:
            self._known[key] = content

    def forget(self, key: str) -> None:
        """What was remembered is not so any more."""
        self._known.pop(key, None)

    def bring_up(self) -> None:
        """Fetch roots, notes and the newest state; one request after another only when something changed.

        Raises:
            RepositoryDamaged: The bucket holds what was not signed, or a state before the copy's.
            OSError: The bucket or the disk failed.
        """
        for attempt in range(_TRIES):
            following_root = f"metadata/{self._newest_root() + 1}.root.json"
            keys = (_TIMESTAMP, *self.NOTES, following_root)
            found = dict(zip(keys, self._each(self._look, keys), strict=True))
            for name in self.NOTES:
                self._take_note(name, found[name])
            if found[following_root] is not None:
                self._fetch_roots()
            timestamp = found[_TIMESTAMP]
            if timestamp is None:
                return  # nothing there yet
            standing = read_or_none(self._metadata / "timestamp.json")
            if timestamp.raw == standing:
                self._known[_TIMESTAMP] = timestamp
                return
            try:
                self._fetch_state(timestamp.raw, standing)
            except RepositoryDamaged:
                # A collection may have taken an old state away while it was read; a newer one is there then.
                if attempt + 1 == _TRIES or self._look(_TIMESTAMP) == timestamp:
                    raise
                continue
            self._disk.replace(self._metadata / "timestamp.json", timestamp.raw, base=standing)
            self._known[_TIMESTAMP] = timestamp
            return

    @staticmethod
    def serial_of(timestamp: bytes) -> int:
        """The number that a timestamp file says; raises RepositoryDamaged."""
        try:
            return int(orjson.loads(timestamp)["signed"]["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise RepositoryDamaged(f"timestamp.json is garbled: {error!r}; restore it") from error

    def unreachable(self, names: Iterable[str], base: bytes, timestamp: bytes) -> list[str]:
        """Those of ``names`` that no client can ever be sent to, now that ``timestamp`` has replaced ``base``.

        What is above ``base`` had not become visible by then, and cannot any more: whoever wrote it started from a
        state that is gone. What is not above it may be another server's commit that did become visible meanwhile.
        """
        before, number = (
            self.serial_of(base),
            int(orjson.loads(timestamp)["signed"]["meta"]["snapshot.json"]["version"]),
        )
        raw = read_or_none(self._metadata / f"{number}.{roles.SNAPSHOT}.json")
        if raw is None:
            return []
        meta = orjson.loads(raw)["signed"]["meta"]
        named = {f"{number}.{roles.SNAPSHOT}.json", *(f"{row['version']}.{name}" for name, row in meta.items())}
        named |= {sheet_name(*one) for one in map(versioned_name, named) if one is not None}
        return [name for name in names if name not in named and (versioned_name(name) or (0, ""))[0] > before]

    def _look(self, key: str) -> Content | None:
        known = self._known.get(key)
        found = self._bucket.get(key, unless=None if known is None else known.mark)
        # Only the mark came back: it is as it was.
        return known if found is not None and known is not None and found.mark is known.mark else found

    def _take_note(self, name: str, found: Content | None) -> None:
        if found is None:
            return  # notes are never removed
        standing = read_or_none(self._folder / name)
        if found.raw != standing:
            self._disk.replace(self._folder / name, found.raw, base=standing)
        self._known[name] = found

    def _newest_root(self) -> int:
        named = (versioned_name(path.name) for path in self._metadata.glob(f"*.{roles.ROOT}.json"))
        return max((version for version, _ in filter(None, named)), default=0)

    def _fetch_roots(self) -> None:
        version = self._newest_root() + 1
        while (found := self._bucket.get(f"metadata/{version}.root.json")) is not None:
            if version == 1 and self._first_root is not None and found.raw != self._first_root:
                raise RepositoryDamaged(
                    f"the bucket {self._bucket.address.url} holds another repository than this home trusts: its first "
                    "root is not the home's root.json; check storage_url"
                )
            name = f"{version}.root.json"
            self._disk.create_once(self._metadata, {name: found.raw})
            try:
                read_root(self._metadata)
            except RepositoryDamaged:
                self._drop([name])
                raise
            version += 1

    def _fetch_state(self, timestamp: bytes, standing: bytes | None) -> None:
        root, root_bytes = read_root(self._metadata)
        body = verified(timestamp, root, roles.TIMESTAMP)
        if standing is not None and self.serial_of(timestamp) < self.serial_of(standing):
            raise RepositoryDamaged(
                f"the bucket {self._bucket.address.url} has serial {self.serial_of(timestamp)}, this server has "
                f"seen {self.serial_of(standing)}: an older copy was put there. Put the newer state back, or restore a "
                "backup"
            )
        number = int(body["meta"]["snapshot.json"]["version"])
        fetched = self._fetch([f"{number}.{roles.SNAPSHOT}.json"])
        try:
            raw = read_or_none(self._metadata / f"{number}.{roles.SNAPSHOT}.json") or b""
            snapshot = Role.of(roles.SNAPSHOT, verified(raw, root, roles.SNAPSHOT, number))
            named = [f"{int(row['version'])}.{name}" for name, row in snapshot.body["meta"].items()]
            fetched += self._fetch(named)
            fetched += self._fetch(list(self._sheets(fetched)))
            view = View(
                self._metadata,
                root,
                root_bytes,
                (timestamp, Role.of(roles.TIMESTAMP, body)),
                (raw, snapshot),
                RoleCache(),
            )
            new = set(fetched)
            for name in view.standing():
                if f"{view.versions[name]}.{name}.json" in new:
                    view.role(name)
        except RepositoryDamaged:
            self._drop(fetched)  # a name that was once taken wrong would stay so
            raise

    def _sheets(self, names: Iterable[str]) -> Iterator[str]:
        """The files of records that these roles name. What is garbled here is told when the role is verified."""
        for name in names:
            version, role = versioned_name(name) or (0, "")
            if has_sheet(role):
                with suppress(ValueError, KeyError, TypeError, AttributeError):
                    if named_sheet(orjson.loads(read_or_none(self._metadata / name) or b"")["signed"]) is not None:
                        yield sheet_name(version, role)

    def _fetch(self, names: list[str]) -> list[str]:
        missing = [name for name in names if not (self._metadata / name).is_file()]
        found = self._each(lambda name: self._bucket.get(f"metadata/{name}"), missing)
        lacking = [name for name, content in zip(missing, found, strict=True) if content is None]
        if lacking:
            raise RepositoryDamaged(f"{lacking[0]} is missing from the bucket; restore it from a backup or mirror")
        if missing:
            files = {name: content.raw for name, content in zip(missing, found, strict=True)}
            self._disk.create_once(self._metadata, files)
        return missing

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):
                self._disk.remove(self._metadata / name)
