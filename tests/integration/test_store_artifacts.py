"""What the index answers beyond the projector's port: one artifact, lists, SBOMs, releases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from evidence.model import Actor, ActorKind, AuditEvent
from repo_signing.model import ArtifactRecord, SbomRecord, Withdrawal, Yank
from rollout.model import ArtifactRef
from store.artifacts import ArtifactFilter, ArtifactIndex, ArtifactState, SqlReleases
from store.audit import AuditLog
from store.database import Database
from store.errors import UnknownArtifact, UnknownSbom
from store.order import Order

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CI = Actor(ActorKind.SERVICE, "usr_CI", "ci", "key_1")


@pytest.fixture
def index(database: Database) -> ArtifactIndex:
    return ArtifactIndex(database, "acme")


def test_an_artifact_is_found_by_id_and_path_in_its_organisation_only(index: ArtifactIndex, database: Database) -> None:
    index.project(1, [an_artifact(1)], [])
    assert index.get("art_1") == an_artifact(1)
    assert index.at_path("player/1/any/p.tar") == an_artifact(1)
    rival = ArtifactIndex(database, "rival")
    with pytest.raises(UnknownArtifact, match="no artifact art_1"):
        rival.get("art_1")
    with pytest.raises(UnknownArtifact):
        rival.at_path("player/1/any/p.tar")
    with pytest.raises(UnknownArtifact):
        rival.sboms_of("art_1")
    with pytest.raises(UnknownSbom, match="no SBOM sbm_1"):
        rival.sbom("sbm_1")
    assert rival.projected_serial() == 0


def test_sboms_are_found_by_artifact_and_by_id(index: ArtifactIndex) -> None:
    index.project(1, [an_artifact(1), replace(an_artifact(2), sboms=())], [])
    assert index.sboms_of("art_1") == (an_sbom(1),)
    assert index.sboms_of("art_2") == ()
    assert index.sbom("sbm_1") == an_sbom(1)
    with pytest.raises(UnknownSbom):
        index.sbom("sbm_2")


def test_artifacts_are_listed_newest_first_filtered_and_paged(index: ArtifactIndex) -> None:
    index.project(
        1,
        [
            an_artifact(1),
            an_artifact(2),
            replace(an_artifact(3), product="shell", path="shell/3/any/p.tar"),
            replace(an_artifact(4), platform="linux-arm64", channel="beta"),
        ],
        [],
    )

    def found(where: ArtifactFilter, after: str | None = None, limit: int = 50) -> list[str]:
        return [one.id for one in index.list(where, after=after, limit=limit)]

    assert found(ArtifactFilter()) == ["art_4", "art_3", "art_2", "art_1"]
    assert found(ArtifactFilter(product="player")) == ["art_4", "art_2", "art_1"]
    assert found(ArtifactFilter(product="player", version="2")) == ["art_2"]
    assert found(ArtifactFilter(platform="linux-arm64")) == ["art_4"]
    assert found(ArtifactFilter(channel="beta", product="shell")) == []
    assert found(ArtifactFilter(), limit=2) == ["art_4", "art_3"]
    assert found(ArtifactFilter(), after="art_3", limit=1) == ["art_2"]
    assert index.list()[2] == an_artifact(2)
    assert index.count() == 4
    by_product = Order.of("-product")
    assert [one.id for one in index.list(order=by_product, limit=2)] == ["art_3", "art_4"]
    assert [one.id for one in index.list(order=by_product, after="art_4 player")] == ["art_2", "art_1"]
    assert index.count(ArtifactFilter(product="player")) == 3


def test_artifacts_are_found_by_what_became_of_them(index: ArtifactIndex) -> None:
    yank = Yank(reason="bricks devices", by=CI, at=NOON)
    gone = Withdrawal(reason='said {"revoked":true} and "revoked":true', by=CI, at=NOON)
    artifacts = [
        an_artifact(1),
        replace(an_artifact(2), yanked=yank),
        replace(an_artifact(3), yanked=yank, withdrawn=gone),
        replace(an_artifact(4), withdrawn=replace(gone, revoked=True)),
    ]
    index.project(1, artifacts, [])
    found = {state.value: [one.id for one in index.list(ArtifactFilter(state=state))] for state in ArtifactState}
    assert found == {"published": ["art_1"], "yanked": ["art_2"], "withdrawn": ["art_3"], "revoked": ["art_4"]}
    assert [index.count(ArtifactFilter(state=state)) for state in ArtifactState] == [1, 1, 1, 1]


def test_a_failed_projection_leaves_nothing(index: ArtifactIndex, database: Database) -> None:
    no_json = AuditEvent("artifact.measured", "art_1", CI, NOON, {"rate": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        index.project(1, [an_artifact(1)], [no_json])
    assert index.projected_serial() == 0
    assert index.count() == 0
    assert AuditLog(database).events("acme") == []


def test_an_index_made_anew_publishes_nothing_twice(index: ArtifactIndex, database: Database) -> None:
    index.project(1, [an_artifact(1)], [])
    index.clear()
    index.project(2, [an_artifact(1), an_artifact(2)], [])
    told = [(one.event.tag, one.event.subject) for one in AuditLog(database).events("acme")]
    assert told == [("artifact.published", "art_1"), ("artifact.published", "art_2")]


def test_clearing_one_organisation_leaves_the_other(index: ArtifactIndex, database: Database) -> None:
    rival = ArtifactIndex(database, "rival")
    index.project(1, [an_artifact(1)], [])
    rival.project(5, [replace(an_artifact(2), path="player/1/any/p.tar")], [])
    index.clear()
    assert (index.count(), index.projected_serial()) == (0, 0)
    assert (rival.count(), rival.projected_serial()) == (1, 5)


def test_thousands_of_artifacts_are_projected_at_once(index: ArtifactIndex) -> None:
    many = [an_artifact(number) for number in range(2_000)]
    index.project(1, many, [])
    index.project(2, [replace(one, serial=2) for one in many], [])
    assert index.count() == 2_000
    assert {one.serial for one in index.list(limit=2_000)} == {2}


def test_a_release_is_its_newest_artifact_for_each_platform(index: ArtifactIndex, database: Database) -> None:
    index.project(
        1,
        [
            replace(an_artifact(1), version="9", path="player/9/any/a"),
            replace(an_artifact(2), version="9", path="player/9/any/b"),
            replace(an_artifact(3), version="9", path="player/9/linux-arm64/a", platform="linux-arm64"),
            replace(an_artifact(4), version="9", path="player/9/linux-riscv/a", platform="linux-riscv", channel="beta"),
            an_artifact(5),
        ],
        [],
    )
    releases = SqlReleases(database)
    assert releases.artifacts("acme", "player", "9", "stable") == {
        "any": ArtifactRef(id="art_2", path="player/9/any/b", length=2, sha256="ab" * 32),
        "linux-arm64": ArtifactRef(id="art_3", path="player/9/linux-arm64/a", length=3, sha256="ab" * 32),
    }
    assert sorted(releases.artifacts("acme", "player", "9", None)) == ["any", "linux-arm64", "linux-riscv"]
    assert releases.artifacts("acme", "player", "10", None) == {}
    assert releases.artifacts("rival", "player", "9", None) == {}


def test_only_yanked_and_withdrawn_artifacts_are_blocked(index: ArtifactIndex, database: Database) -> None:
    yank = Yank(reason="bricks devices", by=CI, at=NOON)
    gone = Withdrawal(reason="leaks keys", by=CI, at=NOON)
    both = replace(an_artifact(3), yanked=yank, withdrawn=gone)
    index.project(1, [an_artifact(1), replace(an_artifact(2), yanked=yank), both], [])
    releases = SqlReleases(database)
    assert releases.blocked("acme", ["art_1", "art_2", "art_3", "art_9"]) == {
        "art_2": "bricks devices",
        "art_3": "leaks keys",
    }
    assert releases.blocked("acme", []) == {}
    assert releases.blocked("rival", ["art_2"]) == {}


def an_artifact(number: int) -> ArtifactRecord:
    return ArtifactRecord(
        id=f"art_{number}",
        path=f"player/{number}/any/p.tar",
        length=number,
        sha256="ab" * 32,
        product="player",
        version=f"{number}",
        platform="any",
        channel="stable",
        file_name="p.tar",
        publisher=CI,
        created_at=NOON,
        sboms=(an_sbom(number),),
        serial=1,
    )


def an_sbom(number: int) -> SbomRecord:
    return SbomRecord(
        id=f"sbm_{number}",
        path=f"player/{number}/any/p.tar.sbom.0.cyclonedx-json",
        length=9,
        sha256="cd" * 32,
        format="cyclonedx-json",
        spec_version="1.6",
        components=2,
        media_type="application/vnd.cyclonedx+json; version=1.6",
    )
