"""Approvals by people's own keys over HTTP, and what an approver's own program makes of what it is asked to sign."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from cli.approving import explain
from cli.errors import VerificationFailed
from repo_signing.canonical import encode
from tests.integration.api.conftest import Home
from tests.integration.api.test_drafts import signed, tags
from tests.simulators.key_holders import Holder

LATER = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)


class Signers:
    """A home whose product ``fw`` is signed by two of Ann, Ben and Cem, and a rollout in two waves that waits."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.keys = {name: Holder() for name in ("ann", "ben", "cem")}
        self.tokens = {name: home.person(f"{name}@example.com", "approver") for name in self.keys}
        self.targets = Holder.of_laptop(home.made.home / "orgs" / "acme", "targets")
        home.publish()
        for group in ("canary", "everyone"):
            assert home.call("POST", "/groups", {"name": group}).status_code == 201
        self.appoint(*self.keys)
        waves = [
            {"group": "everyone", "percent": 10},
            {"group": "everyone", "gate": {"not_before": LATER.isoformat()}},
        ]
        made = home.call("POST", "/rollouts", {"product": "fw", "version": "1.0.0", "waves": waves})
        assert made.status_code == 201, made.text
        self.id = made.get_json()["id"]

    def appoint(self, *names: str, threshold: int = 2) -> dict[str, Any]:
        body = {"keys": [self.keys[name].public for name in names], "threshold": threshold}
        answer = self.home.call("POST", "/repository/products/fw/approvers", body)
        assert answer.status_code == 201, answer.text
        draft: dict[str, Any] = answer.get_json()
        holders = [(self.targets, None), *((self.keys[name], self.tokens[name]) for name in names)]
        for holder, token in holders:
            path = f"/repository/drafts/{draft['id']}/signatures"
            done = self.home.call("POST", path, signed(holder, draft), token=token)
            if done.get_json()["serial"] is not None:
                return draft
        raise AssertionError("the draft was not finished")

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = self.home.call("GET", f"/rollouts/{self.id}").get_json()
        return told

    def asked(self, through: int = 1) -> dict[str, Any]:
        answer = self.home.call("GET", f"/rollouts/{self.id}/waves/1/decision?through={through}")
        assert answer.status_code == 200, answer.text
        asked: dict[str, Any] = answer.get_json()
        return asked

    def sign(self, name: str, asked: dict[str, Any], *, key: str = "") -> TestResponse:
        holder = self.keys[key or name]
        sigs = {
            str(one["wave"]): holder.signer.sign(base64.b64decode(one["payload"])).signature for one in asked["waves"]
        }
        body = {"wave": asked["waves"][0]["wave"], "signature": {"keyid": holder.keyid, "waves": sigs}}
        return self.home.call("POST", f"/rollouts/{self.id}/approve", body, token=self.tokens[name])

    def tick(self) -> None:
        self.home.wiring.rollouts.tick("acme", datetime.now(UTC))

    def explain(self, asked: dict[str, Any], through: int = 1) -> list[dict[str, Any]]:
        found = explain(asked, self.told(), wave=1, through=through, now=datetime.now(UTC))
        return [dict(one.lines) for one in found]


@pytest.fixture
def signers(home: Home) -> Signers:
    return Signers(home)


def test_a_product_tells_its_mode_and_every_step_names_keys_in_the_audit_log(signers: Signers) -> None:
    home = signers.home
    shown = home.call("GET", "/products/fw").get_json()
    assert (shown["name"], shown["mode"], shown["claimed"]) == ("fw", "signed", False)
    assert shown["approvers"]["keyids"] == [one.keyid for one in signers.keys.values()]
    assert (shown["approvers"]["threshold"], shown["approvers"]["role"]) == (2, "waves-fw")
    assert home.call("GET", "/products/other").get_json() == {
        "name": "other",
        "mode": "managed",
        "approvers": None,
        "claimed": False,
    }
    assert home.call("GET", "/products/..%2Fx").status_code in (400, 404)
    assert home.call("GET", "/products/NO").get_json()["error"]["code"] == "invalid_target_path"
    assert signers.told()["mode"] == "signed"
    assert signers.sign("ann", signers.asked()).status_code == 200
    events = home.call("GET", f"/audit/events?limit=200&subject={signers.id}").get_json()["items"]
    [event] = [one for one in events if one["tag"] == "rollout.wave.approved"]
    assert event["data"]["command"]["signature"].split(":")[0] == signers.keys["ann"].keyid
    assert "repository.draft.created" in tags(home)
    listed = home.call("GET", "/rollouts").get_json()["items"][0]
    assert listed["waves"][0]["approvals"][0]["keyid"] == signers.keys["ann"].keyid


