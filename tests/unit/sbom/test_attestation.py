"""Attestations made here: in-toto statements of any content, in envelopes signed with keys made for the test."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from sbom.attestation import read_attestation
from sbom.attestation_dsse import load_public_key
from sbom.attestation_model import AttestationFacts, AttestationSubject, Provenance, VerifiedBy
from sbom.errors import AttestationTooLarge, InvalidAttestation, InvalidTrust, UnsupportedAttestation
from sbom.model import SbomLimits

ARTIFACT = "ab" * 32
OTHER = "cd" * 32
TYPE = "application/vnd.in-toto+json"
STATEMENT: dict[str, Any] = {
    "_type": "https://in-toto.io/Statement/v1",
    "predicateType": "https://example.invalid/tested/v1",
    "subject": [{"name": "app.bin", "digest": {"sha256": ARTIFACT}}],
    "predicate": {},
}
SIGNER = CryptoSigner.generate_ed25519()
STRANGER = CryptoSigner.generate_ed25519()


def signed(payload: bytes, *signers: CryptoSigner, keyids: bool = True, payload_type: str = TYPE) -> dict[str, Any]:
    envelope = Envelope(payload, payload_type, {})
    for signer in signers or (SIGNER,):
        envelope.sign(signer)
    document: dict[str, Any] = envelope.to_dict()
    for signature in document["signatures"]:
        if not keyids:
            signature["keyid"] = ""
    return document


def read(document: dict[str, Any] | bytes, *signers: CryptoSigner, **limits: int) -> AttestationFacts:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    keys = [signer.public_key for signer in signers]
    return read_attestation(data, artifact_sha256=ARTIFACT, keys=keys, limits=SbomLimits(**limits))


def read_statement(**members: Any) -> AttestationFacts:
    return read(signed(json.dumps(STATEMENT | members).encode()), SIGNER)


def test_a_signed_statement_tells_its_facts() -> None:
    assert read_statement() == AttestationFacts(
        kind="dsse",
        media_type="application/vnd.dsse.envelope.v1+json",
        state="verified",
        verified_by=(VerifiedBy(keyid=SIGNER.public_key.keyid),),
        reason=None,
        predicate_type="https://example.invalid/tested/v1",
        subjects=(AttestationSubject(name="app.bin", sha256=ARTIFACT),),
        subject_count=1,
        subject_matches=True,
        provenance=None,
    )


def test_without_a_key_a_statement_is_anybodys_claim() -> None:
    facts = read(signed(json.dumps(STATEMENT).encode()))
    assert (facts.state, facts.reason, facts.subject_matches) == (
        "unverified",
        "no public key was given to verify it with",
        True,
    )


def test_of_a_failed_one_nothing_is_told() -> None:
    facts = read(signed(json.dumps(STATEMENT).encode(), STRANGER), SIGNER)
    assert facts == AttestationFacts(
        kind="dsse",
        media_type="application/vnd.dsse.envelope.v1+json",
        state="failed",
        reason="no signature is of a given key; 1 tried",
    )


def test_a_payload_nobody_vouches_for_is_not_even_parsed() -> None:
    assert read(signed(b"\xff no JSON", STRANGER), SIGNER).state == "failed"


@pytest.mark.parametrize("signer", [SIGNER, CryptoSigner.generate_ecdsa()], ids=["ed25519", "ecdsa"])
def test_signatures_without_key_ids_are_tried_with_every_key(signer: CryptoSigner) -> None:
    document = signed(json.dumps(STATEMENT).encode(), signer, keyids=False)
    facts = read(document, STRANGER, signer)
    assert facts.verified_by == (VerifiedBy(keyid=signer.public_key.keyid),)


def test_a_key_id_that_names_another_key_changes_nothing() -> None:
    document = signed(json.dumps(STATEMENT).encode(), STRANGER)
    document["signatures"][0]["keyid"] = SIGNER.public_key.keyid
    assert read(document, SIGNER).state == "failed"


def test_several_signers_are_all_named() -> None:
    document = signed(json.dumps(STATEMENT).encode(), SIGNER, STRANGER, keyids=False)
    assert {one.keyid for one in read(document, STRANGER, SIGNER).verified_by} == {
        SIGNER.public_key.keyid,
        STRANGER.public_key.keyid,
    }


def test_the_payload_type_is_signed_too() -> None:
    document = signed(json.dumps(STATEMENT).encode(), payload_type="text/plain")
    document["payloadType"] = TYPE
    assert read(document, SIGNER).state == "failed"


def test_url_safe_base64_is_read_as_well() -> None:
    document = signed(json.dumps(STATEMENT | {"predicate": {"a": "~~~???>>>"}}).encode())
    for holder, name in ((document, "payload"), (document["signatures"][0], "sig")):
        holder[name] = base64.urlsafe_b64encode(base64.b64decode(holder[name])).decode()
    assert read(document, SIGNER).state == "verified"


def test_a_statement_about_another_artifact_does_not_match() -> None:
    facts = read_statement(subject=[{"name": "b", "digest": {"sha256": OTHER}}, {"digest": {"sha1": "00"}}])
    assert (facts.state, facts.subject_matches) == ("verified", False)
    assert facts.subjects == (AttestationSubject(name="b", sha256=OTHER), AttestationSubject(name=None, sha256=None))


def test_a_digest_of_another_algorithm_never_matches() -> None:
    assert read_statement(subject=[{"digest": {"sha512": ARTIFACT}}]).subject_matches is False


def test_of_many_subjects_all_are_compared_and_the_first_hundred_told() -> None:
    many = [{"digest": {"sha256": OTHER}}] * 150 + [{"digest": {"sha256": ARTIFACT}}]
    facts = read_statement(subject=many)
    assert (facts.subject_matches, facts.subject_count, len(facts.subjects)) == (True, 151, 100)


def test_the_older_statement_is_read() -> None:
    assert read_statement(_type="https://in-toto.io/Statement/v0.1").state == "verified"


def test_provenance_0_2_tells_builder_and_source() -> None:
    facts = read_statement(
        predicateType="https://slsa.dev/provenance/v0.2",
        predicate={
            "builder": {"id": "https://example.invalid/builder"},
            "buildType": "https://example.invalid/make",
            "invocation": {
                "configSource": {
                    "uri": "git+https://example.invalid/app",
                    "digest": {"sha1": "0123"},
                    "entryPoint": "x",
                }
            },
            "materials": [{"uri": "git+https://example.invalid/tool"}],
        },
    )
    assert facts.provenance == Provenance(
        slsa="0.2",
        builder_id="https://example.invalid/builder",
        build_type="https://example.invalid/make",
        source="git+https://example.invalid/app",
        source_digest="sha1:0123",
    )


def test_provenance_0_2_without_configuration_names_its_first_material() -> None:
    facts = read_statement(
        predicateType="https://slsa.dev/provenance/v0.2",
        predicate={"materials": [{"uri": "git+https://example.invalid/app"}]},
    )
    assert facts.provenance == Provenance(
        slsa="0.2", builder_id=None, build_type=None, source="git+https://example.invalid/app", source_digest=None
    )


def test_provenance_1_tells_builder_and_source() -> None:
    facts = read_statement(
        predicateType="https://slsa.dev/provenance/v1",
        predicate={
            "buildDefinition": {
                "buildType": "https://example.invalid/workflow",
                "resolvedDependencies": [
                    {"uri": "git+https://example.invalid/app@refs/heads/main", "digest": {"gitCommit": "4567"}}
                ],
            },
            "runDetails": {"builder": {"id": "https://example.invalid/builder"}},
        },
    )
    assert facts.provenance == Provenance(
        slsa="1",
        builder_id="https://example.invalid/builder",
        build_type="https://example.invalid/workflow",
        source="git+https://example.invalid/app@refs/heads/main",
        source_digest="gitCommit:4567",
    )


@pytest.mark.parametrize("predicate", [{}, {"buildDefinition": 1, "runDetails": []}, {"runDetails": {"builder": "x"}}])
def test_provenance_of_unexpected_types_tells_nothing(predicate: dict[str, Any]) -> None:
    facts = read_statement(predicateType="https://slsa.dev/provenance/v1", predicate=predicate)
    assert facts.provenance == Provenance(slsa="1", builder_id=None, build_type=None, source=None, source_digest=None)


def test_no_control_character_reaches_the_facts() -> None:
    facts = read_statement(subject=[{"name": "a\u202eb\x00", "digest": {"sha256": OTHER}}])
    assert facts.subjects[0].name == "a\\u202eb\\u0000"


# Refusals.


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the attestation: not JSON"),
        (b"[]", "the attestation is a list, an object is expected"),
        (b"{}", "neither a DSSE envelope (payloadType) nor a Sigstore bundle (mediaType)"),
        (b'{"payloadType": "a", "payloadType": "b"}', "the key 'payloadType' twice"),
        (b'{"payloadType": 1}', "payloadType of the envelope is 1, a text is expected"),
        (b'{"payloadType": "application/vnd.in-toto+json"}', "no list of at least one signature"),
        (b'{"payloadType": "application/vnd.in-toto+json", "signatures": []}', "no list of at least one signature"),
        (
            b'{"payloadType": "application/vnd.in-toto+json", "signatures": [{}], "payload": ""}',
            "signatures[0].sig of the envelope is not base64",
        ),
        (
            b'{"payloadType": "application/vnd.in-toto+json", "signatures": [1], "payload": "a"}',
            "payload of the envelope is not base64",
        ),
        (
            b'{"payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "\xc3\xa4"}], "payload": ""}',
            "signatures[0].sig of the envelope is not base64",
        ),
        (b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}', "no verificationMaterial"),
        (
            b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {}}',
            "not exactly one of dsseEnvelope and messageSignature",
        ),
    ],
)
def test_what_is_no_attestation_is_refused_with_its_reason(data: bytes, said: str) -> None:
    with pytest.raises(InvalidAttestation) as refusal:
        read(data)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"predicateType": ""}, 'predicateType is "", a URI is expected'),
        ({"subject": []}, "subject is no list of at least one subject"),
        ({"subject": ["a"]}, "subject[0] has no digest"),
        ({"subject": [{"digest": {}}]}, "subject[0] has no digest"),
        ({"subject": [{"digest": {"sha256": 1}}]}, "subject[0] has no digest"),
        ({"predicate": []}, "the predicate is a list, an object is expected"),
    ],
)
def test_a_signed_statement_that_is_none_is_refused(members: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidAttestation) as refusal:
        read_statement(**members)
    assert said in str(refusal.value)


def test_a_signed_payload_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidAttestation, match="the signed statement: not JSON"):
        read(signed(b"hello"), SIGNER)


@pytest.mark.parametrize(
    "document",
    [
        signed(b"hello", payload_type="text/plain"),
        signed(json.dumps(STATEMENT | {"_type": "https://in-toto.io/Statement/v9"}).encode()),
        signed(json.dumps({"predicateType": "a"}).encode()),
        {"mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"},
        {"mediaType": ["application/vnd.dev.sigstore.bundle.v0.3+json"]},
    ],
)
def test_another_type_is_told_what_is_read(document: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedAttestation, match="read"):
        read(document)


def test_what_is_beyond_a_limit_is_refused() -> None:
    document = signed(json.dumps(STATEMENT | {"predicate": {"a": [[[[1]]]]}}).encode())
    with pytest.raises(AttestationTooLarge, match="longer than 10 bytes"):
        read(document, SIGNER, length=10)
    with pytest.raises(AttestationTooLarge, match="the attestation holds about"):
        read(document, SIGNER, values=5)
    with pytest.raises(AttestationTooLarge, match="nested 6 deep, at most 5"):
        read(document, SIGNER, depth=5)


def test_more_signatures_than_are_tried_are_refused() -> None:
    document = signed(json.dumps(STATEMENT).encode())
    document["signatures"] *= 17
    with pytest.raises(AttestationTooLarge, match="17 signatures, at most 16"):
        read(document, SIGNER)


def test_a_digest_that_is_none_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        read_attestation(b"{}", artifact_sha256=ARTIFACT.upper())


# Keys.


def test_a_public_key_is_loaded_from_pem() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    key = load_public_key(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    payload = json.dumps(STATEMENT).encode()
    signature = private.sign(b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload))
    document = {
        "payloadType": TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    facts = read_attestation(json.dumps(document).encode(), artifact_sha256=ARTIFACT, keys=[key])
    assert facts.verified_by == (VerifiedBy(keyid=key.keyid),)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"hello",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ec.generate_private_key(ec.SECP256K1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_what_is_no_known_public_key_is_refused(pem: bytes) -> None:
    with pytest.raises(InvalidTrust, match="BEGIN PUBLIC KEY"):
        load_public_key(pem)


def test_an_rsa_key_is_a_public_key_too() -> None:
    public = rsa.generate_private_key(65537, 2048).public_key()
    key = load_public_key(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert (key.keytype, key.scheme) == ("rsa", "rsassa-pss-sha256")
