"""A stolen server: all online keys, the disk and the database of a repository whose product ``app`` is signed.

Two of three approvers sign every wave of ``app``; their keys and those of root and targets are not the thief's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from keys.keyring import Keyring
from repo_signing.canonical import encode
from rollout.decision import Brake, Decision, DecisionArtifact, Stance, brake_path, encode_brake, encode_decision
from tests.simulators.attacks import TIMESTAMP, Files, body, files_of
from tests.simulators.key_holders import Holder, sign_all
from tests.simulators.repository import ANN, RepositoryHome, publish

PILOT: Final = "decisions/app/pilot.json"
FLEET: Final = "decisions/app/fleet.json"
SALT: Final = "00000000000000000000000000000002"  # the tests' device has the place 5658 with it
ROLLOUT: Final = "rol_1"
ROLE: Final = "waves-app"


class StolenServer:
    """``first`` and ``second`` are what was served after wave 1 and after wave 2; clients have seen ``second``.

    Wave 1 is 10 % of the group pilot, wave 2 half of it, wave 3 all of it and signed for three days from now: it is on
    the disk with all its signatures. Wave 4, for the group fleet, has one signature of the two it needs.
    """

    def __init__(self, folder: Path) -> None:
        self.home = RepositoryHome.create(folder / "home")
        self.keys = Keyring(self.home.folder / "keys")
        self.now = self.home.now
        repository = self.home.open()
        targets = Holder.of_laptop(self.home.folder, "targets")
        self.ann, self.ben, self.cem = Holder(), Holder(), Holder()
        for version in ("1.0", "6.6"):
            publish(repository, version, self.now)
        appointed = repository.approvals.appoint(
            "app", [one.public for one in (self.ann, self.ben, self.cem)], 2, by=ANN, now=self.now
        )
        sign_all(repository.drafts, appointed, [targets, self.ann, self.ben], self.now)
        self.later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
        self.waves = {
            1: self.decision(1, cohort_to=1000),
            2: self.decision(2, cohort_to=5000),
            3: self.decision(3, not_before=self.later),
            4: self.decision(4, group="fleet"),
        }
        self.proposal = repository.approvals.propose(
            ROLLOUT,
            "app",
            [(n, {self.path(one): encode_decision(one)}) for n, one in self.waves.items()],
            now=self.now,
        )
        for holder, signed in ((self.ann, (1, 2, 3, 4)), (self.cem, (1, 2, 3))):
            signatures = {n: holder.signer.sign(self.proposal.parts[n - 1].payload).signature for n in signed}
            repository.approvals.sign(ROLLOUT, holder.keyid, signatures, now=self.now)
        self.open(1)
        self.first = files_of(self.home)
        self.open(2)
        self.second = files_of(self.home)

    def path(self, decision: Decision) -> str:
        return f"decisions/app/{decision.group}.json"

    def decision(self, wave: int, *, version: str = "1.0", **changes: Any) -> Decision:
        """A decision of the rollout; its artifact is one that the repository really has."""
        content = f"app {version}".encode()
        artifact = DecisionArtifact(
            path=f"app/{version}/linux/app.bin", length=len(content), sha256=hashlib.sha256(content).hexdigest()
        )
        fields: dict[str, Any] = {
            "org": "acme",
            "product": "app",
            "channel": "stable",
            "group": "pilot",
            "rollout": ROLLOUT,
            "plan_hash": "ab" * 32,
            "wave": wave,
            "revision": wave,
            "submitted_at": self.now,
            "version": version,
            "artifacts": {"any": artifact},
            "salt": SALT,
            "cohort_from": 0,
            "cohort_to": 10_000,
        }
        return Decision(**(fields | changes))

    def open(self, wave: int) -> None:
        """What the honest server does when the gate holds."""
        one = self.waves[wave]
        self.home.open().commit_documents({self.path(one): encode_decision(one)}, now=self.now)

    def signed_by_approvers(self, wave: int) -> bytes:
        """The file of the role for a wave, with the signatures that there are."""
        found = self.home.open().approvals.find(ROLLOUT)
        assert found is not None
        return found.parts[found.waves.index(wave)].file

    def served(self, decision: Decision) -> str:
        """Path of a decision's bytes as clients ask for them."""
        path, content = as_target(decision)
        folder, _, file = path.rpartition("/")
        return f"targets/{folder}/{self.digest(content)}.{file}"

    def digest(self, content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    def by(self, role: str, content: Mapping[str, Any], *more: Holder) -> bytes:
        """A metadata file signed with an online key, and with the keys of people who were deceived."""
        payload = encode(content)
        signatures = [self.keys.signer(role).sign(payload).to_dict()] if role else []
        signatures += [one.signer.sign(payload).to_dict() for one in more]
        return encode({"signatures": signatures, "signed": json.loads(payload)})

    def role_body(self, name: str, documents: Sequence[Decision | Brake], version: int) -> dict[str, Any]:
        """The signed part of a role that holds these documents alone."""
        targets = {}
        for one in documents:
            path, content = as_target(one)
            targets[path] = {"hashes": {"sha256": hashlib.sha256(content).hexdigest()}, "length": len(content)}
        before = body(self.second[self.name(name)])
        return before | {"targets": targets, "version": version}

    def name(self, role: str) -> str:
        """Path of the version of a role that is served."""
        number = body(self.second[TIMESTAMP])["meta"]["snapshot.json"]["version"]
        if role == "snapshot":
            return f"metadata/{number}.snapshot.json"
        meta = body(self.second[f"metadata/{number}.snapshot.json"])["meta"]
        return f"metadata/{meta[f'{role}.json']['version']}.{role}.json"

    def serve(
        self,
        roles: Mapping[str, bytes] | None = None,
        documents: Sequence[Decision | Brake] = (),
        edit: Callable[[dict[str, Any]], None] = lambda meta: None,
    ) -> Files:
        """What the thief serves: roles of its own making, under a snapshot and a timestamp signed with stolen keys.

        Hashes that the snapshot names are made to fit; ``edit`` gets its ``meta`` last.
        """
        files = dict(self.second)
        snapshot = body(files[self.name("snapshot")])
        for name, content in (roles or {}).items():
            version = body(content)["version"]
            files[f"metadata/{version}.{name}.json"] = content
            row: dict[str, Any] = {"version": version}
            if "hashes" in snapshot["meta"].get(f"{name}.json", {}):
                row["hashes"] = {"sha256": hashlib.sha256(content).hexdigest()}
            snapshot["meta"][f"{name}.json"] = row
        edit(snapshot["meta"])
        signed = self.by("snapshot", snapshot | {"version": 900})
        files["metadata/900.snapshot.json"] = signed
        meta = {"snapshot.json": {"version": 900, "length": len(signed)}}
        files[TIMESTAMP] = self.by("timestamp", body(files[TIMESTAMP]) | {"version": 900, "meta": meta})
        for one in documents:
            path, content = as_target(one)
            folder, _, file = path.rpartition("/")
            files[f"targets/{folder}/{hashlib.sha256(content).hexdigest()}.{file}"] = content
        return files

    def brake(self, stance: Stance, *, wave: int = 9) -> Brake:
        """A stop, which is the online key's to sign."""
        return Brake(
            org="acme",
            product="app",
            channel="stable",
            group="pilot",
            rollout=ROLLOUT,
            plan_hash="ab" * 32,
            wave=wave,
            revision=9,
            stance=stance,
            reason="stopped",
        )


def as_target(document: Decision | Brake) -> tuple[str, bytes]:
    """Path and bytes of a document."""
    if isinstance(document, Brake):
        return brake_path(document.product, document.group), encode_brake(document)
    return f"decisions/{document.product}/{document.group}.json", encode_decision(document)