def test_the_wave_opens_with_the_second_key_and_serves_what_was_signed(signers: Signers) -> None:
    asked = signers.asked()
    signers.sign("ann", asked)
    signers.tick()
    assert signers.told()["why"] == "wave 1 waits for signatures: 1 of 2 signatures by approvers of fw given"
    assert signers.asked()["waves"][0]["signed"] == [signers.keys["ann"].keyid]
    assert signers.sign("cem", signers.asked()).status_code == 200
    signers.tick()
    assert signers.told()["state"] == "running"
    served = signers.home.call("GET", f"/rollouts/{signers.id}/waves/1/decision").data
    assert served.decode() in asked["decisions"].values()
    assert json.loads(served)["cohort"]["to"] == 1000
    assert signers.home.wiring.repository.check(now=datetime.now(UTC)) == []


def test_a_session_alone_opens_nothing(signers: Signers) -> None:
    for name in ("ann", "ben", "cem"):
        body = {"wave": 1}
        answer = signers.home.call("POST", f"/rollouts/{signers.id}/approve", body, token=signers.tokens[name])
        assert answer.status_code == 200
    signers.tick()
    assert signers.told()["state"] == "waiting"
    assert signers.sign("ann", signers.asked()).status_code == 200, "who said yes by login may still sign"


def test_signatures_that_do_not_count_are_refused_and_nothing_is_taken(signers: Signers) -> None:
    asked = signers.asked()
    tokens = signers.tokens | {"machine": signers.home.made.api_key}
    signers.keys["mallory"] = Holder()
    stranger = signers.sign("ann", asked, key="mallory")
    assert (stranger.status_code, stranger.get_json()["error"]["code"]) == (400, "signature_refused")
    machine = signers.home.call(
        "POST",
        f"/rollouts/{signers.id}/approve",
        {"wave": 1, "signature": {"keyid": signers.keys["ann"].keyid, "waves": {"1": "00"}}},
        token=tokens["machine"],
    )
    assert machine.status_code == 403
    other = copy.deepcopy(asked)
    other["waves"][0]["payload"] = base64.b64encode(b"{}").decode()
    wrong = signers.sign("ann", other)
    assert (wrong.status_code, wrong.get_json()["error"]["code"]) == (400, "signature_refused")
    assert signers.told()["waves"][0]["approvals"] == []
    assert signers.asked()["waves"][0]["signed"] == []
    body = {"wave": 1, "signature": {"keyid": "x", "waves": {"one": "00"}}}
    answer = signers.home.call("POST", f"/rollouts/{signers.id}/approve", body, token=signers.tokens["ann"])
    assert answer.status_code == 400


def test_one_person_with_two_keys_counts_once(signers: Signers) -> None:
    asked = signers.asked()
    assert signers.sign("ann", asked).status_code == 200
    assert signers.sign("ann", asked).status_code == 200, "the same again is safe"
    assert len(signers.told()["waves"][0]["approvals"]) == 1
    signers.sign("ben", asked)
    assert [one["by"]["name"] for one in signers.told()["waves"][0]["approvals"]] == ["ann", "ben"]


def test_another_persons_key_in_one_hand_is_refused(signers: Signers) -> None:
    asked = signers.asked()
    assert signers.sign("ann", asked).status_code == 200
    second = signers.sign("ann", asked, key="ben")
    assert (second.status_code, second.get_json()["error"]["code"]) == (409, "approval_refused")
    signers.tick()
    assert signers.told()["state"] == "waiting"


def test_a_schedule_needs_times_and_waves_open_one_by_one(signers: Signers) -> None:
    asked = signers.asked(2)
    assert [one["wave"] for one in asked["waves"]] == [1, 2]
    first, second = signers.explain(asked, 2)
    assert first["not before"] == "at once, when the server opens the wave"
    assert second["difference"] == "10% of the group become 100%"
    for name in ("ann", "ben"):
        assert signers.sign(name, asked).status_code == 200
    signers.tick()
    told = signers.told()
    assert [wave["state"] for wave in told["waves"]] == ["open", "pending"]
    assert [len(wave["approvals"]) for wave in told["waves"]] == [2, 2]
    far = signers.home.call("GET", f"/rollouts/{signers.id}/waves/2/decision")
    assert far.status_code == 404 or far.get_json()["wave"] == 1


