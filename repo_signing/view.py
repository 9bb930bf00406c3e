"""One state of the repository as it is on disk, read through its signatures.

Nothing is taken from disk unverified: what a commit carries over from an older role version it signs again, and must
not lend its signature to what somebody put there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import orjson
from securesystemslib.signer import Signature
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Root, Targets

from repo_signing import roles
from repo_signing.canonical import encode
from repo_signing.errors import NoRepository, RepositoryDamaged
from repo_signing.model import ArtifactRecord
from repo_signing.paths import versioned_name
from repo_signing.records import Entry, is_record, read_artifact
from repo_signing.role_cache import Role, RoleCache, RoleFacts
from repo_signing.sheets import has_sheet, joined, named_sheet, sheet_name
from repo_signing.storage import read_or_none


class View:
    """The state that one ``timestamp.json`` names. Roles are read when first asked for; versioned files never change,
    so a view stays whole while others commit.
    """

    def __init__(
        self,
        metadata: Path,
        root: Root,
        root_bytes: bytes,
        timestamp: tuple[bytes, Role],
        snapshot: tuple[bytes, Role],
        cache: RoleCache,
        versions: Mapping[str, int] | None = None,
    ) -> None:
        self._metadata: Final = metadata
        self.root: Final = root
        self.root_bytes: Final = root_bytes
        self.root_body: Final[Mapping[str, Any]] = orjson.loads(root_bytes)["signed"]
        self.timestamp_bytes, self.timestamp = timestamp
        self.snapshot_bytes, self.snapshot = snapshot
        self.versions: Final[Mapping[str, int]] = versions or {
            name.removesuffix(".json"): int(meta["version"]) for name, meta in self.snapshot.body["meta"].items()
        }
        # The number of this state: the highest version of anything in it.
        self.serial: Final = max(self.timestamp.version, self.snapshot.version, *self.versions.values())
        self._cache: Final = cache
        self._delegators: Final[dict[str, Root | Targets]] = {}

    @classmethod
    def load(cls, metadata: Path, previous: View | None = None) -> View:
        """Read the current state from a metadata folder, keeping what ``previous`` has of it.

        Raises:
            NoRepository: There is no ``timestamp.json``.
            RepositoryDamaged: A file is missing, garbled, or not signed by the keys it should be.
        """
        timestamp_bytes = read_or_none(metadata / "timestamp.json")
        if timestamp_bytes is None:
            raise NoRepository(f"no signed repository in {metadata}; `publish init` makes one")
        # A new root comes after the timestamp of its commit, so the timestamp alone does not tell of it.
        if previous is None or (metadata / f"{previous.root.version + 1}.root.json").exists():
            root, root_bytes = read_root(metadata)
        elif previous.timestamp_bytes == timestamp_bytes:
            return previous
        else:
            root, root_bytes = previous.root, previous.root_bytes
        timestamp = Role.of(roles.TIMESTAMP, verified(timestamp_bytes, root, roles.TIMESTAMP))
        try:
            number = int(timestamp.body["meta"]["snapshot.json"]["version"])
        except (KeyError, TypeError, ValueError) as error:
            raise RepositoryDamaged(f"timestamp.json names no snapshot: {error!r}") from error
        snapshot_bytes = _read(metadata / f"{number}.snapshot.json")
        snapshot = Role.of(roles.SNAPSHOT, verified(snapshot_bytes, root, roles.SNAPSHOT, number))
        cache = RoleCache() if previous is None else previous._cache
        return cls(metadata, root, root_bytes, (timestamp_bytes, timestamp), (snapshot_bytes, snapshot), cache)

    def after(
        self,
        timestamp: tuple[bytes, Role],
        snapshot: tuple[bytes, Role],
        versions: Mapping[str, int],
        changed: Mapping[str, tuple[Role, int]],
        facts: Mapping[str, RoleFacts],
        root: bytes | None = None,
    ) -> View:
        """The state after a commit that this process made and verified.

        Args:
            versions: Of all roles of the snapshot.
            changed: Roles signed in it, with the lengths of their files.
            facts: Of those whose content was not kept.
            root: The new one, if there is one.
        """
        for role, length in changed.values():
            self._cache.put(role, length)
        for name, one in facts.items():
            self._cache.put_facts(name, one)
        trusted = self.root if root is None else _as_root(root, self.root, self.root.version + 1)
        root_bytes = self.root_bytes if root is None else root
        return View(self._metadata, trusted, root_bytes, timestamp, snapshot, self._cache, versions)

    @property
    def committed_at(self) -> datetime:
        """When the last commit was made, to the second."""
        return roles.signed_at(self.timestamp.expires)

    @property
    def root_sha256(self) -> str:
        """Digest of the current root file."""
        return hashlib.sha256(self.root_bytes).hexdigest()

    def role(self, name: str) -> Role:
        """A role below snapshot; raises RepositoryDamaged when its file is not what the snapshot names."""
        if name == roles.TIMESTAMP:
            return self.timestamp
        if name == roles.SNAPSHOT:
            return self.snapshot
        found = self._cache.role(name, self.versions.get(name, 0))
        if found is None:
            raw = self.raw(name)
            body = verified(raw, self.delegator(roles.delegator(name)), name, self.versions[name])
            length = len(raw)
            if named_sheet(body) is not None:
                sheet = _read(self._metadata / sheet_name(self.versions[name], name))
                body, length = joined(body, sheet), length + len(sheet)
            found = Role.of(name, body)
            self._cache.put(found, length)
        return found

    def facts(self, name: str) -> RoleFacts:
        """Version, expiry and numbers of targets of a role; reads it when it was never read before."""
        found = self._cache.facts(name, self.versions[name])
        return RoleFacts.of(self.role(name)) if found is None else found

    def raw(self, name: str) -> bytes:
        """The file of a role below snapshot, as it is on disk."""
        try:
            return _read(self._metadata / f"{self.versions[name]}.{name}.json")
        except KeyError:
            raise RepositoryDamaged(f"the snapshot does not name the role {name}") from None

    def files(self, name: str) -> dict[str, bytes]:
        """All files of a role below snapshot by their names: its own, and its sheet if it has one."""
        version, files = self.versions[name], {f"{self.versions[name]}.{name}.json": self.raw(name)}
        sheet = read_or_none(self._metadata / sheet_name(version, name)) if has_sheet(name) else None
        return files if sheet is None else files | {sheet_name(version, name): sheet}

    def delegator(self, name: str) -> Root | Targets:
        """The role that holds the keys of others, in the form that can verify them."""
        if name == roles.ROOT:
            return self.root
        if name not in self._delegators:
            self._delegators[name] = roles.as_delegator(self.role(name).body)
        return self._delegators[name]

    @cached_property
    def claims(self) -> frozenset[str]:
        """Products whose artifacts are signed by their teams' own keys."""
        return self._delegated(roles.PRODUCT_PREFIX)

    @cached_property
    def approved(self) -> frozenset[str]:
        """Products whose decisions are signed by their approvers' own keys."""
        return self._delegated(roles.WAVES_PREFIX)

    def _delegated(self, prefix: str) -> frozenset[str]:
        names = [one["name"] for one in self.role(roles.TARGETS).body.get("delegations", {}).get("roles", [])]
        return frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))

    @cached_property
    def pins_revocations(self) -> bool:
        """Whether the lists of revoked artifacts have a role of their own; in older repositories they lie in bins."""
        return self.rule(roles.REVOCATIONS) is not None

    def rule(self, name: str) -> roles.Rule | None:
        """Which keys sign a role; None when nobody delegates to it."""
        delegator = roles.delegator(name)
        return roles.rule_of(self.root_body if delegator == roles.ROOT else self.role(delegator).body, name)

    def holder(self, path: str) -> str:
        """Name of the role that holds, or would hold, this target path."""
        first, _, rest = path.partition("/")
        if first in (roles.DECISIONS, roles.BRAKES) and rest.count("/") == 1:
            product = rest.partition("/")[0]
            return f"{roles.WAVES_PREFIX}{product}" if first == roles.DECISIONS and product in self.approved else first
        if self.pins_revocations and roles.is_revocation_list(path):
            return roles.REVOCATIONS
        if self.is_claimed(path):
            return f"{roles.PRODUCT_PREFIX}{first}"
        return self.bin_of(path)

    def is_claimed(self, path: str) -> bool:
        """Say whether a target path belongs to a product that its team signs."""
        first, _, rest = path.partition("/")
        return first in self.claims and rest.count("/") == 2

    def bin_of(self, path: str) -> str:
        """The role below ``releases`` that holds a target path, whoever may have claimed its product."""
        if self.bins_of is None:
            return roles.product_role(path.partition("/")[0])
        prefix, bits = self.bins_of
        return f"{prefix}-{roles.bin_number(path, bits):0{len(f'{2**bits - 1:x}')}x}"

    @cached_property
    def bins_of(self) -> tuple[str, int] | None:
        """Prefix and bits of the hash bins; None in the layout of paths."""
        delegations = self.role(roles.RELEASES).body["delegations"]
        if "roles" in delegations:
            return None
        try:
            return delegations["succinct_roles"]["name_prefix"], delegations["succinct_roles"]["bit_length"]
        except (KeyError, TypeError) as error:
            raise RepositoryDamaged("the role releases delegates to no bins and no products") from error

    @property
    def layout(self) -> str:
        """How the repository is laid out: ``bins`` or ``paths``."""
        return roles.PATHS if self.bins_of is None else roles.BINS

    def standing(self) -> list[str]:
        """The roles of the snapshot that clients can reach, by name.

        All but the bins before the last re-binning, and the roles of teams and approvers that sign no longer.
        """
        return sorted(name for name in self.versions if not self._is_retired(name))

    def _is_retired(self, name: str) -> bool:
        if roles.is_product(name):
            return name.removeprefix(roles.PRODUCT_PREFIX) not in self.claims
        if roles.is_waves(name):
            return name.removeprefix(roles.WAVES_PREFIX) not in self.approved
        if self.bins_of is None:
            return False
        prefix = roles.bin_prefix(name)
        return prefix is not None and prefix != self.bins_of[0]

    def target(self, path: str) -> Entry | None:
        """The signed entry of a target path, or None."""
        name = self.holder(path)
        if name not in self.versions:
            return None  # of a product that nothing was published of
        entry: Entry | None = self.role(name).body["targets"].get(path)
        return entry

    def bins(self) -> Iterator[Role]:
        """All roles that hold artifacts and SBOMs, claimed products among them, by name."""
        for name in self.holders():
            yield self.role(name)

    def holders(self) -> list[str]:
        """Names of the roles that hold artifacts and SBOMs."""
        others = (roles.TARGETS, roles.RELEASES, *roles.DOCUMENTS)
        return [name for name in self.standing() if name not in others and not roles.is_waves(name)]

    def versions_at(self, serial: int) -> Mapping[str, int]:
        """Versions of the roles below snapshot as they were at an earlier serial; empty when that is gone from disk.

        Unverified: good for telling what changed since, and for nothing that is signed.
        """
        named = (versioned_name(path.name) for path in self._metadata.glob("*.snapshot.json"))
        standing = max((version for version, _ in filter(None, named) if version <= serial), default=0)
        content = read_or_none(self._metadata / f"{standing}.{roles.SNAPSHOT}.json")
        if content is None:
            return {}
        meta = orjson.loads(content)["signed"]["meta"]
        return {name.removesuffix(".json"): int(told["version"]) for name, told in meta.items()}

    def artifacts(self) -> Iterator[ArtifactRecord]:
        """All signed artifacts, by bin and path; those that were withdrawn, too."""
        for role in self.bins():
            for path, entry in sorted(role.body["targets"].items()):
                if is_record(entry):
                    yield read_artifact(path, entry)


