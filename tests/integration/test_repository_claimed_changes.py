"""What is said of a claimed product's artifacts changes by its team's own keys, as they were published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from repo_signing.errors import ArtifactWithdrawn, DraftMoved, InvalidDraft, UnknownTarget
from repo_signing.model import ArtifactRecord, NewArtifact
from repo_signing.offline import OfflineDraft
from repo_signing.repository import SignedRepository
from repo_signing.team_drafts import amend, attach, take_out, yank
from repo_signing.withdrawal import revocations_path
from tests.integration.test_repository_claims import OLD, Team, drafted
from tests.simulators.key_holders import sign_all
from tests.simulators.repository import ANN, attestation_upload, sbom_upload, staged
from tests.simulators.repository_faults import Crash, Faults, FaultyProjection, FaultyStorage


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path).make_claim()


def edited(repository: SignedRepository, team: Team, edit: Mapping[str, Any]) -> OfflineDraft:
    _, draft = repository.drafts.draft_edit(OLD, edit, by=ANN, now=team.home.now)
    assert draft is not None
    return draft


def found(team: Team) -> ArtifactRecord:
    record = team.home.open().find(OLD)
    assert record is not None
    return record


def tags(team: Team) -> list[str]:
    return [one.tag for one in team.home.projection.events if one.tag.startswith("artifact.")]


def test_a_yank_waits_for_the_team_and_is_told_once(team: Team) -> None:
    repository = team.home.open()
    draft = edited(repository, team, yank("breaks  the\npump"))
    assert draft.title == f"yank {OLD}"
    assert draft.parts[0].difference[-1] == f"! {OLD}: the record changes"
    assert edited(repository, team, yank("breaks  the\npump")).id == draft.id, "asked again, it is the one that waits"
    assert found(team).yanked is None
    assert sign_all(repository.drafts, draft, [team.dan], team.home.now) is not None
    standing = found(team).yanked
    assert standing is not None
    assert (standing.reason, standing.by) == ("breaks the pump", ANN)
    assert tags(team).count("artifact.yanked") == 1
    team.check_index()
    assert repository.drafts.draft_edit(OLD, yank("again"), by=ANN, now=team.home.now)[1] is None
    assert team.client("follower").fetch(OLD) == b"app 1.0"
    assert repository.check(now=team.home.now) == []


def test_notes_sboms_and_attestations_of_a_claimed_artifact_change(team: Team) -> None:
    repository = team.home.open()
    for change in (
        amend("two\nlines", {"site": "b"}),
        attach(sbom_upload(repository, b"another sbom")),
        attach(attestation_upload(repository, b"who built it")),
    ):
        assert sign_all(repository.drafts, edited(repository, team, change), [team.eve], team.home.now) is not None
    record = found(team)
    assert (record.notes, record.labels) == ("two\nlines", {"site": "b"})
    assert team.client("follower").fetch(f"{OLD}.sbom.1.cyclonedx-json") == b"another sbom"
    assert team.client("follower").fetch(f"{OLD}.att.0.dsse") == b"who built it"
    assert tags(team)[-3:] == ["artifact.amended", "artifact.sbom.attached", "artifact.attested"]
    team.check_index()
    assert repository.check(now=team.home.now) == []


@pytest.mark.parametrize("make", [sbom_upload, attestation_upload], ids=["SBOM", "attestation"])
def test_what_waits_to_be_attached_is_not_drafted_twice_and_keeps_its_id(team: Team, make: Any) -> None:
    repository = team.home.open()
    shown = []
    for _ in range(2):
        edit = attach(make(repository, b"another one"))
        record, draft = repository.drafts.draft_edit(OLD, edit, by=ANN, now=team.home.now)
        shown.append(record)
    assert shown[0] == shown[1]
    assert len(shown[0].sboms) + len(shown[0].attestations) == 2
    [waiting] = repository.drafts.all()
    assert waiting == draft
    sign_all(repository.drafts, waiting, [team.dan], team.home.now)
    assert found(team) == shown[0]


def test_two_changes_of_one_artifact_take_nothing_back_from_each_other(team: Team) -> None:
    repository = team.home.open()
    notes, yanked = edited(repository, team, amend("notes", None)), edited(repository, team, yank("bad"))
    sign_all(repository.drafts, notes, [team.dan], team.home.now)
    with pytest.raises(DraftMoved):
        sign_all(repository.drafts, yanked, [team.dan], team.home.now)
    rebased = repository.drafts.rebase(yanked.id, now=team.home.now)
    assert sign_all(repository.drafts, rebased, [team.dan], team.home.now) is not None
    assert found(team).notes == "notes"
    assert found(team).yanked is not None
    late = edited(repository, team, amend("later", None))
    sign_all(repository.drafts, edited(repository, team, take_out("bad", revoke=False)), [team.dan], team.home.now)
    with pytest.raises(ArtifactWithdrawn):
        repository.drafts.rebase(late.id, now=team.home.now)


@pytest.mark.parametrize("revoke", [False, True], ids=["withdrawn", "revoked"])
def test_the_team_signs_an_artifact_away_and_the_server_keeps_the_record(team: Team, revoke: bool) -> None:
    repository = team.home.open()
    draft = edited(repository, team, take_out("bad", revoke=revoke))
    assert draft.parts[0].difference[-1] == f"- {OLD}"
    assert team.client("follower").fetch(OLD) == b"app 1.0"
    assert sign_all(repository.drafts, draft, [team.dan], team.home.now) is not None
    assert repository.find(OLD) is None
    assert team.client("new").fetch(OLD) is None
    record = team.home.projection.rows[OLD]
    assert record.withdrawn is not None
    assert (record.withdrawn.reason, record.withdrawn.revoked) == ("bad", revoke)
    assert not repository._blobs.path(record.sha256).exists()
    assert (team.home.repository_folder / "quarantine" / record.sha256).is_file()
    listed = team.client("new").fetch(revocations_path("app"))
    assert (listed is not None) == revoke
    if listed is not None:
        assert [one["path"] for one in orjson.loads(listed)["revoked"]] == [OLD]
    assert tags(team)[-1] == ("artifact.revoked" if revoke else "artifact.withdrawn")
    if not revoke:  # what is withdrawn is the server's own to revoke
        repository.withdraw(OLD, reason="worse", by=ANN, now=team.home.now, revoke=True)
        assert team.client("new").fetch(revocations_path("app")) is not None
    with pytest.raises(ArtifactWithdrawn):
        drafted(repository, team, "1.0", b"app 1.0")
    assert repository.check(now=team.home.now) == []


def test_a_crash_anywhere_in_a_withdrawal_is_healed(team: Team, tmp_path: Path) -> None:
    import copy
    import shutil

    draft = edited(team.home.open(), team, take_out("bad", revoke=True))
    signatures = team.dan.signatures(draft)

    def run(number: int, at: int | None) -> tuple[Team, Faults]:
        case = copy.copy(team)
        case.folder = tmp_path / f"case-{number}"
        shutil.copytree(team.home.folder, case.folder / "home", symlinks=True)
        case.home = type(team.home)(
            case.folder / "home", copy.deepcopy(team.home.projection), team.home.root, team.home.now
        )
        faults = Faults(at)
        opened = case.home.open(FaultyStorage(faults), FaultyProjection(case.home.projection, faults))
        if at is None:
            opened.drafts.sign(draft.id, signatures, now=case.home.now)
        else:
            with pytest.raises(Crash):
                opened.drafts.sign(draft.id, signatures, now=case.home.now)
        return case, faults

    whole, counted = run(0, None)
    assert whole.client("new").fetch(OLD) is None
    assert len(counted.steps) > 20
    for at in range(len(counted.steps)):
        case, _ = run(at + 1, at)
        healed = case.home.open()
        healed.recover(now=case.home.now)
        if healed.drafts.all():  # it died before the signature was kept
            healed.drafts.sign(draft.id, signatures, now=case.home.now)
        assert healed.find(OLD) is None
        assert case.client("new").fetch(OLD) is None
        assert tags(case).count("artifact.revoked") == 1
        healed.recover(now=case.home.now)
        assert healed.check(now=case.home.now) == []
        shutil.rmtree(case.folder)


def test_a_push_that_is_repeated_adds_what_the_waiting_draft_lacks(tmp_path: Path) -> None:
    team = Team(tmp_path, threshold=2)
    repository = team.home.open()
    sign_all(repository.drafts, team.claim, [team.targets, team.dan, team.eve], team.home.now)

    def pushed(**beside: Any) -> OfflineDraft:
        new = NewArtifact(
            staged=staged(repository, b"app 2.0"), product="app", version="2.0", platform="linux", channel="stable",
            file_name="app.bin", publisher=ANN, **beside,
        )  # fmt: skip
        record, draft = repository.drafts.draft_publish(new, now=team.home.now)
        assert draft is not None
        assert record.id == ids.setdefault("record", record.id)
        return draft

    ids: dict[str, str] = {}
    first = pushed()
    assert sign_all(repository.drafts, first, [team.dan], team.home.now) is None
    both = pushed(sboms=(sbom_upload(repository, b"sbom"),), attestations=(attestation_upload(repository, b"att"),))
    assert both.id == first.id
    assert both.parts[0].signatures == {}, "they were of other bytes"
    again = pushed(sboms=(sbom_upload(repository, b"sbom"),))
    assert again == both
    assert sign_all(repository.drafts, both, [team.dan, team.eve], team.home.now) is not None
    client = team.client("new")
    assert client.fetch("app/2.0/linux/app.bin") == b"app 2.0"
    assert client.fetch("app/2.0/linux/app.bin.sbom.0.cyclonedx-json") == b"sbom"
    assert client.fetch("app/2.0/linux/app.bin.att.0.dsse") == b"att"
    assert tags(team).count("artifact.published") == 2
    assert "artifact.sbom.attached" not in tags(team)
    team.check_index()


@pytest.mark.parametrize("edit", [yank("x"), amend("x", None), take_out("x", revoke=True)], ids=lambda one: one["verb"])
def test_what_is_not_there_or_not_claimed_is_refused(team: Team, edit: dict[str, Any]) -> None:
    repository = team.home.open()
    with pytest.raises(UnknownTarget):
        repository.drafts.draft_edit("app/9/linux/app.bin", edit, by=ANN, now=team.home.now)
    with pytest.raises(InvalidDraft, match="'lib' is not claimed; the server signs the change itself"):
        repository.drafts.draft_edit("lib/9/linux/app.bin", edit, by=ANN, now=team.home.now)
    assert repository.drafts.all() == []