def test_what_is_not_waiting_is_not_given_out_to_sign(signers: Signers) -> None:
    base = f"/rollouts/{signers.id}/waves"
    later = signers.home.call("GET", f"{base}/2/decision")
    assert (later.status_code, later.get_json()["error"]["code"]) == (409, "transition_not_allowed")
    beyond = signers.home.call("GET", f"{base}/1/decision?through=3")
    assert (beyond.status_code, beyond.get_json()["error"]["code"]) == (400, "invalid_command")
    assert signers.home.call("GET", f"{base}/9/decision").status_code == 404


def test_another_decision_of_the_product_in_between_is_told_as_moved(signers: Signers) -> None:
    asked = signers.asked()
    signers.appoint("ann", "ben")
    moved = signers.sign("ann", asked)
    assert (moved.status_code, moved.get_json()["error"]["code"]) == (409, "draft_moved")
    assert "Look at it and sign again" in moved.get_json()["error"]["message"]
    again = signers.asked()
    assert signers.sign("ann", again).status_code == 200
    assert signers.sign("ben", again).status_code == 200
    signers.tick()
    assert signers.told()["state"] == "running"


def test_a_security_rollout_of_the_plan_is_shown_as_one_and_can_be_foreseen(signers: Signers) -> None:
    home, plan = signers.home, signers.told()["plan"]
    assert "priority" not in plan, "at its default it is not in what is hashed"
    urgent = {"product": "fw", "version": "1.0.0", "waves": [{"group": "everyone"}], "priority": "security"}
    made = home.call("POST", "/rollouts", urgent)
    assert made.status_code == 201, made.text
    signers.id = made.get_json()["id"]
    assert signers.told()["plan"]["priority"] == "security"
    [lines] = signers.explain(signers.asked())
    assert "security: it goes before normal rollouts, also newer ones" in lines["priority"]
    [block] = home.call("GET", f"/rollouts/{signers.id}/preview").get_json()["blocks"]
    assert block == {
        "code": "signatures_needed",
        "message": "wave 1 waits for signatures: 0 of 2 signatures by approvers of fw given",
        "wave": 1,
    }
    lie: Lie = lambda body, decision: decision.pop("priority")  # noqa: E731
    with pytest.raises(VerificationFailed, match="priority of wave 1"):
        signers.explain(forged(signers.asked(), lie))
    for name in ("ann", "ben"):
        assert signers.sign(name, signers.asked()).status_code == 200
    assert home.call("GET", f"/rollouts/{signers.id}/preview").get_json()["blocks"] == []
    signers.tick()
    assert signers.told()["state"] == "running"
    served = json.loads(home.call("GET", f"/rollouts/{signers.id}/waves/1/decision").data)
    assert (served["priority"], served["revision"]) == ("security", 1)


def test_a_retry_is_refused_now_and_for_later_and_a_rerun_asks_for_signatures_anew(signers: Signers) -> None:
    home = signers.home
    for name in ("ann", "ben"):
        signers.sign(name, signers.asked())
    signers.tick()
    for body in ({}, {"after_seconds": 60}):
        refused = home.call("POST", f"/rollouts/{signers.id}/retry", body)
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "signatures_needed")
    assert signers.told()["retry_at"] is None
    ended = home.call("POST", f"/rollouts/{signers.id}/abort", {"reason": "bad"})
    assert ended.status_code == 200, ended.text
    called = home.call("POST", f"/rollouts/{signers.id}/roll-back", {"reason": "bad"})
    assert called.get_json()["rolled_back_because"] == "bad"
    again = home.call("POST", f"/rollouts/{signers.id}/rerun", {}).get_json()
    assert (again["state"], again["mode"], again["cloned_from"]) == ("waiting", "signed", signers.id)
    signers.id = again["id"]
    assert len(signers.explain(signers.asked())) == 1
    for name in ("ann", "ben"):
        assert signers.sign(name, signers.asked()).status_code == 200
    signers.tick()
    assert signers.told()["state"] == "running"


