"""Withdrawing, revoking, collecting and the bundle over HTTP."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

from api.organisation_jobs import OrganisationJobs
from tests.integration.api.conftest import Home


def tags(home: Home) -> list[str]:
    return [one["tag"] for one in home.call("GET", "/audit/events?limit=200").get_json()["items"]]


def test_a_withdrawn_artifact_says_why_cannot_be_fetched_and_its_path_is_closed(home: Home) -> None:
    artifact = home.publish(b"bad build").get_json()
    served = f"/tuf/acme/targets/fw/1.0.0/any/{artifact['sha256']}.fw.bin"
    with home.client.get(served) as before:
        assert before.status_code == 200
    gone = home.call("POST", f"/artifacts/{artifact['id']}/withdraw", {"reason": "wrong key"})
    assert gone.status_code == 200
    told = gone.get_json()["withdrawn"]
    assert (told["reason"], told["revoked"], told["by"]["name"]) == ("wrong key", False, "automation")
    assert home.client.get(served).status_code == 404
    assert home.call("GET", f"/artifacts/{artifact['id']}").get_json() == gone.get_json()
    again = home.publish(b"bad build")
    assert (again.status_code, again.get_json()["error"]["code"]) == (409, "artifact_withdrawn")
    amended = home.call("PATCH", f"/artifacts/{artifact['id']}", {"notes": "x"})
    assert (amended.status_code, amended.get_json()["error"]["code"]) == (409, "artifact_withdrawn")
    assert tags(home)[-1] == "artifact.withdrawn"


def test_a_reason_is_required(home: Home) -> None:
    artifact = home.publish().get_json()
    for verb in ("withdraw", "revoke"):
        assert home.call("POST", f"/artifacts/{artifact['id']}/{verb}", {}).status_code == 400


def test_a_rollout_of_a_revoked_artifact_stops_and_no_new_one_can_be_made(home: Home) -> None:
    artifact = home.publish(b"bad build").get_json()
    assert home.call("POST", "/groups", {"name": "field"}).status_code == 201
    plan = {"product": "fw", "version": "1.0.0", "waves": [{"group": "field", "percent": 100}]}
    made = home.call("POST", "/rollouts", plan)
    assert made.status_code == 201, made.text
    home.call("POST", f"/artifacts/{artifact['id']}/revoke", {"reason": "leaks keys"})
    stopped = home.call("GET", f"/rollouts/{made.get_json()['id']}").get_json()
    assert stopped["state"] == "paused"
    assert "leaks keys" in json.dumps(stopped)
    refused = home.call("POST", "/rollouts", plan)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "release_blocked")
    resumed = home.call("POST", f"/rollouts/{made.get_json()['id']}/resume", {"reason": "try"})
    assert (resumed.status_code, resumed.get_json()["error"]["code"]) == (409, "release_blocked")
    listed = home.wiring.repository.served("revocations/fw/all.json")
    assert listed is not None
    assert json.loads(listed)["revoked"][0]["sha256"] == artifact["sha256"]


def test_another_build_of_the_same_release_goes_before_a_withdrawn_one(home: Home) -> None:
    home.publish(b"good", file_name="a.bin")
    bad = home.publish(b"bad", file_name="b.bin").get_json()
    home.call("POST", f"/artifacts/{bad['id']}/withdraw", {"reason": "wrong"})
    home.call("POST", "/groups", {"name": "field"})
    plan = {"product": "fw", "version": "1.0.0", "waves": [{"group": "field", "percent": 100}]}
    made = home.call("POST", "/rollouts", plan)
    assert made.status_code == 201, made.text


def test_collecting_says_what_would_go_and_then_takes_it(home: Home) -> None:
    home.publish()
    told = home.call("POST", "/repository/gc", {"dry_run": True})
    assert told.get_json() == {"dry_run": True, "metadata": [], "blobs": [], "quarantined": [], "freed_bytes": 0}
    assert home.call("POST", "/repository/gc", {}).get_json()["dry_run"] is False
    assert "repository.collected" not in tags(home)


def test_the_bundle_holds_the_exact_root_a_map_and_a_fingerprint(home: Home) -> None:
    told = home.call("GET", "/repository/bundle").get_json()
    assert told["files"]["root.json"].encode() == home.made.root.read_bytes()
    assert told["root_sha256"] == home.made.root_sha256
    assert json.loads(told["files"]["map.json"]) == {
        "repositories": {"acme": ["http://127.0.0.1:8080/tuf/acme"]},
        "mapping": [{"paths": ["*"], "repositories": ["acme"], "threshold": 1, "terminating": True}],
    }
    assert f"root sha256   {home.made.root_sha256}\n" in told["files"]["fingerprint.txt"]
    assert hashlib.sha256(told["files"]["root.json"].encode()).hexdigest() == home.made.root_sha256


def test_the_state_of_the_repository_says_what_to_look_after(home: Home) -> None:
    told = home.call("GET", "/repository").get_json()
    assert told["warnings"] == []
    assert {role["outlook"] for role in told["roles"]} == {"ok"}


def test_the_nightly_collection_runs_when_it_is_due_and_then_waits_a_day(home: Home) -> None:
    jobs = OrganisationJobs(home.wiring, lambda: False)
    due = jobs.collect_at
    assert timedelta(minutes=59) < due - datetime.now(UTC) <= timedelta(hours=1)
    jobs.tidy()
    assert jobs.collect_at == due
    jobs.collect_at = datetime.now(UTC)
    jobs.tidy()
    assert timedelta(hours=23) < jobs.collect_at - datetime.now(UTC) <= timedelta(hours=24)