def read_root(metadata: Path) -> tuple[Root, bytes]:
    """Walk from the first root to the newest, each signed by the one before and by itself; raises RepositoryDamaged."""
    raw = _read(metadata / "1.root.json")
    root = _as_root(raw, None, 1)
    version = 1
    while (following := read_or_none(metadata / f"{version + 1}.root.json")) is not None:
        version, raw = version + 1, following
        root = _as_root(raw, root, version)
    return root, raw


def verified(raw: bytes, delegator: Root | Targets, name: str, version: int | None = None) -> dict[str, Any]:
    """Check a role's signatures against its delegator and return its signed part.

    Raises:
        RepositoryDamaged: It is garbled, too few keys signed it, or its version is not ``version``.
    """
    try:
        envelope = orjson.loads(raw)
        body: dict[str, Any] = envelope["signed"]
        signatures = {one["keyid"]: Signature.from_dict(dict(one)) for one in envelope["signatures"]}
        delegator.verify_delegate(name, encode(body), signatures)
        found = int(body["version"])
    except (TufError, ValueError, KeyError, TypeError) as error:
        raise RepositoryDamaged(
            f"the metadata of {name} on disk is not what was signed: {error}; restore it from a backup or mirror"
        ) from error
    if version is not None and found != version:
        raise RepositoryDamaged(f"the metadata of {name} on disk has version {found}, expected {version}; restore it")
    return body


def _as_root(raw: bytes, before: Root | None, version: int) -> Root:
    try:
        root = Root.from_dict(orjson.loads(raw)["signed"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RepositoryDamaged(f"{version}.root.json is garbled: {error!r}; restore it") from error
    for signer in (root, before):
        if signer is not None:
            verified(raw, signer, roles.ROOT, version)
    return root


def _read(path: Path) -> bytes:
    content = read_or_none(path)
    if content is None:
        raise RepositoryDamaged(f"{path.name} is missing from {path.parent}; restore it from a backup or mirror")
    return content
