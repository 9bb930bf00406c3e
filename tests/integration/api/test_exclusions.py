"""Exclusions, pins, freezes and templates over the API, down to the signed list."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from rollout.decision import decode_decision
from rollout.exclusion import decode_exclusions, exclusions_path
from tests.integration.api.conftest import Home

SBOM = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "components": [{"type": "library", "name": "libfoo", "version": "1.2", "purl": "pkg:deb/debian/libfoo@1.2"}],
}


@pytest.fixture
def fleet(home: Home) -> Home:
    assert home.call("POST", "/groups", {"name": "canary"}).status_code == 201
    for version in ("1.0.0", "2.0.0"):
        assert home.publish(version.encode(), version).status_code == 201
    return home


def listed(home: Home) -> list[dict[str, object]]:
    document = home.wiring.repository.served(exclusions_path("fw"))
    return [] if document is None else json.loads(document)["entries"]


def plan(version: str = "2.0.0", **more: object) -> dict[str, object]:
    return {"product": "fw", "version": version, "waves": [{"group": "canary"}], **more}


def rollout(home: Home, version: str = "2.0.0") -> str:
    answer = home.call("POST", "/rollouts", plan(version))
    assert answer.status_code == 201, answer.text
    return str(answer.get_json()["id"])


def tick(home: Home) -> None:
    home.wiring.rollouts.tick("acme", datetime.now(UTC))


def test_an_excluded_version_is_signed_away_when_the_command_returns(fleet: Home) -> None:
    made = fleet.call("POST", "/exclusions", {"product": "fw", "version": "2.0.0", "reason": "overheats"})

    assert made.status_code == 201, made.text
    (entry,) = decode_exclusions(fleet.wiring.repository.served(exclusions_path("fw")) or b"", org="acme", product="fw")
    assert entry.forbids("2.0.0", "ab" * 32, datetime.now(UTC))
    assert not entry.forbids("1.0.0", "ab" * 32, datetime.now(UTC))
    assert entry.words() == "excluded: overheats"


def test_a_rollout_of_an_excluded_version_cannot_be_made_and_a_waiting_one_pauses(fleet: Home) -> None:
    waiting = rollout(fleet)

    fleet.call("POST", "/exclusions", {"product": "fw", "version": "2.0.0", "reason": "overheats"})

    refused = fleet.call("POST", "/rollouts", plan())
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "release_blocked")
    shown = fleet.call("GET", f"/rollouts/{waiting}").get_json()
    assert (shown["state"], shown["why"]) == ("paused", "paused: fw 2.0.0 is excluded: overheats")


def test_a_removed_exclusion_is_gone_from_the_signed_list(fleet: Home) -> None:
    made = fleet.call("POST", "/exclusions", {"group": "canary", "reason": "night shift"}).get_json()
    assert [entry.get("group") for entry in listed(fleet)] == ["canary"]

    assert fleet.call("DELETE", f"/exclusions/{made['id']}").status_code == 204

    assert listed(fleet) == []
    assert fleet.call("DELETE", f"/exclusions/{made['id']}").status_code == 404
    assert fleet.call("GET", "/exclusions").get_json()["items"] == []


def test_an_exclusion_that_names_nothing_or_too_much_is_refused(fleet: Home) -> None:
    for body in (
        {"reason": "why"},
        {"product": "fw", "reason": "why"},
        {"version": "2.0.0", "reason": "why"},
        {"group": "canary", "reason": " "},
        {"product": "fw", "version": "2.0.0", "package": "libfoo", "reason": "why"},
        {"group": "canary", "until": "2020-01-01T00:00:00Z", "reason": "why"},
    ):
        answer = fleet.call("POST", "/exclusions", body)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_exclusion"), body
    assert fleet.call("POST", "/exclusions", {"group": "nobody", "reason": "why"}).status_code == 404
    assert fleet.call("POST", "/exclusions", {"device": "nobody", "reason": "why"}).status_code == 404
    assert listed(fleet) == []


def test_a_time_is_taken_in_any_zone_and_told_in_utc(fleet: Home) -> None:
    body = {"group": "canary", "until": "2100-01-01T00:00:00+05:00", "reason": "why"}
    assert fleet.call("POST", "/exclusions", body).get_json()["until"] == "2099-12-31T19:00:00Z"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_has_no_date_for_is_refused(fleet: Home, moment: str) -> None:
    waves = [{"group": "canary", "gate": {"not_before": moment}}]
    for path, body, loc in (
        ("/rollouts", plan() | {"waves": waves}, "waves.0.gate.not_before"),
        ("/freeze-windows", {"ends": moment, "reason": "why"}, "ends"),
        ("/exclusions", {"group": "canary", "until": moment, "reason": "why"}, "until"),
    ):
        answer = fleet.call("POST", path, body)
        assert (answer.status_code, answer.get_json()["error"]["details"]) == (
            400,
            [{"loc": loc, "message": "Value error, in UTC it is no date of the years 1 to 9999"}],
        ), answer.text


@pytest.mark.parametrize("package", ["libfoo", "pkg:deb/debian/libfoo", "pkg:deb/debian/libfoo@1.2"])
def test_a_package_blocks_what_contains_it(fleet: Home, package: str) -> None:
    made = fleet.call("GET", "/artifacts").get_json()["items"]
    second = next(one for one in made if one["version"] == "2.0.0")
    attached = fleet.call("PUT", f"/artifacts/{second['id']}/sboms", data=json.dumps(SBOM).encode())
    assert attached.status_code == 201, attached.text

    fleet.call("POST", "/exclusions", {"package": package, "reason": "CVE-1"})

    refused = fleet.call("POST", "/rollouts", plan())
    assert refused.get_json()["error"]["message"] == (f"fw 2.0.0 contains {package}, which is excluded: CVE-1")
    assert fleet.call("POST", "/rollouts", plan("1.0.0")).status_code == 201


def test_a_package_kept_from_a_group_is_found_before_the_wave_opens(fleet: Home) -> None:
    made = fleet.call("GET", "/artifacts").get_json()["items"]
    second = next(one for one in made if one["version"] == "2.0.0")
    fleet.call("PUT", f"/artifacts/{second['id']}/sboms", data=json.dumps(SBOM).encode())
    fleet.call("POST", "/exclusions", {"package": "libfoo", "group": "canary", "reason": "CVE-1"})
    assert listed(fleet) == []

    rollout(fleet)
    tick(fleet)

    assert [(entry.get("group"), entry.get("sha256")) for entry in listed(fleet)] == [("canary", [second["sha256"]])]


def test_a_viewer_reads_exclusions_and_makes_none(fleet: Home) -> None:
    viewer = fleet.person("vic@example.com", "viewer")
    assert fleet.call("GET", "/exclusions", token=viewer).status_code == 200
    answer = fleet.call("POST", "/exclusions", {"group": "canary", "reason": "why"}, token=viewer)
    assert (answer.status_code, answer.get_json()["error"]["permission"]) == (403, "exclusions:write")


def test_a_freeze_holds_a_wave_and_says_until_when(fleet: Home) -> None:
    made = fleet.call(
        "POST", "/freeze-windows", {"ends": "2099-01-01T00:00:00+01:00", "reason": "year end", "product": "fw"}
    )
    assert made.status_code == 400  # more than 366 days
    frozen = fleet.call(
        "POST",
        "/freeze-windows",
        {
            "weekly": {
                "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                "start": "00:00",
                "minutes": 1440,
                "zone": "Europe/Berlin",
            },
            "reason": "always",
        },
    )
    assert frozen.status_code == 201, frozen.text
    waiting = rollout(fleet)

    tick(fleet)

    shown = fleet.call("GET", f"/rollouts/{waiting}").get_json()
    assert shown["state"] == "waiting"
    assert shown["why"].startswith("wave 1 is frozen until ")
    assert shown["why"].endswith(": always")
    opened = fleet.call("POST", f"/rollouts/{waiting}/advance", {})
    assert (opened.status_code, opened.get_json()["error"]["code"]) == (409, "transition_not_allowed")
    assert fleet.call("DELETE", f"/freeze-windows/{frozen.get_json()['id']}").status_code == 204
    tick(fleet)
    assert fleet.call("GET", f"/rollouts/{waiting}").get_json()["state"] == "running"


def test_ignoring_freezes_takes_an_approver_or_approvals(fleet: Home) -> None:
    refused = fleet.call("POST", "/rollouts", plan(ignores_freeze=True))
    assert (refused.status_code, refused.get_json()["error"]["permission"]) == (403, "rollouts:approve")
    asked = plan(ignores_freeze=True) | {"waves": [{"group": "canary", "gate": {"approvals": 1}}]}
    assert fleet.call("POST", "/rollouts", asked).status_code == 201
    assert fleet.call("POST", "/rollouts", plan(ignores_freeze=True), token=fleet.admin()).status_code == 201


def test_a_template_becomes_explicit_waves_before_it_is_hashed(fleet: Home) -> None:
    call = {"name": "exponential", "groups": ["canary"], "start": 0.5, "factor": 10, "gate": {"soak_seconds": 60}}
    told = {"product": "fw", "version": "2.0.0", "template": call}
    shown = fleet.call("POST", "/rollouts", told).get_json()

    assert [wave["percent"] for wave in shown["plan"]["waves"]] == [0.5, 5, 50, 100]
    assert {wave["gate"]["soak_seconds"] for wave in shown["waves"]} == {60}
    assert "template" not in shown["plan"]
    explicit = plan() | {"waves": shown["plan"]["waves"]}
    assert fleet.call("POST", "/rollouts", explicit).get_json()["plan_hash"] == shown["plan_hash"]


def test_a_stored_template_is_used_listed_and_deleted(fleet: Home) -> None:
    fleet.call("POST", "/groups", {"name": "fleet"})
    body = {"name": "careful", "waves": [{"percent": 5}, {"percent": 100}, {"group": "fleet"}]}
    assert fleet.call("POST", "/rollout-templates", body).status_code == 201
    assert fleet.call("POST", "/rollout-templates", body).status_code == 400

    call = {"name": "careful", "groups": ["canary"]}
    shown = fleet.call("POST", "/rollouts", {"product": "fw", "version": "2.0.0", "template": call}).get_json()

    assert [(wave["group"], wave["percent"]) for wave in shown["waves"]] == [
        ("canary", 5),
        ("canary", 100),
        ("fleet", 100),
    ]
    names = [one["name"] for one in fleet.call("GET", "/rollout-templates").get_json()["items"]]
    assert names == ["canary", "all-at-once", "exponential", "rings", "careful"]
    assert fleet.call("DELETE", "/rollout-templates/careful").status_code == 204
    assert fleet.call("DELETE", "/rollout-templates/careful").status_code == 404
    again = fleet.call("POST", "/rollouts", {"product": "fw", "version": "2.0.0", "template": call})
    assert again.get_json()["error"]["code"] == "template_not_found"


def test_a_plan_with_every_rule_is_kept_shown_and_signed(fleet: Home) -> None:
    first = rollout(fleet, version="1.0.0")
    rules: dict[str, object] = {
        "from_versions": ["1.0.0", ">=1.2,<2"],
        "requires": [{"product": "os", "at_least": "11.2"}],
        "after": [first],
        "window": {"days": ["sat", "sun"], "start": "02:00", "minutes": 240, "zone": "local"},
        "spread_seconds": 3600,
        "retry": {"count": 2, "backoff_seconds": 600, "codes": ["health_failed"]},
    }
    fleet.call("POST", "/groups", {"name": "other"})
    body = {"product": "fw", "version": "2.0.0", "waves": [{"group": "other", "percent": 12.5}], **rules}
    second = fleet.call("POST", "/rollouts", body).get_json()

    assert {name: second["plan"][name] for name in rules} == rules
    assert second["why"] == f"wave 1 is held back until {first} is completed; it is waiting"
    for _ in range(3):  # the first opens, passes with nobody in it, then the second opens
        tick(fleet)
    document = fleet.wiring.repository.served("decisions/fw/other.json") or b""
    decision = decode_decision(document)
    assert json.loads(document)["format"] == 2
    assert (decision.cohort_to, decision.from_versions) == (1250, ("1.0.0", ">=1.2,<2"))
    assert decision.window is not None
    assert decision.window.words() == "sat,sun 02:00 4h local"
    assert (decision.spread_seconds, decision.retry is not None, len(decision.requires)) == (3600, True, 1)


def test_a_plan_with_faulty_rules_is_refused_with_all_of_them(fleet: Home) -> None:
    faulty = plan(
        from_versions=["~1.0"],
        requires=[{"product": "fw", "at_least": "1"}],
        window={"days": ["sun", "sat"], "start": "25:00", "minutes": 60, "zone": "Mars/Phobos"},
        retry={"count": 1, "codes": ["NO!"]},
    )
    answer = fleet.call("POST", "/rollouts", faulty)
    assert answer.status_code == 400
    assert [one["loc"] for one in answer.get_json()["error"]["details"]] == [
        "from_versions.1",
        "requires.1.product",
        "window",
        "window",
        "window",
        "retry.codes.1",
    ]


def test_a_wave_behind_a_manual_one_waits_for_an_operator(fleet: Home) -> None:
    fleet.call("POST", "/groups", {"name": "fleet"})
    body = plan() | {"waves": [{"group": "canary", "gate": {"advance": "manual"}}, {"group": "fleet"}]}
    made = fleet.call("POST", "/rollouts", body).get_json()["id"]
    for _ in range(4):
        tick(fleet)
    waiting = fleet.call("GET", f"/rollouts/{made}").get_json()
    assert (waiting["state"], waiting["wave"]) == ("waiting", 2)
    assert waiting["why"] == f"wave 2 waits for an operator's word: publish rollout advance {made}"

    opened = fleet.call("POST", f"/rollouts/{made}/advance", {})

    assert (opened.status_code, opened.get_json()["state"]) == (200, "running")
    events = fleet.call("GET", f"/rollouts/{made}/events").get_json()["items"]
    assert events[-1]["tag"] == "rollout.wave.opened"
    assert events[-1]["by"]["kind"] != "system"
