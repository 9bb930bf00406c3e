"""An attestation's way from a build to an auditor, with the installed commands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from tests.acceptance.conftest import Home
from tests.acceptance.test_publishing import client


def attest(file: Path, signer: CryptoSigner) -> Path:
    """What a build system leaves beside its output: a signed statement about it."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"name": file.name, "digest": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}}],
        "predicate": {"runDetails": {"builder": {"id": "https://builder.example"}}},
    }
    envelope = Envelope(json.dumps(statement).encode(), "application/vnd.in-toto+json", {})
    envelope.sign(signer)
    signed = file.with_suffix(f".{signer.public_key.keyid[:8]}.dsse")
    signed.write_text(json.dumps(envelope.to_dict()))
    return signed


def trust(folder: Path, signer: CryptoSigner) -> Path:
    folder.mkdir()
    private: Any = signer._private_key  # the library gives no other way to its PEM
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "builder.pem").write_bytes(pem)
    return folder


def test_an_attestation_is_pushed_verified_and_verified_again_from_a_mirror(home: Home, tmp_path: Path) -> None:
    builder, stranger = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    trust(home.folder / "attestation-keys", builder)
    file = tmp_path / "fw.bin"
    file.write_bytes(b"firmware")
    ours, theirs = attest(file, builder), attest(file, stranger)
    told = home.publish("push", file, "--product", "fw", "--version", "1", "--attest", ours, "--attest", theirs)
    assert [one["state"] for one in told["attestations"]] == ["verified", "failed"]
    shown = home.publish("artifact", "show", told["id"])["attestations"]
    assert shown[0]["verified_by"] == [{"keyid": builder.public_key.keyid, "identity": None, "issuer": None}]
    assert (shown[0]["builder"], shown[1]["builder"]) == ("https://builder.example", None)

    updater = client(home, tmp_path / "client")
    for one, sent in zip(told["attestations"], (ours, theirs), strict=True):
        found = updater.get_targetinfo(one["target_path"])
        assert found is not None
        assert Path(updater.download_target(found)).read_bytes() == sent.read_bytes()

    online = home.publish("artifact", "verify", told["id"], "--require-attestation")
    assert [one["state"] for one in online["attestations"]] == ["verified", "failed"]

    home.publish("repo", "sync", tmp_path / "mirror", key=False)
    home.end()
    offline = home.publish(
        "artifact", "verify", file, "--offline", tmp_path / "mirror", "--root-sha256", home.made["root_sha256"],
        "--attestation-keys", trust(tmp_path / "mine", stranger), key=False,
    )  # fmt: skip
    assert [(one["state"], one["examined_by"]) for one in offline["attestations"]] == [
        ("failed", "you"),
        ("verified", "you"),
    ]
    assert [link["role"] for link in offline["chain"]][:5] == ["root", "timestamp", "snapshot", "targets", "releases"]
