"""A TUF repository that a test bends as it likes, made with python-tuf's metadata classes and nothing of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

TOP = ("root", "timestamp", "snapshot", "targets")
ALL = ("root", "targets", "snapshot", "timestamp")
KEYS = [CryptoSigner.generate_ed25519() for _ in range(10)]  # to rotate to and from


class Bent:
    """``signed`` holds the roles to be signed next, ``signers`` who signs, ``files`` what is served, by path.

    ``publish`` raises the versions of the roles it is given and signs them. Every version that was ever published stays
    in ``files``, but for the timestamp, which has one name.
    """

    def __init__(self) -> None:
        self.expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        self.files: dict[str, bytes] = {}
        self.hashes = False  # whether snapshot and timestamp name length and hashes
        self.signers: dict[str, list[CryptoSigner]] = {role: [CryptoSigner.generate_ed25519()] for role in TOP}
        root = Root(expires=self.expires, consistent_snapshot=True)
        self.signed: dict[str, Any] = {
            "root": root,
            "timestamp": Timestamp(expires=self.expires),
            "snapshot": Snapshot(expires=self.expires),
            "targets": Targets(expires=self.expires),
        }
        for role in TOP:
            self.signed[role].version = 0  # publishing counts up
            root.add_key(self.signers[role][0].public_key, role)
        self.publish(*ALL)
        self.trusted_root = self.files["metadata/1.root.json"]

    @property
    def root(self) -> Root:
        root: Root = self.signed["root"]
        return root

    def publish(self, *names: str) -> None:
        """Sign these, in this order, each with the next version; snapshot and timestamp name what is there by then."""
        for name in names:
            role = self.signed[name]
            role.version += 1
            if name == "snapshot":
                for other in self.signed:
                    if other not in ("root", "timestamp", "snapshot"):
                        role.meta[f"{other}.json"] = self._meta(other)
            elif name == "timestamp":
                role.snapshot_meta = self._meta("snapshot")
            self.place(name, self.sign(name))

    def sign(self, name: str, signers: Sequence[CryptoSigner] | None = None) -> bytes:
        """The file of a role as it is now."""
        metadata: Metadata[Any] = Metadata(self.signed[name])
        for signer in self.signers[name] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def path(self, name: str, version: int | None = None) -> str:
        """Where a version of a role is served, by default the newest."""
        if name == "timestamp":
            return "metadata/timestamp.json"
        number = self.signed[name].version if version is None else version
        return f"metadata/{number}.{quote(name, '')}.json"

    def place(self, name: str, content: bytes, version: int | None = None) -> None:
        """Serve this as a version of a role."""
        self.files[self.path(name, version)] = content

    def set_keys(self, role: str, keys: Sequence[CryptoSigner], threshold: int, by: Sequence[CryptoSigner]) -> None:
        """Give a top-level role other keys and threshold in the next root, and have others sign it from now on."""
        self.root.roles[role].keyids.clear()
        for key in keys:
            self.root.add_key(key.public_key, role)
        self.root.roles[role].threshold = threshold
        self.signers[role] = list(by)

    def delegate(
        self, delegator: str, name: str, paths: Sequence[str] = ("*",), *, terminating: bool = False
    ) -> Targets:
        """Delegate paths to a role, which is made with a key of its own if it is new."""
        if name not in self.signed:
            self.signed[name] = Targets(expires=self.expires)
            self.signed[name].version = 0
            self.signers[name] = [CryptoSigner.generate_ed25519()]
        above: Targets = self.signed[delegator]
        if above.delegations is None:
            above.delegations = Delegations({}, {})
        assert above.delegations.roles is not None
        above.delegations.roles[name] = DelegatedRole(name, [], 1, terminating, list(paths))
        above.add_key(self.signers[name][0].public_key, name)
        made: Targets = self.signed[name]
        return made

    def add_target(self, role: str, path: str, content: bytes, hashes: Sequence[str] = ("sha256",)) -> str:
        """Name a target in a role and serve it; returns where."""
        target = TargetFile.from_data(path, content, list(hashes))
        self.signed[role].targets[path] = target
        folder, slash, name = path.rpartition("/")
        served = f"targets/{folder}{slash}{next(iter(target.hashes.values()))}.{name}"
        self.files[served] = content
        return served

    def _meta(self, name: str) -> MetaFile:
        version = self.signed[name].version
        if not self.hashes:
            return MetaFile(version)
        content = self.files[self.path(name)]
        return MetaFile(version, len(content), {"sha256": hashlib.sha256(content).hexdigest()})
