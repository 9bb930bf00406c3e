"""Decisions that approvers sign: the role before the server's, proposals, and how they are put in place."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from repo_signing.errors import ApproversSign, DraftMoved, InvalidDraft, SignatureRefused
from repo_signing.outlook import Outlook, outlook
from repo_signing.proposal import Proposal
from repo_signing.repository import SignedRepository
from tests.simulators.key_holders import Holder, sign_all
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish
from tests.simulators.repository_faults import Crash, Faults, FaultyProjection, FaultyStorage

CANARY, ALL = "decisions/app/canary.json", "decisions/app/all.json"


class Panel:
    """A repository whose product ``app`` has three approvers, two of whom must sign; one decision is older."""

    def __init__(self, folder: Path, *, threshold: int = 2) -> None:
        self.folder = folder
        self.home = RepositoryHome.create(folder / "home")
        self.repository = self.home.open()
        self.targets = Holder.of_laptop(self.home.folder, "targets")
        self.ann, self.ben, self.cem = Holder(), Holder(), Holder()
        publish(self.repository, "1.0", self.home.now)
        self.repository.commit_documents({CANARY: b"from before"}, now=self.home.now)
        self.appointed = self.repository.approvals.appoint(
            "app", [one.public for one in (self.ann, self.ben, self.cem)], threshold, by=ANN, now=self.home.now
        )
        sign_all(self.repository.drafts, self.appointed, [self.targets, self.ann, self.ben], self.home.now)

    def client(self, name: str = "device") -> StockClient:
        return StockClient(self.home.open(), self.folder / name, self.home.root)

    def propose(self, key: str, *documents: dict[str, bytes]) -> Proposal:
        return self.repository.approvals.propose(key, "app", list(enumerate(documents, start=1)), now=self.home.now)

    def sign(self, proposal: Proposal, holders: Sequence[Holder], waves: Sequence[int] = (1,)) -> Proposal:
        after = proposal
        for holder in holders:
            parts = dict(zip(proposal.waves, proposal.parts, strict=True))
            signed = {number: holder.signer.sign(parts[number].payload).signature for number in waves}
            after = self.repository.approvals.sign(proposal.id, holder.keyid, signed, now=self.home.now)
        return after


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    return Panel(tmp_path)


def versions(repository: SignedRepository) -> dict[str, int]:
    return {role.name: role.version for role in repository.status(now=repository._committer.view().committed_at).roles}


def test_the_approvers_role_stands_before_the_servers_and_takes_over_what_was_decided(panel: Panel) -> None:
    view = panel.repository._committer.view()
    delegated = view.role("targets").body["delegations"]["roles"]
    assert [(one["name"], one["terminating"]) for one in delegated] == [
        ("waves-app", True),
        ("decisions", True),
        ("brakes", True),
        ("revocations", True),
        ("releases", False),
    ]
    assert delegated[0]["paths"] == ["decisions/app/*"]
    assert list(view.role("waves-app").body["targets"]) == [CANARY]
    assert view.role("decisions").body["targets"] == {}
    assert panel.client().fetch(CANARY) == b"from before"
    assert panel.repository.approvals.rule("app") == ((panel.ann.keyid, panel.ben.keyid, panel.cem.keyid), 2)
    assert "sha256" in view.snapshot.body["meta"]["waves-app.json"]["hashes"]


def test_the_server_alone_can_decide_nothing_but_can_brake(panel: Panel) -> None:
    with pytest.raises(ApproversSign, match="too few approvers of app signed"):
        panel.repository.commit_documents({ALL: b"mine"}, now=panel.home.now)
    panel.repository.commit_documents({"brakes/app/all.json": b"stop"}, now=panel.home.now)
    assert panel.client().fetch("brakes/app/all.json") == b"stop"
    assert panel.client().fetch(ALL) is None


def test_a_wave_is_served_when_the_threshold_is_met_and_not_before(panel: Panel) -> None:
    proposal = panel.propose("rol_1", {ALL: b"wave 1"})
    assert panel.repository.approvals.lacking({ALL: b"wave 1"}) == "0 of 2 signatures by approvers of app given"
    panel.sign(proposal, [panel.ann, panel.ann])
    assert panel.repository.approvals.lacking({ALL: b"wave 1"}) == "1 of 2 signatures by approvers of app given"
    with pytest.raises(ApproversSign):
        panel.repository.commit_documents({ALL: b"wave 1"}, now=panel.home.now)
    panel.sign(proposal, [panel.cem])
    assert panel.repository.approvals.lacking({ALL: b"wave 1"}) == ""
    with pytest.raises(ApproversSign):
        panel.repository.commit_documents({ALL: b"another"}, now=panel.home.now)
    assert panel.client().fetch(ALL) is None, "what is signed and not opened is not served"
    panel.repository.commit_documents({ALL: b"wave 1"}, now=panel.home.now)
    assert panel.client().fetch(ALL) == b"wave 1"
    assert panel.client().fetch(CANARY) == b"from before"
    serial = panel.repository.serial()
    panel.repository.commit_documents({ALL: b"wave 1"}, now=panel.home.now)
    assert panel.repository.serial() == serial
    assert panel.repository.check(now=panel.home.now) == []


def test_a_schedule_is_put_in_place_wave_by_wave(panel: Panel) -> None:
    chain = panel.propose("rol_1", {ALL: b"10 %"}, {ALL: b"50 %"}, {CANARY: b"canary, too"})
    assert [part.base_version for part in chain.parts] == [
        versions(panel.repository)["waves-app"],
        chain.parts[0].version,
        chain.parts[1].version,
    ]
    panel.sign(chain, [panel.ann, panel.ben], [1, 2, 3])
    publish(panel.repository, "2.0", panel.home.now)  # others go on meanwhile
    panel.repository.commit_documents({ALL: b"10 %"}, now=panel.home.now)
    assert panel.client().fetch(ALL) == b"10 %"
    with pytest.raises(ApproversSign):
        panel.repository.commit_documents({CANARY: b"canary, too"}, now=panel.home.now)
    again = panel.repository.approvals.propose(
        "rol_1", "app", [(2, {ALL: b"50 %"}), (3, {CANARY: b"canary, too"})], now=panel.home.now
    )
    assert again.parts == panel.repository.approvals.find("rol_1").parts[1:]  # type: ignore[union-attr]
    panel.repository.commit_documents({ALL: b"50 %"}, now=panel.home.now)
    panel.repository.commit_documents({CANARY: b"canary, too"}, now=panel.home.now)
    assert panel.client().fetch(CANARY) == b"canary, too"


def test_the_same_question_gets_the_same_bytes_and_more_waves_are_added_behind(panel: Panel) -> None:
    first = panel.propose("rol_1", {ALL: b"10 %"})
    panel.sign(first, [panel.ann])
    assert panel.propose("rol_1", {ALL: b"10 %"}).parts[0].payload == first.parts[0].payload
    longer = panel.propose("rol_1", {ALL: b"10 %"}, {ALL: b"50 %"})
    assert longer.parts[0].payload == first.parts[0].payload
    assert list(longer.parts[0].signatures) == [panel.ann.keyid]
    assert panel.propose("rol_1", {ALL: b"10 %"}) == longer.first(1)
    other = panel.propose("rol_1", {ALL: b"20 %"})
    assert other.parts[0].signatures == {}


def test_another_rollout_of_the_product_in_between_means_signing_again(panel: Panel) -> None:
    mine, theirs = panel.propose("rol_1", {ALL: b"mine"}), panel.propose("rol_2", {CANARY: b"theirs"})
    panel.sign(mine, [panel.ann, panel.ben])
    panel.sign(theirs, [panel.ann, panel.ben])
    panel.repository.commit_documents({CANARY: b"theirs"}, now=panel.home.now)
    with pytest.raises(ApproversSign):
        panel.repository.commit_documents({ALL: b"mine"}, now=panel.home.now)
    with pytest.raises(DraftMoved, match="Look at it and sign again"):
        panel.sign(mine, [panel.cem])
    again = panel.propose("rol_1", {ALL: b"mine"})
    assert again.parts[0].signatures == {}
    panel.sign(again, [panel.ben, panel.cem])
    panel.repository.commit_documents({ALL: b"mine"}, now=panel.home.now)
    assert [panel.client().fetch(path) for path in (ALL, CANARY)] == [b"mine", b"theirs"]


def test_signatures_that_are_not_an_approvers_or_not_over_these_bytes_are_refused(panel: Panel) -> None:
    proposal, stranger = panel.propose("rol_1", {ALL: b"wave 1"}), Holder()
    with pytest.raises(SignatureRefused, match="is not one that signs waves-app"):
        panel.sign(proposal, [stranger])
    with pytest.raises(SignatureRefused, match="is not valid"):
        panel.repository.approvals.sign("rol_1", panel.ann.keyid, {1: "00" * 64}, now=panel.home.now)
    sig = panel.ann.signer.sign(proposal.parts[0].payload).signature
    with pytest.raises(SignatureRefused, match="is not valid"):
        panel.repository.approvals.sign("rol_1", panel.ben.keyid, {1: sig}, now=panel.home.now)
    with pytest.raises(SignatureRefused, match="wave 2 of rol_1 does not wait"):
        panel.repository.approvals.sign("rol_1", panel.ann.keyid, {2: sig}, now=panel.home.now)
    with pytest.raises(DraftMoved):
        panel.repository.approvals.sign("rol_9", panel.ann.keyid, {1: sig}, now=panel.home.now)


def test_approvers_change_by_a_draft_and_what_was_signed_by_the_old_ones_does_not_count(panel: Panel) -> None:
    proposal = panel.propose("rol_1", {ALL: b"wave 1"})
    panel.sign(proposal, [panel.ann, panel.ben])
    dan = Holder()
    draft = panel.repository.approvals.appoint("app", [panel.cem.public, dan.public], 1, by=ANN, now=panel.home.now)
    assert [part.role for part in draft.parts] == ["targets", "waves-app"]
    sign_all(panel.repository.drafts, draft, [panel.targets], panel.home.now)
    assert sign_all(panel.repository.drafts, draft, [dan], panel.home.now) is not None
    assert panel.client().fetch(CANARY) == b"from before"
    with pytest.raises(ApproversSign):
        panel.repository.commit_documents({ALL: b"wave 1"}, now=panel.home.now)
    again = panel.propose("rol_1", {ALL: b"wave 1"})
    with pytest.raises(SignatureRefused):
        panel.sign(again, [panel.ann])
    panel.sign(again, [panel.cem])
    panel.repository.commit_documents({ALL: b"wave 1"}, now=panel.home.now)
    assert panel.client().fetch(ALL) == b"wave 1"


def test_a_product_goes_back_to_the_server_and_to_approvers_again(panel: Panel) -> None:
    back = panel.repository.approvals.dismiss("app", by=ANN, now=panel.home.now)
    assert sign_all(panel.repository.drafts, back, [panel.targets], panel.home.now) is not None
    assert panel.repository.approvals.rule("app") is None
    assert panel.client().fetch(CANARY) == b"from before"
    panel.repository.commit_documents({CANARY: b"the server's"}, now=panel.home.now)
    assert panel.client().fetch(CANARY) == b"the server's"
    assert "waves-app" in panel.repository._committer.view().versions, "clients refuse a snapshot that lost a name"
    with pytest.raises(InvalidDraft, match="signs the decisions of 'app' already"):
        panel.repository.approvals.dismiss("app", by=ANN, now=panel.home.now)
    with pytest.raises(InvalidDraft, match="there is nothing to sign"):
        panel.propose("rol_1", {ALL: b"x"})
    again = panel.repository.approvals.appoint("app", [panel.ann.public], 1, by=ANN, now=panel.home.now)
    sign_all(panel.repository.drafts, again, [panel.targets, panel.ann], panel.home.now)
    assert panel.client().fetch(CANARY) == b"the server's"
    assert panel.repository.check(now=panel.home.now) == []


def test_a_decision_made_while_the_handover_is_signed_moves_its_base(tmp_path: Path) -> None:
    home = RepositoryHome.create(tmp_path / "home")
    repository, targets, ann = home.open(), Holder.of_laptop(home.folder, "targets"), Holder()
    draft = repository.approvals.appoint("app", [ann.public], 1, by=ANN, now=home.now)
    repository.commit_documents({CANARY: b"in between"}, now=home.now)
    with pytest.raises(DraftMoved, match="app has got other decisions"):
        sign_all(repository.drafts, draft, [targets], home.now)
    again = repository.drafts.rebase(draft.id, now=home.now)
    sign_all(repository.drafts, again, [targets, ann], home.now)
    assert StockClient(home.open(), tmp_path / "device", home.root).fetch(CANARY) == b"in between"


def test_the_role_is_asked_to_be_renewed_thirty_days_before_it_expires(panel: Panel) -> None:
    def told(days: int) -> Outlook:
        now = panel.home.now + timedelta(days=days)
        [role] = [one for one in panel.repository.status(now=now).roles if one.name == "waves-app"]
        return outlook(role, now)

    assert [told(days) for days in (1, 59, 61, 77, 91)] == [
        Outlook.OK,
        Outlook.OK,
        Outlook.SOON,
        Outlook.URGENT,
        Outlook.EXPIRED,
    ]
    draft = panel.repository.drafts.draft_renewal("waves-app", by=ANN, now=panel.home.now + timedelta(hours=1))
    assert draft.parts[0].difference[2:] == []
    sign_all(panel.repository.drafts, draft, [panel.ann, panel.cem], panel.home.now)
    assert told(90) is Outlook.URGENT
    assert panel.client().fetch(CANARY) == b"from before"


def test_what_was_signed_too_long_ago_is_not_put_in_place(panel: Panel) -> None:
    signed_at = panel.home.now - timedelta(days=80)
    proposal = panel.repository.approvals.propose("rol_1", "app", [(1, {ALL: b"wave 1"})], now=signed_at)
    panel.sign(proposal, [panel.ann, panel.ben])
    with pytest.raises(ApproversSign):
        panel.repository.commit_documents({ALL: b"wave 1"}, now=panel.home.later(days=11))
    panel.repository.refresh(now=panel.home.later(days=11))
    assert panel.repository.approvals.lacking({ALL: b"wave 1"}) == "0 of 2 signatures by approvers of app given"
    again = panel.repository.approvals.propose("rol_1", "app", [(1, {ALL: b"wave 1"})], now=panel.home.later(days=11))
    assert again.parts[0].version > proposal.parts[0].version


def test_two_products_with_the_same_approvers_cannot_be_served_as_each_other(panel: Panel) -> None:
    draft = panel.repository.approvals.appoint("lib", [panel.ann.public], 1, by=ANN, now=panel.home.now)
    sign_all(panel.repository.drafts, draft, [panel.targets, panel.ann], panel.home.now)
    meta = panel.repository._committer.view().snapshot.body["meta"]
    assert meta["waves-lib.json"]["hashes"] != meta["waves-app.json"]["hashes"]
    assert panel.client().fetch("decisions/lib/all.json") is None
    panel.repository.refresh(now=panel.home.later(hours=7), force=True)
    kept = panel.repository._committer.view().snapshot.body["meta"]["waves-app.json"]
    assert kept == meta["waves-app.json"]


def test_a_crash_at_any_step_of_opening_leaves_clients_whole_and_the_wave_can_be_opened_again(tmp_path: Path) -> None:
    origin = Panel(tmp_path / "origin")
    proposal = origin.propose("rol_1", {ALL: b"wave 1"})
    origin.sign(proposal, [origin.ann, origin.ben])
    publish(origin.repository, "2.0", origin.home.now)
    assert origin.client().fetch(CANARY) == b"from before"

    def copied(name: str) -> RepositoryHome:
        shutil.copytree(origin.folder, tmp_path / name, symlinks=True)
        projection = copy.deepcopy(origin.home.projection)
        return RepositoryHome(tmp_path / name / "home", projection, origin.home.root, origin.home.now)

    def open_wave(home: RepositoryHome, faults: Faults) -> None:
        opened = home.open(FaultyStorage(faults), FaultyProjection(home.projection, faults))
        opened.commit_documents({ALL: b"wave 1"}, now=home.later(seconds=1))

    counted = Faults()
    open_wave(copied("counted"), counted)
    assert len(counted.steps) > 5
    for at in range(len(counted.steps)):
        home = copied(f"at-{at}")
        with pytest.raises(Crash):
            open_wave(home, Faults(at))
        client = StockClient(home.open(), tmp_path / f"at-{at}" / "device", home.root)
        assert client.fetch(CANARY) == b"from before"
        assert client.fetch(ALL) in (None, b"wave 1")
        repository = home.open()
        repository.recover(now=home.later(seconds=2))
        repository.commit_documents({ALL: b"wave 1"}, now=home.later(seconds=3))
        assert StockClient(repository, tmp_path / f"at-{at}" / "device", home.root).fetch(ALL) == b"wave 1"
        assert repository.check(now=home.later(seconds=4)) == []
        shutil.rmtree(tmp_path / f"at-{at}")
