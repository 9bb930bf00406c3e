from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.model import Actor, ActorKind, AuditEvent
from repo_signing.errors import InvalidRecord, RepositoryDamaged
from repo_signing.model import ArtifactRecord, AttestationRecord, Attester, SbomRecord, Yank
from repo_signing.records import (
    artifact_entry,
    attestation_entry,
    is_artifact,
    published,
    read_artifact,
    read_changes,
    sbom_entry,
)

AT = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
ANN = Actor(ActorKind.USER, "usr_ann", "Änn", "key_1")
CLAIMED = AttestationRecord(
    id="att_1",
    path="app/1.0/linux/app.bin.att.0.dsse",
    length=5,
    sha256="ef" * 32,
    kind="dsse",
    media_type="application/vnd.dsse.envelope.v1+json",
    state="unverified",
    subject_matches=False,
)
VERIFIED = AttestationRecord(
    id="att_2",
    path="app/1.0/linux/app.bin.att.1.sigstore-bundle",
    length=6,
    sha256="01" * 32,
    kind="sigstore-bundle",
    media_type="application/vnd.dev.sigstore.bundle.v0.3+json",
    state="verified",
    subject_matches=True,
    verified_by=(Attester(identity="ci@example.com", issuer="https://accounts.example.com"), Attester(keyid="k1")),
    predicate_type="https://slsa.dev/provenance/v1",
    builder="https://builder.example",
    source="git+https://git.example/app",
    source_digest="sha1:0123",
)
SBOM = SbomRecord(
    id="sbm_1",
    path="app/1.0/linux/app.bin.sbom.0.cyclonedx-json",
    length=2,
    sha256="cd" * 32,
    format="cyclonedx-json",
    spec_version="1.6",
    components=3,
    media_type="application/vnd.cyclonedx+json",
)


def record(**changes: object) -> ArtifactRecord:
    fields: dict[str, object] = {
        "id": "art_1",
        "path": "app/1.0/linux/app.bin",
        "length": 7,
        "sha256": "ab" * 32,
        "product": "app",
        "version": "1.0",
        "platform": "linux",
        "channel": "stable",
        "file_name": "app.bin",
        "publisher": ANN,
        "created_at": AT,
        "serial": 4,
    }
    return ArtifactRecord(**(fields | changes))  # type: ignore[arg-type]


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=20)


@given(
    notes=st.lists(printable, max_size=4).map("\n".join),
    labels=st.dictionaries(printable, printable, max_size=3),
    security=st.booleans(),
    yanked=st.none() | st.builds(Yank, reason=printable, by=st.just(ANN), at=st.just(AT)),
    sboms=st.sampled_from([(), (SBOM,)]),
    attestations=st.sampled_from([(), (CLAIMED,), (CLAIMED, VERIFIED)]),
)
def test_a_record_is_read_back_as_it_was_signed(
    notes: str,
    labels: dict[str, str],
    security: bool,
    yanked: Yank | None,
    sboms: tuple[SbomRecord, ...],
    attestations: tuple[AttestationRecord, ...],
) -> None:
    one = record(notes=notes, labels=labels, security=security, yanked=yanked, sboms=sboms, attestations=attestations)
    assert read_artifact(one.path, artifact_entry(one, [])) == one


def test_the_events_of_a_change_are_read_back() -> None:
    event = AuditEvent("artifact.yanked", "art_1", ANN, AT, {"reason": "broken"})
    assert read_changes(artifact_entry(record(), [event])) == [event]
    assert read_changes(artifact_entry(record(), [])) == []


def test_publishing_tells_who_what_and_where() -> None:
    event = published(record(sboms=(SBOM,)))
    assert (event.tag, event.subject, event.by, event.at) == ("artifact.published", "art_1", ANN, AT)
    assert event.data == {
        "path": "app/1.0/linux/app.bin",
        "sha256": "ab" * 32,
        "length": 7,
        "product": "app",
        "version": "1.0",
        "platform": "linux",
        "channel": "stable",
        "sboms": ["cd" * 32],
        "attestations": [],
        "serial": 4,
    }


def test_what_there_is_nothing_to_say_of_is_not_signed() -> None:
    assert "attestations" not in artifact_entry(record(), [])["custom"]
    assert artifact_entry(record(attestations=(CLAIMED,)), [])["custom"]["attestations"] == [
        {
            "id": "att_1",
            "path": "app/1.0/linux/app.bin.att.0.dsse",
            "length": 5,
            "sha256": "ef" * 32,
            "kind": "dsse",
            "media_type": "application/vnd.dsse.envelope.v1+json",
            "state": "unverified",
            "subject_matches": False,
        }
    ]


def test_an_attestation_names_its_artifact_and_is_none() -> None:
    entry = attestation_entry(record(), VERIFIED)
    assert entry == {
        "hashes": {"sha256": "01" * 32},
        "length": 6,
        "custom": {
            "kind": "attestation",
            "artifact": "app/1.0/linux/app.bin",
            "artifact_id": "art_1",
            "id": "att_2",
            "form": "sigstore-bundle",
            "media_type": "application/vnd.dev.sigstore.bundle.v0.3+json",
        },
    }
    assert not is_artifact(entry)


def test_an_sbom_names_its_artifact_and_is_none() -> None:
    entry = sbom_entry(record(), SBOM)
    assert entry["hashes"] == {"sha256": "cd" * 32}
    assert (entry["custom"]["artifact"], entry["custom"]["artifact_id"]) == ("app/1.0/linux/app.bin", "art_1")
    assert is_artifact(artifact_entry(record(), []))
    assert not is_artifact(entry)
    assert not is_artifact({"hashes": {"sha256": "ab" * 32}, "length": 1})


@pytest.mark.parametrize("changes", [{"notes": "\x07"}, {"labels": {"a": "\x00"}}, {"labels": {"\n": "a"}}])
def test_what_cannot_be_signed_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidRecord):
        artifact_entry(record(**changes), [])


def test_a_record_is_at_most_128_kib() -> None:
    with pytest.raises(InvalidRecord, match="at most 131072"):
        artifact_entry(record(notes="x" * 131_072), [])


def test_a_garbled_record_is_damage() -> None:
    entry = artifact_entry(record(), [])
    del entry["custom"]["publisher"]
    with pytest.raises(RepositoryDamaged, match="'publisher'"):
        read_artifact("app/1.0/linux/app.bin", entry)
