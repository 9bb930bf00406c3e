"""A small signed repository as the product lays it out, made with python-tuf alone and served on loopback.

Roles as in the design: targets delegates ``decisions``, ``brakes``, ``revocations`` (all terminating) and ``releases``,
which holds hash bins. The timestamp names the snapshot by version and length, without a digest. It is a second
implementation: it shares no line with ``repo_signing``, so an agent that follows both follows the format, not the code.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

BITS = 2  # four bins
DOCUMENTS = ("decisions", "brakes", "revocations")
ONLINE_ROLES = (*DOCUMENTS, "releases", "snapshot", "timestamp")


class SignedTree:
    """Keeps roles in memory; every ``commit`` raises the version of the changed roles and signs them.

    ``files`` maps URL paths (``metadata/7.decisions.json``, ``targets/app/…``) to bytes; a test may change them.
    """

    def __init__(self, org: str = "acme", *, expires_in: timedelta = timedelta(days=30)) -> None:
        self.org = org
        self.files: dict[str, bytes] = {}
        self.expires = datetime.now(UTC).replace(microsecond=0) + expires_in
        self.signers = {name: CryptoSigner.generate_ed25519() for name in ("root", "targets", *ONLINE_ROLES)}
        self.version = 0
        self._signer_of = dict(self.signers)
        self.bins = SuccinctRoles([self.signers["releases"].public_key.keyid], 1, BITS, "bin")
        self._roles: dict[str, Targets] = {name: Targets(expires=self.expires) for name in self.bins.get_roles()}
        self._roles |= {name: Targets(expires=self.expires) for name in (*DOCUMENTS, "releases", "targets")}
        self._delegate()
        for name in self.bins.get_roles():
            self._signer_of[name] = self.signers["releases"]
        self._versions: dict[str, int] = {}
        self.root_version = 1
        self.root = self._make_root(self.signers["root"])
        self.files["metadata/1.root.json"] = self.root
        self.commit(*self._roles)

    @property
    def root_sha256(self) -> str:
        return hashlib.sha256(self.root).hexdigest()

    def add_artifact(self, path: str, content: bytes, **record: object) -> TargetFile:
        """Sign an artifact into its bin; ``record`` is the ``custom`` of the target."""
        target = TargetFile.from_data(path, content, ["sha256"])
        target.unrecognized_fields["custom"] = {"yanked": None, **record}
        role = self.bins.get_role_for_target(path)
        self._roles[role].targets[path] = target
        self._place(path, content)
        self.commit(role)
        return target

    def put_document(self, path: str, document: bytes | None) -> None:
        """Sign a decision, brake or list of revocations, or remove it."""
        role = path.partition("/")[0]
        self._roles[role].targets.pop(path, None)
        if document is not None:
            self._roles[role].targets[path] = TargetFile.from_data(path, document, ["sha256"])
            self._place(path, document)
        self.commit(role)

    def commit(self, *changed: str) -> None:
        """Sign the changed roles, then snapshot and timestamp, all with the next version."""
        self.version += 1
        for name in changed:
            role = self._roles[name]
            role.version, role.expires = self.version, self.expires
            self._versions[name] = self.version
            self._sign(name, role, f"{self.version}.{name}")
        snapshot = Snapshot(
            version=self.version,
            expires=self.expires,
            meta={f"{name}.json": MetaFile(version) for name, version in self._versions.items()},
        )
        signed = self._sign("snapshot", snapshot, f"{self.version}.snapshot")
        timestamp = Timestamp(
            version=self.version, expires=self.expires, snapshot_meta=MetaFile(self.version, length=len(signed))
        )
        self._sign("timestamp", timestamp, "timestamp")

    def _sign(self, role: str, signed: Any, name: str) -> bytes:
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(self._signer_of[role])
        content = metadata.to_bytes()
        self.files[f"metadata/{name}.json"] = content
        return content

    def _place(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        self.files[f"targets/{folder}/{hashlib.sha256(content).hexdigest()}.{name}"] = content

    def rotate_root(self) -> None:
        """The next root, with new keys of root, snapshot and timestamp, signed by the root key before it as well."""
        before = self.signers["root"]
        for role in ("root", "snapshot", "timestamp"):
            self.signers[role] = self._signer_of[role] = CryptoSigner.generate_ed25519()
        self.root_version += 1
        self.files[f"metadata/{self.root_version}.root.json"] = self._make_root(before, self.signers["root"])
        self.commit()

    def _make_root(self, *signers: CryptoSigner) -> bytes:
        root = Root(version=self.root_version, expires=self.expires, consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(self.signers[role].public_key, role)
        metadata: Metadata[Root] = Metadata(root)
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def _delegate(self) -> None:
        keys: dict[str, Key] = {signer.public_key.keyid: signer.public_key for signer in self.signers.values()}

        def delegated(name: str, paths: list[str], *, terminating: bool) -> DelegatedRole:
            return DelegatedRole(name, [self.signers[name].public_key.keyid], 1, terminating, paths)

        self._roles["targets"].delegations = Delegations(
            keys,
            {
                "decisions": delegated("decisions", ["decisions/*/*"], terminating=True),
                "brakes": delegated("brakes", ["brakes/*/*"], terminating=True),
                "revocations": delegated("revocations", ["revocations/*/all.json"], terminating=True),
                "releases": delegated("releases", ["*/*/*/*", "revocations/*/*"], terminating=False),
            },
        )
        self._roles["releases"].delegations = Delegations(keys, None, self.bins)


@dataclass
class Mirror:
    """Serves a dictionary of files; counts requests, and may be told to answer something else."""

    files: dict[str, bytes]
    requests: list[str] = field(default_factory=list)
    answer: Callable[[str, bytes | None], bytes | None] = lambda path, content: content
    enrol: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]] | None = None
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[Mirror]:
    """Serve the files on a free loopback port until the block ends."""
    mirror = Mirror(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for the acknowledgement of its head

        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            mirror.requests.append(path)
            mirror.headers.append(dict(self.headers))
            content = mirror.answer(path, mirror.files.get(path))
            if content is None:
                self._send(404, b"no")
            elif content.startswith(b"Location: "):
                self.send_response(302)
                self.send_header("Location", content[10:].decode())
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._send(200, content)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            mirror.requests.append(self.path)
            mirror.headers.append(dict(self.headers))
            status, answer = (404, {}) if mirror.enrol is None else mirror.enrol(body)
            self._send(status, json.dumps(answer).encode())

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