def test_a_managed_product_takes_no_signatures(signers: Signers) -> None:
    asked = signers.asked()
    draft = signers.home.call("POST", "/repository/products/fw/managed", {}).get_json()
    signers.home.call("POST", f"/repository/drafts/{draft['id']}/signatures", signed(signers.targets, draft))
    refused = signers.sign("ann", asked)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "invalid_draft")
    assert signers.home.call("GET", f"/rollouts/{signers.id}/waves/1/decision").status_code == 404
    signers.tick()
    assert signers.told()["state"] == "running"
    again = signers.home.call("POST", "/repository/products/fw/managed", {})
    assert (again.status_code, again.get_json()["error"]["code"]) == (400, "invalid_draft")


def test_a_frozen_wave_says_so_before_it_asks_for_signatures_and_stays_shut_with_them(signers: Signers) -> None:
    home = signers.home
    ends = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    starts = datetime.now(UTC).isoformat()
    made = home.call("POST", "/freeze-windows", {"starts": starts, "ends": ends, "reason": "year end"})
    assert made.status_code == 201, made.text
    assert signers.told()["why"].startswith("wave 1 is frozen until")
    asked = signers.asked()
    for name in ("ann", "ben"):
        assert signers.sign(name, asked).status_code == 200
    signers.tick()
    assert signers.told()["state"] == "waiting"
    assert home.call("DELETE", f"/freeze-windows/{made.get_json()['id']}").status_code == 204
    signers.tick()
    assert signers.told()["state"] == "running"


@pytest.mark.parametrize(
    ("stop", "why"),
    [
        ("yank", "paused: artifact "),
        ("exclude", "paused: fw 1.0.0 is excluded: bricks rev B"),
    ],
)
def test_a_yank_or_an_exclusion_stops_what_approvers_signed_without_them(signers: Signers, stop: str, why: str) -> None:
    home = signers.home
    asked = signers.asked()
    for name in ("ann", "ben"):
        signers.sign(name, asked)
    signers.tick()
    standing = home.wiring.repository.served("decisions/fw/everyone.json")
    if stop == "yank":
        artifact = signers.told()["plan"]["artifacts"]["any"]["id"]
        done = home.call("POST", f"/artifacts/{artifact}/yank", {"reason": "bricks rev B"})
    else:
        done = home.call("POST", "/exclusions", {"product": "fw", "version": "1.0.0", "reason": "bricks rev B"})
    assert done.status_code in (200, 201), done.text
    signers.tick()
    told = signers.told()
    assert (told["state"], told["why"].startswith(why)) == ("paused", True)
    brake = json.loads(home.wiring.repository.served("brakes/fw/everyone.json") or b"")
    assert (brake["state"], brake["rollout"]) == ("halted", signers.id)
    assert home.wiring.repository.served("decisions/fw/everyone.json") == standing
    refused = home.call("POST", f"/rollouts/{signers.id}/resume", {"reason": "on"})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "release_blocked")
    assert home.wiring.repository.check(now=datetime.now(UTC)) == []


# What the approver's own program refuses to sign.

Lie = Callable[[dict[str, Any], dict[str, Any]], None]  # of a payload and the decision of the wave's group


