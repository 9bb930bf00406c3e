"""Roll back after the end, clone, rerun, recount, retry later, and priority, over the API; and who leads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from api.leader import Leader
from api.wiring import Wavegate, open_wavegate
from rollout.stored import rollout_to_dict
from store.leases import Leases
from store.models import rollouts
from tests.integration.api.conftest import Home

pytestmark = pytest.mark.postgresql

NAME = "scheduler/acme"


@pytest.fixture
def released(home: Home) -> Home:
    """A home with two releases and an empty group."""
    assert home.call("POST", "/groups", {"name": "everyone"}).status_code == 201
    for version in ("1.0.0", "2.0.0"):
        assert home.publish(version.encode(), version).status_code in {200, 201}
    return home


def create(home: Home, version: str = "1.0.0", **more: object) -> dict[str, Any]:
    plan = {"product": "fw", "version": version, "waves": [{"group": "everyone"}], **more}
    answer = home.call("POST", "/rollouts", plan)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def tick(home: Home, times: int = 2) -> None:
    for _ in range(times):
        home.wiring.rollouts.tick("acme", datetime.now(UTC))


def shown(home: Home, rollout_id: str) -> dict[str, Any]:
    found: dict[str, Any] = home.call("GET", f"/rollouts/{rollout_id}").get_json()
    return found


def test_a_completed_rollout_is_rolled_back_once_and_stays_completed(released: Home) -> None:
    made = create(released)
    tick(released)
    back = released.call("POST", f"/rollouts/{made['id']}/roll-back", {"reason": "watchdog resets"}).get_json()
    assert (back["state"], back["rolled_back_because"]) == ("completed", "watchdog resets")
    assert back["why"] == "completed, then rolled back: watchdog resets"
    brake = released.wiring.repository.served("brakes/fw/everyone.json")
    assert brake is not None
    assert b'"state":"roll_back"' in brake
    again = released.call("POST", f"/rollouts/{made['id']}/roll-back", {"reason": "once more"})
    assert (again.status_code, again.get_json()["error"]["code"]) == (409, "transition_not_allowed")


def test_what_another_rollout_has_reached_is_not_rolled_back(released: Home) -> None:
    first = create(released)
    tick(released)
    create(released, "2.0.0")
    tick(released)
    refused = released.call("POST", f"/rollouts/{first['id']}/roll-back", {"reason": "bad"})
    assert refused.status_code == 409
    assert "another rollout has reached group 'everyone'" in refused.get_json()["error"]["message"]


def test_a_clone_is_a_draft_with_what_was_named_changed(released: Home) -> None:
    made = create(released, note="please", keep_open=False, priority="security")
    answer = released.call(
        "POST", f"/rollouts/{made['id']}/clone", {"version": "2.0.0", "note": "", "allow_downgrade": True}
    )
    assert answer.status_code == 201, answer.text
    clone = answer.get_json()
    assert (clone["state"], clone["version"], clone["cloned_from"]) == ("draft", "2.0.0", made["id"])
    plan = clone["plan"]
    assert (plan["note"], plan["keep_open"], plan["allow_downgrade"], plan["priority"]) == ("", False, True, "security")
    assert plan["waves"] == made["plan"]["waves"]
    same = released.call("POST", f"/rollouts/{made['id']}/clone", {"submit": True}).get_json()
    assert (same["plan_hash"], same["state"]) == (made["plan_hash"], "waiting")
    assert shown(released, made["id"])["state"] == "superseded"


def test_a_clone_carries_every_rule_of_the_plan_until_it_is_named(released: Home) -> None:
    window = {"days": ["sat"], "start": "02:00", "minutes": 240, "zone": "Europe/Berlin"}
    rules: dict[str, Any] = {
        "from_versions": [">=0.5"],
        "requires": [{"product": "os", "at_least": "11"}],
        "window": window,
        "spread_seconds": 60,
        "retry": {"count": 2, "backoff_seconds": 60, "codes": ["health_failed"]},
        "ignores_freeze": True,
    }
    made = create(released, waves=[{"group": "everyone", "gate": {"approvals": 1}}], **rules)
    same = released.call("POST", f"/rollouts/{made['id']}/clone", {}).get_json()
    assert same["plan_hash"] == made["plan_hash"]
    assert {name: same["plan"][name] for name in rules} == rules
    changes: dict[str, object] = {"window": None, "retry": None, "spread_seconds": 0, "from_versions": []}
    other = released.call("POST", f"/rollouts/{made['id']}/clone", changes).get_json()
    assert changes.keys() & other["plan"].keys() == set()
    assert other["plan"]["requires"] == rules["requires"]
    template: dict[str, object] = {"template": {"name": "all-at-once", "groups": ["everyone"]}}
    refused = released.call("POST", f"/rollouts/{made['id']}/clone", template)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "permission_denied")
    unfrozen = released.call("POST", f"/rollouts/{made['id']}/clone", {**template, "ignores_freeze": False})
    assert unfrozen.status_code == 201, unfrozen.text


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"version": "9.9.9"}, 404), ({"waves": []}, 400), ({"priority": "urgent"}, 400), ({"color": "red"}, 400)],
)
def test_a_clone_that_cannot_be_is_refused_and_makes_nothing(
    released: Home, changes: dict[str, object], status: int
) -> None:
    made = create(released)
    refused = released.call("POST", f"/rollouts/{made['id']}/clone", changes)
    assert refused.status_code in {status, 409, 422}, refused.text
    assert len(released.call("GET", "/rollouts").get_json()["items"]) == 1


def test_a_rerun_is_for_what_has_ended(released: Home) -> None:
    made = create(released)
    refused = released.call("POST", f"/rollouts/{made['id']}/rerun", {})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "transition_not_allowed")
    tick(released)
    again = released.call("POST", f"/rollouts/{made['id']}/rerun", {}).get_json()
    assert (again["state"], again["cloned_from"], again["plan_hash"]) == ("waiting", made["id"], made["plan_hash"])


def test_a_retry_for_later_is_shown_and_bounded(released: Home) -> None:
    made = create(released, waves=[{"group": "everyone", "gate": {"soak_seconds": 3600}}])
    tick(released, 1)
    planned = released.call("POST", f"/rollouts/{made['id']}/retry", {"after_seconds": 1800})
    assert planned.status_code == 200, planned.text
    at = datetime.fromisoformat(planned.get_json()["retry_at"])
    assert timedelta(minutes=25) < at - datetime.now(UTC) <= timedelta(minutes=30)
    assert released.call("POST", f"/rollouts/{made['id']}/retry", {"after_seconds": 0}).status_code == 400


def test_a_recount_tells_what_is_wrong(released: Home) -> None:
    made = create(released)
    tick(released)
    sound = released.call("GET", f"/rollouts/{made['id']}/recount").get_json()
    assert (sound["is_sound"], sound["faults"], sound["state"]) == (True, [], "completed")
    with released.wiring.db.write() as connection:
        document = released.wiring.rollout_store.get("acme", made["id"])
        spoilt = {**rollout_to_dict(document), "attempt": 9}
        connection.execute(update(rollouts).where(rollouts.c.id == made["id"]).values(document=spoilt))
    found = released.call("GET", f"/rollouts/{made['id']}/recount").get_json()
    assert found["is_sound"] is False
    assert found["faults"] == [f"its events replay to revision {sound['revision']}, which is not what is stored"]


def leaders(home: Home) -> tuple[Leader, Leader, Wavegate]:
    other = open_wavegate(home.wiring.settings)
    return (
        Leader(home.wiring, Leases(home.wiring.db), holder="one"),
        Leader(other, Leases(other.db), holder="two"),
        other,
    )


def test_of_two_servers_one_leads_and_a_clean_end_hands_over_at_once(released: Home) -> None:
    one, two, other = leaders(released)
    made = create(released, waves=[{"group": "everyone", "gate": {"soak_seconds": 3600}}])
    assert one.turn(datetime.now(UTC))
    assert shown(released, made["id"])["state"] == "running"
    assert not two.turn(datetime.now(UTC))
    one.step_down()
    assert two.turn(datetime.now(UTC))
    assert not one.turn(datetime.now(UTC))
    other.close()


def test_a_leader_that_lost_its_lease_while_it_was_looking_does_not_act(released: Home) -> None:
    one, _, other = leaders(released)
    made = create(released)
    store = released.wiring.rollout_store
    leases = Leases(other.db)
    moving = type(store).moving

    def lose_the_lease_then_look(self: Any, org: str) -> Any:
        found = moving(self, org)
        held = leases.take(NAME, "one", life=timedelta(seconds=10))
        assert held is not None
        leases.give_up(held)
        assert leases.take(NAME, "two", life=timedelta(hours=1)) is not None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store), "moving", lose_the_lease_then_look)
        assert one.turn(datetime.now(UTC))
    assert shown(released, made["id"])["state"] == "waiting"
    assert released.wiring.repository.served("decisions/fw/everyone.json") is None
    assert not one.turn(datetime.now(UTC))
    other.close()
