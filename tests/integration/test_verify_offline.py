"""`publish artifact verify --offline`: a mirror on a stick, a root in the pocket, and no network at all."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from cli.main import run
from repo_signing.mirror import Mirror
from repo_signing.model import ArtifactRecord
from tests.simulators.repository import RepositoryHome, publish

PATH = "app/1.0/linux/app.bin"
SIGNER = CryptoSigner.generate_ecdsa()
STRANGER = CryptoSigner.generate_ecdsa()
CONTENT = b"app 1.0"

Verify = Callable[..., tuple[int, str, str]]


def attestation() -> bytes:
    subject = [{"name": "app.bin", "digest": {"sha256": hashlib.sha256(CONTENT).hexdigest()}}]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://example.invalid/tested/v1",
        "subject": subject,
    }
    envelope = Envelope(json.dumps(statement).encode(), "application/vnd.in-toto+json", {})
    envelope.sign(SIGNER)
    return json.dumps(envelope.to_dict()).encode()


class Stick:
    """A mirror of a repository with one artifact, its SBOM and its attestation, and the root beside it.

    ``rebinned``: the records stand beside their bins.
    """

    def __init__(self, folder: Path, *, rebinned: bool) -> None:
        home = RepositoryHome.create(folder / "home")
        repository = home.open()
        self.record: ArtifactRecord
        self.record, _ = publish(repository, "1.0", home.now, sboms=(b"sbom",), attestations=(attestation(),))
        publish(repository, "2.0", home.now)
        if rebinned:
            repository.rebin(bits=7, now=home.now)
        self.mirror = folder / "mirror"
        Mirror(home.repository_folder, self.mirror).sync()
        self.root = folder / "root.json"
        self.root.write_bytes(home.root)
        self.file = folder / "downloaded.bin"
        self.file.write_bytes(CONTENT)
        self.folder = folder

    def keys(self, signer: CryptoSigner) -> Path:
        folder = self.folder / f"keys-{signer.public_key.keyid}"
        folder.mkdir()
        private: Any = signer._private_key  # the library gives no other way to its PEM
        pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "builder.pem").write_bytes(pem)
        return folder

    def target(self, sha256: str) -> Path:
        (found,) = self.mirror.rglob(f"{sha256}.*")
        return found


@pytest.fixture(params=[False, True], ids=["as-made", "re-binned"])
def stick(tmp_path: Path, request: pytest.FixtureRequest) -> Stick:
    return Stick(tmp_path, rebinned=request.param)


@pytest.fixture
def verify(stick: Stick, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Runs the command without any network and without a credential; returns exit code, stdout and stderr."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.delenv("WAVEGATE_API_KEY", raising=False)
    monkeypatch.setenv("WAVEGATE_CONFIG_DIR", str(stick.folder / "config"))

    def call(*arguments: object, root: bool = True) -> tuple[int, str, str]:
        trusted = ["--root", str(stick.root)] if root else []
        code = run(["artifact", "verify", *map(str, arguments), "--offline", str(stick.mirror), *trusted])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_a_file_alone_tells_who_signed_what_from_the_root_down(stick: Stick, verify: Verify) -> None:
    code, out, _ = verify(stick.file)
    assert code == 0
    report = json.loads(out)
    assert report["target_path"] == PATH
    assert report["publisher"]["name"] == "Ann"
    assert [part["kind"] for part in report["verified"]] == ["artifact", "sbom", "attestation"]
    chain = [
        (link["role"], link["delegated_by"], link["threshold"], len(link["signed_by"])) for link in report["chain"]
    ]
    assert chain[:5] == [
        ("root", None, 1, 1),
        ("timestamp", "root", 1, 1),
        ("snapshot", "root", 1, 1),
        ("targets", "root", 1, 1),
        ("releases", "targets", 1, 1),
    ]
    name, delegated_by, threshold, signed = chain[5]
    assert (name.startswith(("releases-", "r2-")), delegated_by, threshold, signed) == (True, "releases", 1, 1)
    assert len(chain) == 6
    assert all(link["expires"].endswith("Z") and link["version"] >= 1 for link in report["chain"])
    (one,) = report["attestations"]
    assert (one["state"], one["examined_by"]) == ("unverified", "server")


def test_it_is_told_in_words_too(stick: Stick, verify: Verify) -> None:
    code, out, _ = verify(PATH, "-o", "table", "--attestation-keys", stick.keys(SIGNER))
    assert code == 0
    assert out.startswith(f"verified {PATH}\n")
    assert "by Ann (usr_ann)" in out
    assert f"app.bin.att.0.dsse: verified by key {SIGNER.public_key.keyid[:16]}…" in out
    assert "(examined by you)" in out


def test_an_artifact_is_found_by_id_and_by_target_path(stick: Stick, verify: Verify) -> None:
    for named in (stick.record.id, PATH):
        code, out, _ = verify(named, stick.file)
        assert (code, json.loads(out)["target_path"]) == (0, PATH)


def test_attestations_are_verified_with_keys_of_ones_own(stick: Stick, verify: Verify) -> None:
    code, out, _ = verify(stick.file, "--attestation-keys", stick.keys(SIGNER), "--require-attestation")
    assert code == 0
    (one,) = json.loads(out)["attestations"]
    assert (one["state"], one["subject_matches"], one["examined_by"]) == ("verified", True, "you")
    assert one["verified_by"] == [{"keyid": SIGNER.public_key.keyid}]


def test_a_strangers_key_is_told_and_refused_only_when_an_attestation_is_required(stick: Stick, verify: Verify) -> None:
    keys = stick.keys(STRANGER)
    code, out, _ = verify(stick.file, "--attestation-keys", keys)
    assert (code, json.loads(out)["attestations"][0]["state"]) == (0, "failed")
    code, out, err = verify(stick.file, "--attestation-keys", keys, "--require-attestation")
    assert (code, out) == (8, "")
    assert "none of its 1 attestations is verified" in err


def test_the_digest_of_the_root_is_enough(stick: Stick, verify: Verify) -> None:
    digest = hashlib.sha256(stick.root.read_bytes()).hexdigest()
    assert verify(PATH, "--root-sha256", digest, root=False)[0] == 0
    assert verify(PATH, "--root-sha256", "0" * 64, root=False)[0] == 8


def test_a_file_that_was_never_signed_is_refused(stick: Stick, verify: Verify) -> None:
    stick.file.write_bytes(b"app 1.0 and more")
    code, out, err = verify(stick.file)
    assert (code, out) == (8, "")
    assert "nothing is signed with the sha256" in err
    assert verify(PATH, stick.file)[0] == 8


@pytest.mark.parametrize("part", ["artifact", "sbom", "attestation"])
def test_bytes_that_were_changed_on_the_mirror_are_refused(stick: Stick, verify: Verify, part: str) -> None:
    digest = {
        "artifact": stick.record.sha256,
        "sbom": stick.record.sboms[0].sha256,
        "attestation": stick.record.attestations[0].sha256,
    }[part]
    target = stick.target(digest)
    target.write_bytes(target.read_bytes()[::-1])
    assert verify(PATH)[0] == 8


def test_metadata_that_was_changed_on_the_mirror_is_refused(stick: Stick, verify: Verify) -> None:
    for path in (stick.mirror / "metadata").glob("*.json"):
        path.write_text(path.read_text().replace('"Ann"', '"Eve"'))
    assert verify(PATH)[0] == 8
    assert verify(stick.file)[0] == 8


def test_a_root_of_somebody_else_verifies_nothing(stick: Stick, verify: Verify, tmp_path: Path) -> None:
    stick.root.write_bytes(RepositoryHome.create(tmp_path / "other").root)
    assert verify(PATH)[0] == 8


def test_a_folder_that_is_no_mirror_is_a_usage_error(stick: Stick, verify: Verify) -> None:
    (stick.mirror / "metadata" / "timestamp.json").unlink()
    code, _, err = verify(PATH)
    assert code == 2
    assert "is no mirror" in err


def test_bytes_published_twice_ask_which_is_meant(tmp_path: Path, verify: Verify, stick: Stick) -> None:
    home = RepositoryHome.create(tmp_path / "twice")
    repository = home.open()
    for version in ("1.0", "2.0"):
        publish(repository, version, home.now, content=CONTENT)
    stick.root.write_bytes(home.root)
    stick.mirror = tmp_path / "second-mirror"
    Mirror(home.repository_folder, stick.mirror).sync()
    code, _, err = verify(stick.file)
    assert code == 2
    assert "app/1.0/linux/app.bin, app/2.0/linux/app.bin" in err
    assert verify(PATH, stick.file)[0] == 0
