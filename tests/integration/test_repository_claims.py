"""Claimed products: signed by their team's keys alone, and the index never notices who signed."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from repo_signing.errors import DraftMoved, InvalidDraft, InvalidTargetPath, PathTaken, ProductClaimed
from repo_signing.model import NewArtifact
from repo_signing.offline import OfflineDraft
from repo_signing.repository import SignedRepository
from repo_signing.signing import signers_of
from tests.simulators.key_holders import Holder, sign_all
from tests.simulators.repository import (
    ANN,
    RepositoryHome,
    StockClient,
    attestation_upload,
    publish,
    sbom_upload,
    staged,
)
from tests.simulators.repository_faults import Crash, Faults, FaultyProjection, FaultyStorage

OLD, NEW = "app/1.0/linux/app.bin", "app/2.0/linux/app.bin"


class Team:
    """A repository in which ``app`` 1.0 is published and claimed by two people; one signature is enough."""

    def __init__(self, folder: Path, *, threshold: int = 1) -> None:
        self.folder = folder
        self.home = RepositoryHome.create(folder / "home")
        self.dan, self.eve = Holder(), Holder()
        self.targets = Holder.of_laptop(self.home.folder, "targets")
        repository = self.home.open()
        publish(repository, "1.0", self.home.now, sboms=(b"{}",))
        self.client("follower").fetch(OLD)
        self.claim = repository.drafts.claim(
            "app", [self.dan.public, self.eve.public], threshold, by=ANN, now=self.home.now
        )
        self.holders = [self.targets, self.dan, self.eve]

    def client(self, name: str) -> StockClient:
        return StockClient(self.home.open(), self.folder / name, self.home.root)

    def make_claim(self) -> Team:
        sign_all(self.home.open().drafts, self.claim, [self.targets, self.dan], self.home.now)
        return self

    def check_index(self) -> None:
        repository = self.home.open()
        assert self.home.projection.rows == {record.path: record for record in repository.artifacts()}
        told = [str(one.data["path"]) for one in self.home.projection.events if one.tag == "artifact.published"]
        assert sorted(told) == sorted(self.home.projection.rows)


def drafted(repository: SignedRepository, team: Team, version: str, content: bytes = b"app 2.0") -> OfflineDraft:
    new = NewArtifact(
        staged=staged(repository, content),
        product="app",
        version=version,
        platform="linux",
        channel="stable",
        file_name="app.bin",
        publisher=ANN,
        sboms=(sbom_upload(repository, b"sbom of it"),),
        attestations=(attestation_upload(repository, b"attestation of it"),),
    )
    _, draft = repository.drafts.draft_publish(new, now=team.home.now)
    assert draft is not None
    return draft


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def test_a_claim_takes_effect_with_both_signatures_and_moves_what_is_published(team: Team) -> None:
    repository = team.home.open()
    assert [(part.role, part.requirements[0].by) for part in team.claim.parts] == [
        ("targets", "root 1"),
        ("product-app", "targets 3"),
    ]
    assert sign_all(repository.drafts, team.claim, [team.dan], team.home.now) is None
    publish(repository, "1.0", team.home.now, sboms=(b"{}",))  # the same again is no change and moves no base
    assert sign_all(repository.drafts, team.claim, [team.targets], team.home.now) == 4
    for name in ("follower", "new"):
        client = team.client(name)
        assert client.fetch(OLD) == b"app 1.0"
        assert client.fetch(f"{OLD}.sbom.0.cyclonedx-json") == b"{}"
    state = repository._committer.view()
    assert [one["name"] for one in state.role("targets").body["delegations"]["roles"]] == [
        "decisions",
        "brakes",
        "revocations",
        "product-app",
        "releases",
    ]
    assert signers_of(state.raw("product-app")) == [team.dan.keyid]
    assert all(not path.startswith("app/") for path in state.role(state.bin_of(OLD)).body["targets"])
    assert repository.status(now=team.home.now).artifacts == 1
    team.check_index()


def test_the_server_refuses_to_sign_for_a_claimed_product(team: Team) -> None:
    repository = team.make_claim().home.open()
    with pytest.raises(ProductClaimed, match="app is claimed: its artifacts are signed by its team's own keys"):
        publish(repository, "2.0", team.home.now)
    with pytest.raises(ProductClaimed):
        repository.yank(OLD, reason="bad", by=ANN, now=team.home.now)
    assert repository.find(NEW) is None


def test_a_team_publishes_with_its_own_key_and_the_same_push_again_is_one_artifact(team: Team) -> None:
    repository = team.make_claim().home.open()
    draft = drafted(repository, team, "2.0")
    assert drafted(repository, team, "2.0").id == draft.id
    assert "+ app/2.0/linux/app.bin: 7 bytes" in " ".join(draft.parts[0].difference)
    publish(repository, "1.0", team.home.now)
    other = NewArtifact(
        staged=staged(repository, b"x"), product="lib", version="1", platform="any", channel="stable",
        file_name="lib.bin", publisher=ANN,
    )  # fmt: skip
    repository.publish(other, now=team.home.now)  # others go on meanwhile: the draft's number is older than theirs
    assert sign_all(repository.drafts, draft, [team.eve], team.home.now) is not None
    assert team.client("follower").fetch(NEW) == b"app 2.0"
    assert team.client("follower").fetch(f"{NEW}.sbom.0.cyclonedx-json") == b"sbom of it"
    assert team.client("follower").fetch(f"{NEW}.att.0.dsse") == b"attestation of it"
    team.check_index()
    with pytest.raises(PathTaken):
        drafted(repository, team, "2.0", b"other bytes")
    assert repository.check(now=team.home.now) == []


def test_with_a_threshold_of_two_a_push_waits_for_the_second_signature(tmp_path: Path) -> None:
    team = Team(tmp_path, threshold=2)
    repository = team.home.open()
    sign_all(repository.drafts, team.claim, [team.targets, team.dan, team.eve], team.home.now)
    draft = drafted(repository, team, "2.0")
    assert sign_all(repository.drafts, draft, [team.dan, team.dan], team.home.now) is None
    assert team.client("follower").fetch(NEW) is None
    assert sign_all(repository.drafts, draft, [team.eve], team.home.now) is not None
    assert team.client("follower").fetch(NEW) == b"app 2.0"


def test_two_pushes_at_once_are_put_one_after_the_other(team: Team) -> None:
    repository = team.make_claim().home.open()
    first, second = drafted(repository, team, "2.0"), drafted(repository, team, "3.0", b"app 3.0")
    sign_all(repository.drafts, first, [team.dan], team.home.now)
    with pytest.raises(DraftMoved, match="rebase it"):
        sign_all(repository.drafts, second, [team.dan], team.home.now)
    again = repository.drafts.rebase(second.id, now=team.home.now)
    sign_all(repository.drafts, again, [team.dan], team.home.now)
    assert team.client("follower").fetch(NEW) == b"app 2.0"
    assert team.client("follower").fetch("app/3.0/linux/app.bin") == b"app 3.0"
    team.check_index()


def test_an_artifact_published_while_the_claim_is_signed_moves_its_base(team: Team) -> None:
    repository = team.home.open()
    publish(repository, "1.1", team.home.now)
    with pytest.raises(DraftMoved, match="app has got other artifacts"):
        sign_all(repository.drafts, team.claim, [team.targets], team.home.now)
    again = repository.drafts.rebase(team.claim.id, now=team.home.now)
    sign_all(repository.drafts, again, [team.targets, team.eve], team.home.now)
    assert team.client("follower").fetch("app/1.1/linux/app.bin") == b"app 1.1"


def test_a_publish_that_waits_while_the_product_is_claimed_is_refused_not_hidden(team: Team) -> None:
    repository = team.home.open()
    repository.drafts.sign(team.claim.id, team.targets.signatures(team.claim), now=team.home.now)

    with ThreadPoolExecutor(1) as pool:
        waiting = []

        def claim_before_it() -> None:
            waiting.append(pool.submit(publish, repository, "2.0", team.home.now))
            while not repository._committer._waiting:
                time.sleep(0.01)
            repository.drafts.sign(team.claim.id, team.dan.signatures(team.claim), now=team.home.now)

        repository.exclusively(claim_before_it)
        with pytest.raises(ProductClaimed):
            waiting[0].result(timeout=60)
    assert team.client("follower").fetch(OLD) == b"app 1.0"
    assert repository.find(NEW) is None
    team.check_index()


def test_a_team_changes_its_keys_and_gives_its_product_back(team: Team) -> None:
    repository = team.make_claim().home.open()
    fay = Holder()
    draft = repository.drafts.claim("app", [fay.public], 1, by=ANN, now=team.home.now)
    sign_all(repository.drafts, draft, [team.targets, fay], team.home.now)
    assert team.client("follower").fetch(OLD) == b"app 1.0"
    assert repository.drafts.claims()["app"].keyids == (fay.keyid,)
    back = repository.drafts.release("app", by=ANN, now=team.home.now)
    assert sign_all(repository.drafts, back, [team.targets], team.home.now) is not None
    assert repository.drafts.claims() == {}
    publish(repository, "2.0", team.home.now)
    for name in ("follower", "new"):
        assert team.client(name).fetch(OLD) == b"app 1.0"
        assert team.client(name).fetch(NEW) == b"app 2.0"
    state = repository._committer.view()
    assert "product-app" in state.versions, "a name that stood in the snapshot never leaves it"
    assert "product-app" not in state.standing()
    repository.refresh(now=team.home.now, force=True)
    assert repository.check(now=team.home.now) == []
    team.check_index()
    renewed = repository.drafts.claim("app", [fay.public], 1, by=ANN, now=team.home.now)
    sign_all(repository.drafts, renewed, [team.targets, fay], team.home.now)
    assert team.client("follower").fetch(NEW) == b"app 2.0"


def test_claims_that_make_no_sense_are_refused(team: Team) -> None:
    drafts = team.home.open().drafts
    with pytest.raises(InvalidTargetPath, match="reserved"):
        drafts.claim("decisions", [team.dan.public], 1, by=ANN, now=team.home.now)
    with pytest.raises(InvalidDraft, match="would need 2 of 1 keys"):
        drafts.claim("lib", [team.dan.public], 2, by=ANN, now=team.home.now)
    with pytest.raises(InvalidDraft, match="names a key twice"):
        drafts.claim("lib", [team.dan.public, team.dan.public], 1, by=ANN, now=team.home.now)
    with pytest.raises(InvalidDraft, match="'lib' is not claimed"):
        drafts.release("lib", by=ANN, now=team.home.now)


def claiming(team: Team) -> tuple[OfflineDraft, Holder]:
    team.home.open().drafts.sign(team.claim.id, team.targets.signatures(team.claim), now=team.home.now)
    return team.claim, team.dan


def pushing(team: Team) -> tuple[OfflineDraft, Holder]:
    repository = team.make_claim().home.open()
    draft = drafted(repository, team, "2.0")
    repository.refresh(now=team.home.now, force=True)  # the index is beyond the draft's number
    return draft, team.dan


def releasing(team: Team) -> tuple[OfflineDraft, Holder]:
    repository = team.make_claim().home.open()
    return repository.drafts.release("app", by=ANN, now=team.home.now), team.targets


@pytest.mark.parametrize("prepare", [claiming, pushing, releasing])
def test_a_crash_at_any_step_leaves_clients_and_index_whole(
    prepare: Callable[[Team], tuple[OfflineDraft, Holder]], tmp_path: Path
) -> None:
    origin = Team(tmp_path / "origin")
    draft, last = prepare(origin)
    signatures = last.signatures(draft)

    def case(name: str, faults: Faults) -> Team:
        copied = Team.__new__(Team)
        copied.folder = tmp_path / name
        shutil.copytree(origin.folder, copied.folder, symlinks=True)
        projection = copy.deepcopy(origin.home.projection)
        copied.home = RepositoryHome(copied.folder / "home", projection, origin.home.root, origin.home.now)
        opened = copied.home.open(FaultyStorage(faults), FaultyProjection(projection, faults))
        if faults.at is None:
            opened.drafts.sign(draft.id, signatures, now=copied.home.later(seconds=1))
        else:
            with pytest.raises(Crash):
                opened.drafts.sign(draft.id, signatures, now=copied.home.later(seconds=1))
        return copied

    counted = Faults()
    case("counted", counted)
    for at in range(len(counted.steps)):
        team = case(f"at-{at}", Faults(at))
        assert team.client("follower").fetch(OLD) == b"app 1.0"
        assert team.client("new").fetch(OLD) == b"app 1.0"
        repository = team.home.open()
        repository.recover(now=team.home.later(seconds=2))
        if repository.drafts.all():
            repository.drafts.sign(draft.id, signatures, now=team.home.later(seconds=3))
        team.check_index()
        assert repository.check(now=team.home.later(seconds=4)) == []
        client = team.client("follower")
        assert client.fetch(OLD) == b"app 1.0"
        assert client.fetch(NEW) == (b"app 2.0" if prepare is pushing else None)
        shutil.rmtree(team.folder)


def test_a_push_whose_index_update_was_lost_is_recorded_though_its_number_is_older(team: Team) -> None:
    draft, last = pushing(team)
    counted = Faults()
    index = copy.deepcopy(team.home.projection)
    shutil.copytree(team.folder, team.folder.with_name("twin"), symlinks=True)
    twin = RepositoryHome(team.folder.with_name("twin") / "home", index, team.home.root, team.home.now)
    twin.open(FaultyStorage(counted), FaultyProjection(index, counted)).drafts.sign(
        draft.id, last.signatures(draft), now=team.home.now
    )
    at = counted.steps.index("project")
    faults = Faults(at, RuntimeError("the database is away"))
    repository = team.home.open(FaultyStorage(faults), FaultyProjection(team.home.projection, faults))
    with pytest.raises(Exception, match="the database is away"):
        repository.drafts.sign(draft.id, last.signatures(draft), now=team.home.now)
    assert NEW not in team.home.projection.rows
    assert draft.parts[0].version < team.home.projection.projected_serial()
    publish(team.home.open(), "1.0", team.home.now + timedelta(seconds=1))
    assert NEW in team.home.projection.rows
    team.check_index()
