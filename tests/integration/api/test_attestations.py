"""Attestations over HTTP: examined when they come in, recorded as what was found, returned as they were sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from tests.integration.api.conftest import Home

FIRMWARE = b"firmware one"
SIGNER = CryptoSigner.generate_ed25519()
STRANGER = CryptoSigner.generate_ed25519()
DSSE = "application/vnd.dsse.envelope.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PROVENANCE = {
    "buildDefinition": {
        "buildType": "https://example.invalid/build/v1",
        "resolvedDependencies": [{"uri": "git+https://git.example/fw", "digest": {"gitCommit": "0123"}}],
    },
    "runDetails": {"builder": {"id": "https://builder.example"}},
}

Trust = Callable[[CryptoSigner], None]


def attestation(content: bytes = FIRMWARE, signer: CryptoSigner = SIGNER) -> bytes:
    """SLSA provenance of these bytes in an envelope."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"name": "fw.bin", "digest": {"sha256": hashlib.sha256(content).hexdigest()}}],
        "predicate": PROVENANCE,
    }
    envelope = Envelope(json.dumps(statement).encode(), "application/vnd.in-toto+json", {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict()).encode()


def tampered() -> bytes:
    """Signed for one payload, carrying another."""
    document = json.loads(attestation())
    document["payload"] = json.loads(attestation(b"another firmware"))["payload"]
    return json.dumps(document).encode()


def bundle() -> bytes:
    """A Sigstore bundle around an envelope; its certificate is never looked at without a policy."""
    envelope = json.loads(attestation())
    material = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}
    return json.dumps({"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}).encode()


@pytest.fixture
def trust(home: Home) -> Trust:
    """Puts a signer's public key among those that the server trusts."""

    def put(signer: CryptoSigner) -> None:
        folder = home.made.home / "attestation-keys"
        folder.mkdir(exist_ok=True)
        (folder / "builder.pem").write_bytes(pem(signer))

    return put


def pem(signer: CryptoSigner) -> bytes:
    key: Any = signer._private_key  # the library gives no other way to its PEM
    content: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return content


def test_an_artifact_is_published_with_provenance_that_a_trusted_key_signed(home: Home, trust: Trust) -> None:
    trust(SIGNER)
    content = attestation()
    answer = home.publish(FIRMWARE, attestations=[home.upload(content)])
    assert answer.status_code == 201, answer.text
    [told] = answer.get_json()["attestations"]
    assert told.pop("id").startswith("att_")
    assert told == {
        "target_path": "fw/1.0.0/any/fw.bin.att.0.dsse",
        "sha256": hashlib.sha256(content).hexdigest(),
        "length": len(content),
        "kind": "dsse",
        "media_type": DSSE,
        "state": "verified",
        "verified_by": [{"keyid": SIGNER.public_key.keyid, "identity": None, "issuer": None}],
        "reason": None,
        "subject_matches": True,
        "predicate_type": "https://slsa.dev/provenance/v1",
        "builder": "https://builder.example",
        "source": "git+https://git.example/fw",
        "source_digest": "gitCommit:0123",
    }
    signed = home.wiring.repository.find("fw/1.0.0/any/fw.bin")
    assert signed is not None
    assert [one.state for one in signed.attestations] == ["verified"]


def test_what_is_found_is_data_and_refuses_nothing(home: Home, trust: Trust) -> None:
    trust(SIGNER)
    sent = [attestation(signer=STRANGER), tampered(), bundle(), attestation(b"another firmware")]
    answer = home.publish(FIRMWARE, attestations=[home.upload(one) for one in sent])
    assert answer.status_code == 201, answer.text
    found = answer.get_json()["attestations"]
    assert [(one["kind"], one["state"], one["subject_matches"], one["reason"]) for one in found] == [
        ("dsse", "failed", False, "no signature is of a given key; 1 tried"),
        ("dsse", "failed", False, "no signature is of a given key; 1 tried"),
        ("sigstore-bundle", "unverified", True, "no trusted identity was given to verify a Sigstore bundle with"),
        ("dsse", "verified", False, None),
    ]
    assert [(one["verified_by"], one["predicate_type"]) for one in found[:2]] == [([], None), ([], None)]


def test_an_attestation_is_attached_later_listed_and_returned_as_it_was_sent(home: Home) -> None:
    artifact = home.publish(FIRMWARE).get_json()
    assert artifact["attestations"] == []
    attached = home.call("PUT", f"/artifacts/{artifact['id']}/attestations", data=attestation())
    assert attached.status_code == 201
    assert attached.get_json()["state"] == "unverified"
    listed = home.call("GET", f"/artifacts/{artifact['id']}/attestations").get_json()["items"]
    assert listed == [attached.get_json()]
    assert home.call("GET", f"/artifacts/{artifact['id']}").get_json()["attestations"] == listed
    answer = home.call("GET", f"/attestations/{listed[0]['id']}")
    assert (answer.content_type, answer.data) == (DSSE, attestation())
    answer.close()


def test_a_bundle_is_returned_in_its_own_content_type(home: Home) -> None:
    artifact = home.publish(FIRMWARE, attestations=[home.upload(bundle())]).get_json()
    answer = home.call("GET", f"/attestations/{artifact['attestations'][0]['id']}")
    assert (answer.content_type, answer.data) == (BUNDLE, bundle())
    answer.close()


def test_a_key_that_is_trusted_later_counts_when_the_attestation_is_sent_again(home: Home, trust: Trust) -> None:
    artifact = home.publish(FIRMWARE, attestations=[home.upload(attestation())]).get_json()
    before = artifact["attestations"][0]
    trust(SIGNER)
    again = home.call("PUT", f"/artifacts/{artifact['id']}/attestations", data=attestation()).get_json()
    assert (again["id"], before["state"], again["state"]) == (before["id"], "unverified", "verified")
    tags = [one["tag"] for one in home.call("GET", "/audit/events").get_json()["items"]]
    assert tags[-2:] == ["artifact.published", "artifact.attested"]


def test_what_is_no_attestation_is_refused_and_the_artifact_is_not_published(home: Home) -> None:
    answer = home.publish(FIRMWARE, attestations=[home.upload(b'{"some": "JSON"}')])
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_attestation")
    assert home.call("GET", "/artifacts").get_json()["items"] == []


def test_trust_that_cannot_be_read_is_the_servers_fault_and_signs_nothing(home: Home) -> None:
    folder = home.made.home / "attestation-keys"
    folder.mkdir()
    (folder / "broken.pem").write_text("no key")
    artifact = home.publish(FIRMWARE).get_json()
    answer = home.call("PUT", f"/artifacts/{artifact['id']}/attestations", data=attestation())
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "invalid_attestation_trust")
    assert home.call("GET", f"/artifacts/{artifact['id']}/attestations").get_json()["items"] == []


def test_a_viewer_reads_attestations_and_does_not_attach(home: Home) -> None:
    artifact = home.publish(FIRMWARE, attestations=[home.upload(attestation())]).get_json()
    viewer = home.person("viewer@fleet.example.com", "viewer")
    path = f"/artifacts/{artifact['id']}/attestations"
    assert home.call("GET", path, token=viewer).status_code == 200
    answer = home.call("GET", f"/attestations/{artifact['attestations'][0]['id']}", token=viewer)
    assert answer.status_code == 200
    answer.close()
    refused = home.call("PUT", path, data=attestation(), token=viewer)
    assert (refused.status_code, refused.get_json()["error"]["permission"]) == (403, "attestations:write")


def test_an_unknown_attestation_is_404(home: Home) -> None:
    answer = home.call("GET", "/attestations/att_01JD3ZZZZZZZZZZZZZZZZZZZZZ")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (404, "attestation_not_found")


def test_a_batch_signs_attestations_too(home: Home) -> None:
    item = {"upload_id": home.upload(FIRMWARE), "product": "fw", "version": "1", "file_name": "fw.bin"}
    item["attestations"] = [home.upload(attestation())]  # type: ignore[assignment]  # the other members are texts
    answer = home.call("POST", "/artifacts/batch", {"items": [item]})
    assert answer.status_code == 200, answer.text
    artifact = answer.get_json()["items"][0]["artifact"]
    listed = home.call("GET", f"/artifacts/{artifact['id']}/attestations").get_json()["items"]
    assert [one["target_path"] for one in listed] == ["fw/1/any/fw.bin.att.0.dsse"]


def test_artifacts_are_found_by_their_digest(home: Home) -> None:
    home.publish(FIRMWARE)
    home.publish(b"firmware two", version="2.0.0")
    digest = hashlib.sha256(FIRMWARE).hexdigest()
    items = home.call("GET", f"/artifacts?sha256={digest}").get_json()["items"]
    assert [one["version"] for one in items] == ["1.0.0"]
