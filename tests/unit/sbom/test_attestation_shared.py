"""Attestations others made: cosign's envelope, bundles of Sigstore's staging instance. Verified here, offline."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbom.attestation import read_attestation
from sbom.attestation_dsse import load_public_key
from sbom.attestation_model import (
    AttestationFacts,
    AttestationSubject,
    Provenance,
    SigstoreIdentity,
    SigstorePolicy,
    VerifiedBy,
)
from sbom.errors import InvalidTrust, SbomError

DATA = Path(__file__).parents[4] / "shared" / "data" / "attestations"
ALPINE = "4edbd2beb5f78b1014028f4fbb99f3237d9561100b6881aabbf5acce2c4f9454"
COSIGN_KEY = "8930d0fdc1698350ba158afc609b2781db8c4aaeda8bf5a6d435f58e18248819"
# Of bundle_v3.txt and of the a.txt that the provenance is about.
SIGNED_TEXT = "5e6ae9de58c1177bea615b4fcbfb2fd688e8c4b51c2e56b6a38e817833ec24a2"
BUILT_TEXT = "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"
ELSEWHERE = "9b469fc9761e8b933073b62725fbc98b549c3314199ded71cc8b286ef2c6fb9b"

PERSON = SigstoreIdentity(identity="william@yossarian.net", issuer="https://github.com/login/oauth")
WORKFLOW = SigstoreIdentity(
    identity="https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
    issuer="https://token.actions.githubusercontent.com",
)
ALEX = SigstoreIdentity(identity="alex.cameron@trailofbits.com", issuer="https://accounts.google.com")


@pytest.fixture(scope="module", autouse=True)
def _data_is_there() -> None:
    if DATA.is_dir():
        return
    message = "shared test data is missing: expected ../shared/data beside the project"
    if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
        pytest.fail(message)
    pytest.skip(message)


def trusted_root(host: str = "tuf-repo-cdn.sigstage.dev") -> Path:
    folder = f"https%3A%2F%2F{host}"
    return Path(str(files("sigstore"))) / "_store" / folder / "trusted_root.json"


def policy(*identities: SigstoreIdentity, root: Path | None = None) -> SigstorePolicy:
    return SigstorePolicy(identities=identities or (PERSON, WORKFLOW), trusted_root=root or trusted_root())


def read_envelope(name: str, *keys: str) -> AttestationFacts:
    loaded = [load_public_key((DATA / key).read_bytes()) for key in keys]
    return read_attestation(DATA / name, artifact_sha256=ALPINE, keys=loaded)


def bundle(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DATA / name).read_bytes())
    return document


def read_bundle(document: dict[str, Any], sha256: str, trust: SigstorePolicy | None = None) -> AttestationFacts:
    return read_attestation(json.dumps(document).encode(), artifact_sha256=sha256, sigstore_policy=trust or policy())


# Envelopes.


def test_an_envelope_is_verified_with_its_key() -> None:
    assert read_envelope("alpine-cyclonedx.dsse.json", "wrong-key.pub", "cosign.pub") == AttestationFacts(
        kind="dsse",
        media_type="application/vnd.dsse.envelope.v1+json",
        state="verified",
        verified_by=(VerifiedBy(keyid=COSIGN_KEY),),
        predicate_type="https://cyclonedx.org/bom",
        subjects=(AttestationSubject(name=None, sha256=ALPINE),),
        subject_count=1,
        subject_matches=True,
    )


def test_an_envelope_fails_with_another_key() -> None:
    assert read_envelope("alpine-cyclonedx.dsse.json", "wrong-key.pub").state == "failed"


def test_a_tampered_envelope_fails_with_its_key() -> None:
    assert read_envelope("alpine-cyclonedx-TAMPERED.dsse.json", "cosign.pub") == AttestationFacts(
        kind="dsse",
        media_type="application/vnd.dsse.envelope.v1+json",
        state="failed",
        reason="no signature is of a given key; 1 tried",
    )


# Bundles.


def test_a_bundle_that_signs_the_artifact_is_verified() -> None:
    assert read_bundle(bundle("bundle_v3.txt.sigstore"), SIGNED_TEXT) == AttestationFacts(
        kind="sigstore-bundle",
        media_type="application/vnd.dev.sigstore.bundle.v0.3+json",
        state="verified",
        verified_by=(VerifiedBy(identity=PERSON.identity, issuer=PERSON.issuer),),
        subjects=(AttestationSubject(name=None, sha256=SIGNED_TEXT),),
        subject_count=1,
        subject_matches=True,
    )


def test_a_bundle_of_provenance_in_a_log_of_the_second_kind_is_verified() -> None:
    assert read_bundle(bundle("a.dsse.staging-rekor-v2.txt.sigstore.json"), BUILT_TEXT) == AttestationFacts(
        kind="sigstore-bundle",
        media_type="application/vnd.dev.sigstore.bundle.v0.3+json",
        state="verified",
        verified_by=(VerifiedBy(identity=WORKFLOW.identity, issuer=WORKFLOW.issuer),),
        predicate_type="https://slsa.dev/provenance/v1",
        subjects=(AttestationSubject(name="a.txt", sha256=BUILT_TEXT),),
        subject_count=1,
        subject_matches=True,
        provenance=Provenance(
            slsa="1",
            builder_id="https://github.com/sigstore-conformance/rekor2-dsse-hashedrekord-regen",
            build_type="https://github.com/sigstore-conformance/rekor2-dsse-hashedrekord-regen",
            source=None,
            source_digest=None,
        ),
    )


def test_verified_provenance_of_another_artifact_does_not_match() -> None:
    facts = read_bundle(bundle("a.dsse.staging-rekor-v2.txt.sigstore.json"), SIGNED_TEXT)
    assert (facts.state, facts.subject_matches) == ("verified", False)


def test_a_bundle_of_another_artifact_fails() -> None:
    facts = read_bundle(bundle("bundle_v3.txt.sigstore"), BUILT_TEXT)
    assert (facts.state, facts.reason) == ("failed", "Sigstore verification failed: Bundle message digest mismatch")


def test_a_bundle_without_log_entry_fails() -> None:
    facts = read_bundle(bundle("bundle_no_log_entry.txt.sigstore"), ELSEWHERE, policy(ALEX))
    assert facts == AttestationFacts(
        kind="sigstore-bundle",
        media_type="application/vnd.dev.sigstore.bundle+json;version=0.1",
        state="failed",
        reason="Sigstore verification failed: expected exactly one log entry in bundle",
    )


@pytest.mark.parametrize(
    "identities",
    [
        (WORKFLOW,),
        (SigstoreIdentity(identity=PERSON.identity, issuer=WORKFLOW.issuer),),
        (SigstoreIdentity(identity="yossarian.net", issuer=PERSON.issuer),),
    ],
)
def test_an_identity_nobody_trusts_fails(identities: tuple[SigstoreIdentity, ...]) -> None:
    facts = read_bundle(bundle("bundle_v3.txt.sigstore"), SIGNED_TEXT, policy(*identities))
    assert (facts.state, facts.reason) == (
        "failed",
        "Sigstore verification failed: william@yossarian.net is none of the 1 trusted identities, or of its issuer",
    )


def test_no_trusted_identity_trusts_nobody() -> None:
    nobody = SigstorePolicy(identities=(), trusted_root=trusted_root())
    assert read_bundle(bundle("bundle_v3.txt.sigstore"), SIGNED_TEXT, nobody).state == "failed"


def test_a_bundle_of_another_instance_fails() -> None:
    production = policy(root=trusted_root("tuf-repo-cdn.sigstore.dev"))
    assert read_bundle(bundle("bundle_v3.txt.sigstore"), SIGNED_TEXT, production).state == "failed"


def test_without_a_policy_a_bundle_is_anybodys_claim() -> None:
    path = DATA / "bundle_v3.txt.sigstore"
    facts = read_attestation(path, artifact_sha256=BUILT_TEXT)
    assert (facts.state, facts.subject_matches) == ("unverified", False)
    assert facts.reason == "no trusted identity was given to verify a Sigstore bundle with"
    assert facts.subjects == (AttestationSubject(name=None, sha256=SIGNED_TEXT),)


def test_a_trusted_root_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text('{"mediaType": "x"}')
    for path in (tmp_path / "root.json", tmp_path / "missing.json"):
        with pytest.raises(InvalidTrust, match=r"\.json is no Sigstore trusted root"):
            read_bundle(bundle("bundle_v3.txt.sigstore"), SIGNED_TEXT, policy(root=path))


@pytest.fixture
def _without_sigstore(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sigstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sigstore", None)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("_without_sigstore")
def test_without_the_library_a_bundle_is_unverified_and_says_what_to_install() -> None:
    unread = SigstorePolicy(identities=(WORKFLOW,), trusted_root=Path("trusted_root.json"))
    facts = read_bundle(bundle("a.dsse.staging-rekor-v2.txt.sigstore.json"), BUILT_TEXT, unread)
    assert (facts.state, facts.reason) == (
        "unverified",
        "the library sigstore is not installed; install wavegate with its extra [sigstore]",
    )
    assert (facts.predicate_type, facts.subject_matches) == ("https://slsa.dev/provenance/v1", True)


# What somebody in between may do to a bundle.


def test_a_changed_payload_fails() -> None:
    document = bundle("a.dsse.staging-rekor-v2.txt.sigstore.json")
    statement = base64.b64decode(document["dsseEnvelope"]["payload"]).replace(b"a.txt", b"b.txt")
    document["dsseEnvelope"]["payload"] = base64.b64encode(statement).decode()
    assert read_bundle(document, BUILT_TEXT).state == "failed"


def test_a_changed_signature_fails() -> None:
    document = bundle("bundle_v3.txt.sigstore")
    signature = bytearray(base64.b64decode(document["messageSignature"]["signature"]))
    signature[-1] ^= 1
    document["messageSignature"]["signature"] = base64.b64encode(signature).decode()
    assert read_bundle(document, SIGNED_TEXT).state == "failed"


def test_the_certificate_of_another_bundle_fails() -> None:
    document = bundle("bundle_v3.txt.sigstore")
    other = bundle("a.dsse.staging-rekor-v2.txt.sigstore.json")
    document["verificationMaterial"]["certificate"] = other["verificationMaterial"]["certificate"]
    assert read_bundle(document, SIGNED_TEXT).state == "failed"


def test_a_second_envelope_under_the_other_spelling_is_not_told_as_verified() -> None:
    # Readers of the same protobuf JSON may take dsse_envelope for dsseEnvelope.
    document = bundle("a.dsse.staging-rekor-v2.txt.sigstore.json")
    forged = json.loads(json.dumps(document["dsseEnvelope"]))
    forged["payload"] = base64.b64encode(
        json.dumps(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "predicateType": "https://forged.invalid",
                "subject": [{"digest": {"sha256": SIGNED_TEXT}}],
            }
        ).encode()
    ).decode()
    genuine = document["dsseEnvelope"]
    for under_json_name, under_field_name in ((genuine, forged), (forged, genuine)):
        facts = read_bundle(
            document | {"dsseEnvelope": under_json_name, "dsse_envelope": under_field_name}, SIGNED_TEXT
        )
        assert facts.predicate_type != "https://forged.invalid"
        assert facts.subject_matches is False


def test_a_bundle_that_claims_a_key_of_its_own_is_left_to_the_given_keys() -> None:
    document = bundle("a.dsse.staging-rekor-v2.txt.sigstore.json")
    document["verificationMaterial"] = {"publicKey": {"hint": "cosign"}}
    document["dsseEnvelope"] = bundle("alpine-cyclonedx.dsse.json")
    data = json.dumps(document).encode()
    key = load_public_key((DATA / "cosign.pub").read_bytes())
    wrong = load_public_key((DATA / "wrong-key.pub").read_bytes())
    states = [
        read_attestation(data, artifact_sha256=ALPINE, keys=keys, sigstore_policy=policy()).state
        for keys in ([], [wrong], [key])
    ]
    assert states == ["unverified", "failed", "verified"]


def test_a_signature_of_the_artifact_by_a_key_is_left_unverified() -> None:
    document = bundle("bundle_v3.txt.sigstore")
    document["verificationMaterial"] = {"publicKey": {"hint": "cosign"}}
    facts = read_bundle(document, SIGNED_TEXT)
    assert (facts.state, facts.reason) == (
        "unverified",
        "signatures of the artifact itself by a key are not verified",
    )


def _places(value: Any, under: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield (*under, key)
        yield from _places(inner, (*under, key))


_JUNK: st.SearchStrategy[Any] = (
    st.none() | st.integers() | st.text(max_size=6) | st.just([]) | st.just({}) | st.just("AAAA")
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_bundle_with_anything_in_one_place_is_answered_and_never_verified_for_another(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["bundle_v3.txt.sigstore", "a.dsse.staging-rekor-v2.txt.sigstore.json"]))
    document = bundle(name)
    *above, last = data.draw(st.sampled_from(list(_places(document))))
    holder: Any = document
    for key in above:
        holder = holder[key]
    holder[last] = data.draw(_JUNK)
    try:
        facts = read_bundle(document, ELSEWHERE)
    except SbomError:
        return
    assert facts.state in ("verified", "unverified", "failed")
    assert facts.subject_matches is False


# What the tests themselves lean on.


def test_the_library_still_ships_the_staging_root_where_we_look() -> None:
    assert trusted_root().is_file(), version("sigstore")


def test_every_shared_attestation_is_named_in_this_file() -> None:
    here = Path(__file__).read_text()
    texts = {"a.dsse.staging-rekor-v2.txt", "bundle_no_log_entry.txt", "bundle_v3.txt"}  # what was signed
    assert [path.name for path in DATA.iterdir() if f'"{path.name}"' not in here and path.name not in texts] == []