def forged(asked: dict[str, Any], lie: Lie, *, wave: int = 0) -> dict[str, Any]:
    """What a lying server would ask: payload and documents edited, and every digest made to fit."""
    asked = copy.deepcopy(asked)
    one = asked["waves"][wave]
    body = json.loads(base64.b64decode(one["payload"]))
    path = "decisions/fw/everyone.json"
    decision = json.loads(asked["decisions"][body["targets"][path]["hashes"]["sha256"]])
    lie(body, decision)
    document = json.dumps(decision, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    sha256 = hashlib.sha256(document.encode()).hexdigest()
    if path in body["targets"]:
        body["targets"][path] |= {"hashes": {"sha256": sha256}, "length": len(document)}
    asked["decisions"][sha256] = document
    payload = encode(body)
    one |= {
        "payload": base64.b64encode(payload).decode(),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "version": body["version"],
    }
    return asked


def another_target(body: dict[str, Any], decision: dict[str, Any]) -> None:
    body["targets"]["decisions/fw/canary.json"] = dict(body["targets"]["decisions/fw/everyone.json"])


LIES: dict[str, tuple[Lie, str]] = {
    "another group's decision besides": (another_target, "holds a decision of fw for everyone"),
    "an artifact of another product": (
        lambda body, decision: body["targets"].update({"fw/1/any/x": body["targets"]["decisions/fw/everyone.json"]}),
        "fw/1/any/x holds a decision",
    ),
    "a larger cohort": (lambda body, decision: decision["cohort"].update(to=5000), "share of the group of wave 1"),
    "other bytes": (
        lambda body, decision: decision["artifacts"]["any"].update(sha256="ab" * 32),
        "artifacts of wave 1",
    ),
    "another version": (lambda body, decision: decision.update(version="6.6"), "version of wave 1"),
    "another wave": (lambda body, decision: decision.update(wave=2), "wave of wave 1"),
    "another rollout": (lambda body, decision: decision.update(rollout="rol_x"), "rollout of wave 1"),
    "a later place in the order": (
        lambda body, decision: decision.update(submitted_at="2030-01-01T00:00:00Z"),
        "time of submission of wave 1",
    ),
    "a downgrade": (
        lambda body, decision: decision["version_policy"].update(downgrade=True),
        "word on downgrades of wave 1",
    ),
    "a priority": (lambda body, decision: decision.update(priority="security"), "priority of wave 1"),
    "another attempt": (lambda body, decision: decision.update(attempt=2), "attempt of wave 1"),
    "a field that nobody knows": (lambda body, decision: decision.update(more=1), "more than this program can read"),
    "a later format": (lambda body, decision: decision.update(format=3), "no decision that this program knows"),
    "keys of its own": (lambda body, decision: body.update(delegations={"keys": {}, "roles": []}), "more than a list"),
    "a life of years": (lambda body, decision: body.update(expires="2036-01-01T00:00:00Z"), "at most 90 days"),
    "a life that is over": (lambda body, decision: body.update(expires="2020-01-01T00:00:00Z"), "would be valid"),
    "a version before what is served": (lambda body, decision: body.update(version=1), "does not follow"),
    "an entry with a record": (
        lambda body, decision: body["targets"]["decisions/fw/everyone.json"].update(custom={}),
        "named with more",
    ),
    "nothing at all": (lambda body, decision: body["targets"].clear(), "other decisions would change"),
}


def test_no_lie_of_the_server_is_signed(signers: Signers) -> None:
    asked = signers.asked()
    assert signers.explain(asked)[0]["devices"] == "10% of group everyone (places 0 to 999 of 10000)"
    for lie, told in LIES.values():
        with pytest.raises(VerificationFailed, match=told):
            signers.explain(forged(asked, lie))


def test_bytes_that_are_hidden_doubled_or_of_another_base_are_not_signed(signers: Signers) -> None:
    asked = signers.asked()
    hidden: dict[str, dict[str, Any]] = {
        "its bytes are not shown": {"decisions": {}},
        "its rollout is 'rol_x'": {"rollout": "rol_x"},
        "its plan is": {"plan_hash": "00" * 32},
        "its schedule is": {"waves": []},
        "is not signed by its approvers": {"threshold": 4},
        "it is garbled": {"served": {"version": 1, "file": "!"}},
    }
    for told, edit in hidden.items():
        with pytest.raises(VerificationFailed, match=told):
            signers.explain({**asked, **edit})
    doubled = copy.deepcopy(asked)
    payload = base64.b64decode(asked["waves"][0]["payload"]).replace(b'{"_type"', b'{"_type":"root","_type"', 1)
    digest = hashlib.sha256(payload).hexdigest()
    doubled["waves"][0] |= {"payload": base64.b64encode(payload).decode(), "payload_sha256": digest}
    with pytest.raises(VerificationFailed, match="not in canonical form"):
        signers.explain(doubled)
    stranger = copy.deepcopy(asked)
    stranger["served"]["file"] = base64.b64encode(
        base64.b64decode(asked["served"]["file"]).replace(b'"targets":{}', b'"targets":{ }')
    ).decode()
    assert signers.explain(stranger), "the same content in other bytes verifies in its canonical form"


def test_a_schedule_whose_later_wave_lost_its_time_or_its_devices_is_not_signed(signers: Signers) -> None:
    asked = signers.asked(2)
    with pytest.raises(VerificationFailed, match="not_before of wave 2"):
        signers.explain(forged(asked, lambda body, decision: decision.update(not_before=None), wave=1), 2)

    def other_devices(body: dict[str, Any], decision: dict[str, Any]) -> None:
        decision["cohort"]["salt"] = "ff" * 16

    with pytest.raises(VerificationFailed, match="different salts"):
        signers.explain(forged(asked, other_devices, wave=1), 2)
