"""`publish artifact verify` against a small repository signed by python-tuf itself, and against its forgeries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish
from tests.unit.cli.samples import ARTIFACT

PATH = "app/1.0.0/any/app.bin"
SBOM_PATH = "app/1.0.0/any/app.bin.sbom.0.cyclonedx-json"
APP = b"the application"
SBOM = b'{"bomFormat": "CycloneDX"}'

AnyRole = TypeVar("AnyRole", Root, Targets, Snapshot, Timestamp)
Prepare = Callable[..., Path]


class SmallRepository:
    """One artifact and its SBOM under one key, served by the simulator as ``/tuf/acme``."""

    def __init__(self, server: ApiServerSimulator, *, life: timedelta, app: bytes, custom: dict[str, Any]) -> None:
        self._server = server
        self._signer = CryptoSigner.generate_ed25519()
        expires = datetime.now(UTC).replace(microsecond=0) + life
        root = Root(expires=expires, consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(self._signer.public_key, role)
        targets = Targets(expires=expires)
        targets.targets[PATH] = TargetFile.from_data(PATH, APP, ["sha256"])
        targets.targets[PATH].unrecognized_fields["custom"] = custom
        targets.targets[SBOM_PATH] = TargetFile.from_data(SBOM_PATH, SBOM, ["sha256"])
        self.root = self.serve("metadata/1.root.json", self._signed(root))
        self.serve("metadata/timestamp.json", self._signed(Timestamp(expires=expires, snapshot_meta=MetaFile(1))))
        self.serve("metadata/1.snapshot.json", self._signed(Snapshot(expires=expires)))
        self.serve("metadata/1.targets.json", self._signed(targets))
        self.serve(f"targets/app/1.0.0/any/{hashlib.sha256(APP).hexdigest()}.app.bin", app)
        self.serve(f"targets/app/1.0.0/any/{hashlib.sha256(SBOM).hexdigest()}.app.bin.sbom.0.cyclonedx-json", SBOM)

    def serve(self, path: str, content: bytes) -> bytes:
        self._server.on("GET", f"/tuf/acme/{path}", Reply(200, content))
        return content

    def _signed(self, role: AnyRole) -> bytes:
        metadata = Metadata(role)
        metadata.sign(self._signer)
        return metadata.to_bytes(JSONSerializer())


def a_record(**more: Any) -> dict[str, Any]:
    sbom = {"path": SBOM_PATH, "sha256": hashlib.sha256(SBOM).hexdigest()}
    by = {"kind": "service", "id": "usr_01", "name": "ci"}
    told = {"publisher": by, "created_at": "2026-11-21T10:00:00Z", "serial": 7}
    return {"kind": "artifact", "yanked": None, "sboms": [sbom], **told, **more}


@pytest.fixture
def prepare(server: ApiServerSimulator, tmp_path: Path) -> Prepare:
    """Serves a repository and returns the file of its root."""

    def make(*, days: int = 1, app: bytes = APP, **record: Any) -> Path:
        repository = SmallRepository(server, life=timedelta(days=days), app=app, custom=a_record(**record))
        base = f"{server.url}/tuf/acme"
        told = {"metadata_url": f"{base}/metadata", "targets_url": f"{base}/targets"}
        server.on("GET", "/api/v1/repository", Reply(200, told))
        root = tmp_path / "trusted-root.json"
        root.write_bytes(repository.root)
        return root

    return make


def test_artifact_and_sbom_are_fetched_and_checked(publish: Publish, prepare: Prepare) -> None:
    root = prepare()
    done = publish("artifact", "verify", PATH, "--root", str(root))
    assert done.code == 0
    report = done.json
    chain = report.pop("chain")
    assert [(link["role"], link["delegated_by"], link["version"], link["threshold"]) for link in chain] == [
        ("root", None, 1, 1),
        ("timestamp", "root", 1, 1),
        ("snapshot", "root", 1, 1),
        ("targets", "root", 1, 1),
    ]
    assert len({keyid for link in chain for keyid in link["signed_by"]}) == 1
    assert report == {
        "target_path": PATH,
        "root_version": 1,
        "root_sha256": hashlib.sha256(root.read_bytes()).hexdigest(),
        "yanked": None,
        "verified": [
            {
                "kind": "artifact",
                "target_path": PATH,
                "sha256": "59b33147eed775afbd220ad5c1d10dfd17c401cb664c3c05a2e877c208d45bfb",
                "length": 15,
            },
            {
                "kind": "sbom",
                "target_path": SBOM_PATH,
                "sha256": "3fb974902205514a4899b51cae63cc149a2a0fde3ee01aed488bc2406871a877",
                "length": 26,
            },
        ],
        "publisher": {"kind": "service", "id": "usr_01", "name": "ci"},
        "published_at": "2026-11-21T10:00:00Z",
        "serial": 7,
        "sboms": [{"path": SBOM_PATH, "sha256": hashlib.sha256(SBOM).hexdigest()}],
        "attestations": [],
    }


def test_a_file_at_hand_is_compared_with_what_is_signed(publish: Publish, prepare: Prepare, tmp_path: Path) -> None:
    root = prepare(app=b"never asked for")
    (tmp_path / "right").write_bytes(APP)
    (tmp_path / "wrong").write_bytes(b"another application")
    assert publish("artifact", "verify", PATH, str(tmp_path / "right"), "--root", str(root)).code == 0
    assert publish("artifact", "verify", PATH, str(tmp_path / "wrong"), "--root", str(root)).code == 8


@pytest.mark.parametrize("served", [b"the Application", b"the app", b"the application and more"])
def test_bytes_that_were_not_signed_are_refused(publish: Publish, prepare: Prepare, served: bytes) -> None:
    root = prepare(app=served)
    done = publish("artifact", "verify", PATH, "--root", str(root))
    assert (done.code, done.out) == (8, "")


def test_a_root_of_somebody_else_verifies_nothing(publish: Publish, prepare: Prepare) -> None:
    foreign = prepare().read_bytes()
    root = prepare()
    root.write_bytes(foreign)
    assert publish("artifact", "verify", PATH, "--root", str(root)).code == 8


def test_expired_metadata_is_refused(publish: Publish, prepare: Prepare) -> None:
    root = prepare(days=-1)
    done = publish("artifact", "verify", PATH, "--root", str(root))
    assert done.code == 8
    assert "expired" in done.err


def test_an_sbom_other_than_the_one_its_artifact_names_is_refused(publish: Publish, prepare: Prepare) -> None:
    root = prepare(sboms=[{"path": SBOM_PATH, "sha256": "0" * 64}])
    done = publish("artifact", "verify", PATH, "--root", str(root))
    assert done.code == 8
    assert "its artifact names 0000" in done.err


def test_what_is_not_signed_is_refused(publish: Publish, prepare: Prepare) -> None:
    root = prepare()
    done = publish("artifact", "verify", "app/9.9.9/any/app.bin", "--root", str(root))
    assert done.code == 8
    assert done.err.startswith("error: nothing is signed under 'app/9.9.9/any/app.bin'\n")


def test_a_yanked_artifact_verifies_and_says_so(publish: Publish, prepare: Prepare) -> None:
    root = prepare(yanked={"reason": "burns"})
    assert publish("artifact", "verify", PATH, "--root", str(root)).json["yanked"] == "burns"
    assert "warning: yanked: burns" in publish("artifact", "verify", PATH, "--root", str(root), "-o", "table").out


def test_without_a_trusted_root_nothing_is_asked_of_the_repository(
    publish: Publish, server: ApiServerSimulator, prepare: Prepare
) -> None:
    prepare()
    done = publish("artifact", "verify", PATH)
    assert done.code == 2
    assert done.err.startswith("error: no trusted root: name one by --root, WAVEGATE_ROOT, --home or --root-sha256\n")
    assert [seen.path for seen in server.requests] == ["/api/v1/repository"]


def test_a_digest_alone_is_enough_to_find_the_root(publish: Publish, prepare: Prepare) -> None:
    digest = hashlib.sha256(prepare().read_bytes()).hexdigest()
    assert publish("artifact", "verify", PATH, "--root-sha256", digest.upper()).code == 0
    assert publish("artifact", "verify", PATH, "--root-sha256", "0" * 64).code == 8


def test_a_root_file_must_have_the_digest_that_was_told(publish: Publish, prepare: Prepare) -> None:
    assert publish("artifact", "verify", PATH, "--root", str(prepare()), "--root-sha256", "0" * 64).code == 8


def test_an_outsider_needs_no_credential(
    publish: Publish, server: ApiServerSimulator, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = prepare()
    monkeypatch.delenv("WAVEGATE_API_KEY")
    assert publish("artifact", "verify", PATH, "--root", str(root), "--org", "acme").code == 0
    assert [seen for seen in server.requests if "authorization" in seen.headers] == []
    assert [seen.path for seen in server.requests if seen.path.startswith("/api")] == []


@pytest.mark.parametrize("place", ["root.json", "orgs/acme/repository/metadata/1.root.json"])
def test_the_home_on_this_machine_knows_its_root(
    publish: Publish, prepare: Prepare, tmp_path: Path, place: str
) -> None:
    home = tmp_path / "home"
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    (home / place).write_bytes(prepare().read_bytes())
    assert publish("artifact", "verify", PATH, "--home", str(home)).code == 0


def test_a_home_without_a_repository_is_a_usage_error(publish: Publish, prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    assert publish("artifact", "verify", PATH, "--home", str(tmp_path / "nowhere")).code == 2


def test_a_file_alone_is_found_by_its_digest(
    publish: Publish, server: ApiServerSimulator, prepare: Prepare, tmp_path: Path
) -> None:
    root = prepare()
    (tmp_path / "downloaded.bin").write_bytes(APP)
    listed = [ARTIFACT | {"target_path": PATH}]
    server.on("GET", "/api/v1/artifacts", Reply(200, {"items": listed, "next_cursor": None}))
    done = publish("artifact", "verify", str(tmp_path / "downloaded.bin"), "--root", str(root))
    assert (done.code, done.json["target_path"]) == (0, PATH)
    (asked,) = server.asked("GET", "/api/v1/artifacts")
    assert asked.query["sha256"] == "59b33147eed775afbd220ad5c1d10dfd17c401cb664c3c05a2e877c208d45bfb"


def test_a_file_whose_digest_is_not_published_is_refused(
    publish: Publish, server: ApiServerSimulator, prepare: Prepare, tmp_path: Path
) -> None:
    root = prepare()
    (tmp_path / "downloaded.bin").write_bytes(APP)
    withdrawn = ARTIFACT | {"withdrawn": {"reason": "leaks", "revoked": False}}
    server.on("GET", "/api/v1/artifacts", Reply(200, {"items": [withdrawn], "next_cursor": None}))
    done = publish("artifact", "verify", str(tmp_path / "downloaded.bin"), "--root", str(root))
    assert done.code == 8
    assert "nothing is signed with the sha256" in done.err
