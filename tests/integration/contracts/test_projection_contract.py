"""What ``repo_signing.ports.Projection`` promises: the same lines against the simulator, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from evidence.model import REPOSITORY, Actor, ActorKind, AuditEvent
from repo_signing.model import ArtifactRecord, AttestationRecord, Attester, SbomRecord, Withdrawal, Yank
from repo_signing.ports import CountedProjection
from store.artifacts import ArtifactIndex
from store.audit import AuditLog
from store.database import Database
from store.errors import UnknownArtifact
from tests.simulators.projection import ProjectionSimulator

NOON = datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=UTC)
CI = Actor(ActorKind.SERVICE, "usr_CI", "ci", "key_1")


@dataclass
class Subject:
    """A projection, and what it takes to look into it."""

    projection: CountedProjection
    at_path: Callable[[str], ArtifactRecord | None]
    events: Callable[[], Sequence[AuditEvent]]


@pytest.fixture(params=["simulator", "sqlite", "postgresql"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "simulator":
        simulator = ProjectionSimulator()
        yield Subject(simulator, simulator.rows.get, lambda: simulator.events)
        return
    database = Database(request.getfixturevalue(f"{request.param}_database_url"))
    index = ArtifactIndex(database, "acme")

    def at_path(path: str) -> ArtifactRecord | None:
        try:
            return index.at_path(path)
        except UnknownArtifact:
            return None

    yield Subject(index, at_path, lambda: [one.event for one in AuditLog(database).events("acme")])
    database.close()


def test_a_new_index_is_empty(subject: Subject) -> None:
    assert subject.projection.projected_serial() == 0
    assert subject.projection.artifact_count() == 0


def test_what_is_projected_is_read_back_whole(subject: Subject) -> None:
    subject.projection.project(7, [FULL], [])
    assert subject.at_path(FULL.path) == FULL
    assert subject.projection.projected_serial() == 7
    assert subject.projection.artifact_count() == 1


def test_an_artifact_is_published_once_and_then_replaced(subject: Subject) -> None:
    subject.projection.project(7, [FULL], [])
    yanked = replace(
        FULL,
        yanked=Yank(reason="bricks devices", by=CI, at=NOON),
        notes="do not use",
        sboms=(),
        attestations=(),
        serial=8,
    )
    yank = AuditEvent("artifact.yanked", FULL.id, CI, NOON, {"reason": "bricks devices"})
    subject.projection.project(8, [yanked], [yank])
    assert subject.at_path(FULL.path) == yanked
    assert subject.projection.projected_serial() == 8
    assert subject.projection.artifact_count() == 1
    assert [event.tag for event in subject.events()] == ["artifact.published", "artifact.yanked"]


def test_a_withdrawn_artifact_keeps_its_row(subject: Subject) -> None:
    subject.projection.project(7, [FULL], [])
    gone = replace(FULL, withdrawn=Withdrawal(reason="leaks", by=CI, at=NOON, revoked=True), serial=8)
    subject.projection.project(8, [gone], [])
    assert subject.at_path(FULL.path) == gone
    assert subject.projection.artifact_count() == 1


def test_the_published_event_tells_what_was_published_and_by_whom(subject: Subject) -> None:
    subject.projection.project(7, [FULL], [])
    (event,) = subject.events()
    assert (event.tag, event.subject, event.by, event.at) == ("artifact.published", FULL.id, CI, NOON)
    assert event.data["path"] == "player/2.4.1/linux-arm64/player.tar"
    assert event.data["serial"] == 7


def test_projecting_the_same_again_changes_nothing(subject: Subject) -> None:
    subject.projection.project(7, [FULL], [])
    subject.projection.project(7, [FULL], [])
    assert subject.at_path(FULL.path) == FULL
    assert [event.tag for event in subject.events()] == ["artifact.published"]


def test_a_serial_that_is_not_higher_leaves_the_serial(subject: Subject) -> None:
    subject.projection.project(7, [FULL], [])
    repaired = AuditEvent("repository.repaired", "acme", REPOSITORY, NOON)
    subject.projection.project(7, [], [repaired])
    subject.projection.project(5, [], [])
    assert subject.projection.projected_serial() == 7
    assert [event.tag for event in subject.events()] == ["artifact.published", "repository.repaired"]


def test_events_come_after_what_was_published(subject: Subject) -> None:
    note = AuditEvent("artifact.noted", FULL.id, CI, NOON)
    second = replace(FULL, id="art_2", path="player/2.4.1/any/player.tar", platform="any", sboms=(), attestations=())
    subject.projection.project(7, [FULL, second], [note])
    told = [(event.tag, event.subject) for event in subject.events()]
    assert told == [("artifact.published", "art_1"), ("artifact.published", "art_2"), ("artifact.noted", "art_1")]


def test_a_cleared_index_is_empty_and_can_be_made_anew(subject: Subject) -> None:
    subject.projection.project(7, [FULL], [])
    subject.projection.clear()
    assert subject.projection.projected_serial() == 0
    assert subject.projection.artifact_count() == 0
    assert subject.at_path(FULL.path) is None
    subject.projection.project(7, [FULL], [])
    assert subject.at_path(FULL.path) == FULL
    assert subject.projection.projected_serial() == 7


FULL = ArtifactRecord(
    id="art_1",
    path="player/2.4.1/linux-arm64/player.tar",
    length=5_000_000_000,
    sha256="ab" * 32,
    product="player",
    version="2.4.1",
    platform="linux-arm64",
    channel="stable",
    file_name="player.tar",
    publisher=CI,
    created_at=NOON,
    notes="Größer, schneller",
    labels={"build": "1234", "branch": "main"},
    security=True,
    sboms=(
        SbomRecord(
            id="sbm_1",
            path="player/2.4.1/linux-arm64/player.tar.sbom.0.cyclonedx-json",
            length=512,
            sha256="cd" * 32,
            format="cyclonedx-json",
            spec_version="1.6",
            components=12,
            media_type="application/vnd.cyclonedx+json; version=1.6",
        ),
        SbomRecord(
            id="sbm_0",
            path="player/2.4.1/linux-arm64/player.tar.sbom.1.cyclonedx-xml",
            length=1024,
            sha256="ef" * 32,
            format="cyclonedx-xml",
            spec_version="1.4",
            components=3,
            media_type="application/vnd.cyclonedx+xml; version=1.4",
        ),
    ),
    serial=7,
    attestations=(
        AttestationRecord(
            id="att_2",
            path="player/2.4.1/linux-arm64/player.tar.att.0.sigstore-bundle",
            length=6,
            sha256="01" * 32,
            kind="sigstore-bundle",
            media_type="application/vnd.dev.sigstore.bundle.v0.3+json",
            state="verified",
            subject_matches=True,
            verified_by=(Attester(identity="ci@example.com", issuer="https://issuer.example"), Attester(keyid="k1")),
            predicate_type="https://slsa.dev/provenance/v1",
            builder="https://builder.example",
            source="git+https://git.example/app",
            source_digest="sha1:0123",
        ),
        AttestationRecord(
            id="att_1",
            path="player/2.4.1/linux-arm64/player.tar.att.1.dsse",
            length=5,
            sha256="ef" * 32,
            kind="dsse",
            media_type="application/vnd.dsse.envelope.v1+json",
            state="failed",
            subject_matches=False,
            reason="no signature is of a given key; 1 tried",
        ),
    ),
)
