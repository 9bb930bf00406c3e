"""`publish product` and approvals by an own key: what is sent, and what is never signed."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey

from cli.approving import EXPLAINED
from keys.holders import new_holder_key, open_signer
from repo_signing.canonical import encode
from rollout.budget import Budget
from rollout.decision import Decision, DecisionArtifact, encode_decision
from rollout.model import ArtifactRef, Gate, Plan, Requirement, RetryPolicy, WavePlan, plan_to_dict
from rollout.windows import Window
from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish, on_a_terminal
from tests.unit.cli.samples import rollout

ROLLOUT = "/api/v1/rollouts/rol_01"
DRAFT: dict[str, Any] = {
    "id": "drf_1", "title": "approvers of app", "created_by": {"name": "Ann"}, "deadline": "2026-12-22T10:00:00Z",
    "parts": [],
}  # fmt: skip


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, SSlibKey]:
    """URI and public half of a key of one's own."""
    _, made = new_holder_key(tmp_path / "keys", "ann")
    return f"sealed:{tmp_path / 'keys' / 'ann.pem'}", made


def test_approvers_are_named_all_at_once_and_all_sign_unless_told_otherwise(
    publish: Publish, server: ApiServerSimulator, key: tuple[str, SSlibKey], tmp_path: Path
) -> None:
    server.on("POST", "/api/v1/repository/products/app/approvers", Reply(201, DRAFT))
    new_holder_key(tmp_path / "keys", "ben")
    files = ("--key", str(tmp_path / "keys" / "ann.pub"), "--key", str(tmp_path / "keys" / "ben.pub"))
    assert publish("product", "approvers", "app", *files).code == 0
    sent = server.requests[0].json
    assert (sent["threshold"], sent["keys"][0]["keyid"]) == (2, key[1].keyid)
    assert publish("product", "approvers", "app", *files, "--threshold", "1", "--deadline-days", "3").code == 0
    assert (server.requests[1].json["threshold"], server.requests[1].json["deadline_days"]) == (1, 3)


def test_a_product_goes_back_to_the_server_by_one_word(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/repository/products/app/managed", Reply(201, DRAFT))
    assert publish("product", "approvers", "app", "--managed").code == 0
    assert server.requests[0].json == {}
    for wrong in ((), ("--managed", "--key", "ann.pub")):
        assert publish("product", "approvers", "app", *wrong).code == 2
    assert len(server.requests) == 1


def test_show_says_who_signs(publish: Publish, server: ApiServerSimulator) -> None:
    signers = {"keyids": ["k1", "k2"], "threshold": 2, "expires": "2027-02-20T10:00:00Z"}
    told = {"name": "app", "mode": "signed", "approvers": signers, "claimed": False}
    server.on("GET", "/api/v1/products/app", Reply(200, told))
    done = publish("product", "show", "app", "-o", "table")
    assert "waves         signed by approvers" in done.out
    assert "signed until  2027-02-20 10:00:00Z" in done.out
    server.on("GET", "/api/v1/products/lib", Reply(200, {**told, "name": "lib", "mode": "managed", "approvers": None}))
    assert "signed by the server (managed)" in publish("product", "show", "lib", "-o", "table").out


@pytest.mark.parametrize(
    ("mode", "options", "told"),
    [
        ("signed", (), "approvers of app sign with their own keys"),
        ("managed", ("--key", "ann.pem"), "approve without --key"),
        ("managed", ("--through", "2"), "approve without --key and --through"),
    ],
)
def test_a_key_is_for_signed_products_and_for_no_others(
    publish: Publish, server: ApiServerSimulator, mode: str, options: tuple[str, ...], told: str
) -> None:
    server.on("GET", ROLLOUT, Reply(200, {**rollout(), "mode": mode}))
    done = publish("rollout", "approve", "rol_01", "--yes", *options)
    assert (done.code, told in done.err) == (2, True)
    assert server.asked("POST", f"{ROLLOUT}/approve") == []


def signed_rollout(first: WavePlan | None = None, **rules: Any) -> dict[str, Any]:
    told = {**rollout(), "mode": "signed"}
    artifacts = {name: ArtifactRef(**one) for name, one in told["plan"]["artifacts"].items()}
    waves = (first or WavePlan(group="canary", percent=10), WavePlan(group="fleet"))
    plan = Plan(product="app", version="1.0.0", channel="stable", artifacts=artifacts, waves=waves, **rules)
    return told | {"plan": plan_to_dict(plan), "plan_hash": plan.hash()}


def asked(key: tuple[str, SSlibKey], told: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """What an honest server asks to be signed, for a rollout with one artifact; ``changes`` are to its decision."""
    told = told or signed_rollout()
    artifact = told["plan"]["artifacts"]["any"]
    fields: dict[str, Any] = {
        "org": "acme", "product": "app", "channel": "stable", "group": "canary", "rollout": "rol_01",
        "plan_hash": told["plan_hash"], "wave": 1, "revision": 1,
        "submitted_at": datetime.fromisoformat(told["submitted_at"]), "version": "1.0.0",
        "artifacts": {"any": DecisionArtifact(path=artifact["path"], length=52428800, sha256=artifact["sha256"])},
        "salt": "ab" * 16, "cohort_from": 0, "cohort_to": 1000,
    }  # fmt: skip
    document = encode_decision(Decision(**(fields | changes)))
    digest = hashlib.sha256(document).hexdigest()
    expires = (datetime.now(UTC) + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {"_type": "targets", "spec_version": "1.0.31", "expires": expires, "version": 4, "targets": {}}
    uri, public = key
    signature = open_signer(uri, public).sign(encode(body)).to_dict()
    served = encode({"signatures": [signature], "signed": body})
    entry = {"length": len(document), "hashes": {"sha256": digest}}
    payload = encode({**body, "version": 7, "targets": {"decisions/app/canary.json": entry}})
    return {
        "rollout": "rol_01",
        "product": "app",
        "plan_hash": told["plan_hash"],
        "role": "waves-app",
        "threshold": 1,
        "keys": {public.keyid: public.to_dict()},
        "served": {"version": 4, "file": base64.b64encode(served).decode()},
        "waves": [
            {
                "wave": 1,
                "version": 7,
                "base_version": 4,
                "payload_sha256": hashlib.sha256(payload).hexdigest(),
                "payload": base64.b64encode(payload).decode(),
                "signed": [],
            }
        ],
        "decisions": {digest: document.decode()},
    }


def test_an_approver_is_shown_what_the_bytes_say_and_signs_exactly_them(
    publish: Publish, server: ApiServerSimulator, key: tuple[str, SSlibKey]
) -> None:
    question = asked(key)
    server.on("GET", ROLLOUT, Reply(200, signed_rollout()))
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, question))
    server.on("POST", f"{ROLLOUT}/approve", Reply(200, signed_rollout()))
    done = publish("rollout", "approve", "rol_01", "--key", key[0], "--yes")
    assert done.code == 0, done.err
    [sent] = server.asked("POST", f"{ROLLOUT}/approve")
    payload = base64.b64decode(question["waves"][0]["payload"])
    expected = open_signer(*key).sign(payload).signature
    assert sent.json == {
        "wave": 1,
        "plan_hash": signed_rollout()["plan_hash"],
        "signature": {"keyid": key[1].keyid, "waves": {"1": expected}},
    }
    for line in (
        "you sign       wave 1 of 2 of rol_01",
        "devices        10% of group canary (places 0 to 999 of 10000)",
        "would receive  app 1.0.0 (stable)",
        "  sha256       " + "a" * 64,
        "instead of     nothing: no decision stands for this group",
        "1 of 1 approvers must sign",
    ):
        assert line in done.err.splitlines()


def test_what_cannot_be_explained_is_not_signed(
    publish: Publish, server: ApiServerSimulator, key: tuple[str, SSlibKey]
) -> None:
    server.on("GET", ROLLOUT, Reply(200, signed_rollout()))
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, asked(key, cohort_to=10_000)))
    done = publish("rollout", "approve", "rol_01", "--key", key[0], "--yes")
    assert done.code == 8
    assert "the share of the group of wave 1 would be (0, 10000)" in done.err
    assert server.asked("POST", f"{ROLLOUT}/approve") == []


LATER = datetime(2027, 1, 9, 8, tzinfo=UTC)
RULES: dict[str, Any] = {
    "from_versions": (">=0.8,<1", "0.7"),
    "requires": (Requirement(product="base-os", at_least="11.2"),),
    "window": Window(days=("sat", "sun"), start="02:00", minutes=240, zone="local"),
    "spread_seconds": 5400,
    "retry": RetryPolicy(count=2, backoff_seconds=600, codes=("download_failed", "install_failed")),
    "budget": Budget(label="site", max_updating=1),
}
SPREAD = WavePlan(group="canary", count=5, gate=Gate(not_before=LATER))
SAID: dict[str, Any] = {**RULES, "spread_from": LATER, "not_before": LATER, "cohort_to": 12}


def test_every_rule_of_a_plan_is_told_in_words_out_of_the_bytes(
    publish: Publish, server: ApiServerSimulator, key: tuple[str, SSlibKey]
) -> None:
    told = signed_rollout(SPREAD, after=("rol_00",), **RULES)
    server.on("GET", ROLLOUT, Reply(200, told))
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, asked(key, told, **SAID)))
    server.on("POST", f"{ROLLOUT}/approve", Reply(200, told))

    done = publish("rollout", "approve", "rol_01", "--key", key[0], "--yes")

    assert done.code == 0, done.err
    words = done.err.split("you sign")[1].splitlines()
    for line in (
        "devices        0.12% of group canary (places 0 to 11 of 10000)",
        "by count       5 devices, if the group has about 4167; of a larger group it is more",
        "not before     2027-01-09 08:00:00Z",
        "only from      >=0.8,<1 or 0.7",
        "only beside    base-os 11.2 or later",
        "installs       begin only sat,sun 02:00 4h local",
        "spread         each device at its own moment within 1h30m of not before",
        "budget         at most 1 for each site, by permit for 1h; the server counts",
        "retries        up to 2 more after a failure with download_failed or install_failed, "
        "first after 10m, then twice as long each time",
        "not signed     that it waits for rol_00: the server keeps that",
    ):
        assert line in words


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ({"from_versions": ()}, "versions to come from of wave 1"),
        ({"requires": ()}, "requirements of wave 1"),
        ({"window": None}, "maintenance window of wave 1"),
        ({"spread_from": LATER - timedelta(days=9)}, "spread of wave 1"),
        ({"spread_seconds": 0}, "spread of wave 1"),
        ({"retry": RetryPolicy(count=9)}, "retry policy of wave 1"),
        ({"retry": None}, "retry policy of wave 1"),
        ({"budget": None}, "budget of wave 1"),
        ({"budget": Budget(label="site", max_updating=2)}, "budget of wave 1"),
        ({"not_before": None}, "not_before of wave 1"),
        ({"cohort_from": 3}, "share of the group of wave 1"),
        ({"cohort_to": 10_001}, "share of the group of wave 1"),
        ({"revision": 7}, "revision of wave 1"),
    ],
)
def test_a_rule_that_the_plan_does_not_say_so_is_not_signed(
    publish: Publish, server: ApiServerSimulator, key: tuple[str, SSlibKey], lie: dict[str, Any], told: str
) -> None:
    shown = signed_rollout(SPREAD, **RULES)
    server.on("GET", ROLLOUT, Reply(200, shown))
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, asked(key, shown, **(SAID | lie))))
    done = publish("rollout", "approve", "rol_01", "--key", key[0], "--yes")
    assert done.code == 8
    assert f"the {told} would be" in done.err
    assert server.asked("POST", f"{ROLLOUT}/approve") == []


def test_shares_of_a_hundredth_of_a_percent_are_told_and_held_against_the_plan(
    publish: Publish, server: ApiServerSimulator, key: tuple[str, SSlibKey]
) -> None:
    shown = signed_rollout(WavePlan(group="canary", percent=0.05))
    server.on("GET", ROLLOUT, Reply(200, shown))
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, asked(key, shown, cohort_to=5)))
    server.on("POST", f"{ROLLOUT}/approve", Reply(200, shown))
    done = publish("rollout", "approve", "rol_01", "--key", key[0], "--yes")
    assert done.code == 0, done.err
    assert "devices        0.05% of group canary (places 0 to 4 of 10000)" in done.err
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, asked(key, shown, cohort_to=6)))
    assert publish("rollout", "approve", "rol_01", "--key", key[0], "--yes").code == 8


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"note": "another"}, "has the hash"),
        ({"priority": 5}, "says more than this program can read"),
    ],
)
def test_a_plan_that_is_not_the_one_of_the_hash_is_not_signed(
    publish: Publish, server: ApiServerSimulator, key: tuple[str, SSlibKey], edit: dict[str, Any], told: str
) -> None:
    shown = signed_rollout()
    server.on("GET", ROLLOUT, Reply(200, shown | {"plan": shown["plan"] | edit}))
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, asked(key)))
    done = publish("rollout", "approve", "rol_01", "--key", key[0], "--yes")
    assert (done.code, told in done.err) == (8, True)


def test_no_field_of_a_decision_is_left_unexplained() -> None:
    assert {one.name for one in fields(Decision)} == EXPLAINED


def test_a_person_at_a_terminal_may_say_no(
    server: ApiServerSimulator, key: tuple[str, SSlibKey], config_dir: Path
) -> None:
    server.on("GET", ROLLOUT, Reply(200, signed_rollout()))
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, asked(key)))
    ended, screen = on_a_terminal(
        "rollout", "approve", "rol_01", "--key", key[0], "--url", server.url, config=config_dir,
        dialogue=[("Sign this? [y/N]: ", "n")],
    )  # fmt: skip
    assert "10% of group canary" in screen
    assert ended == 1
    assert server.asked("POST", f"{ROLLOUT}/approve") == []


def test_a_key_that_is_no_approvers_signs_nothing(
    publish: Publish, server: ApiServerSimulator, key: tuple[str, SSlibKey], tmp_path: Path
) -> None:
    server.on("GET", ROLLOUT, Reply(200, signed_rollout()))
    server.on("GET", f"{ROLLOUT}/waves/1/decision", Reply(200, asked(key)))
    new_holder_key(tmp_path / "other", "eve")
    done = publish("rollout", "approve", "rol_01", "--key", str(tmp_path / "other" / "eve.pem"), "--yes")
    assert done.code == 2
    assert "none of the 1 keys" in done.err


def test_taking_over_or_renewing_names_every_decision_that_is_signed_again() -> None:
    from cli.signing import differences

    entry = {"length": 12, "hashes": {"sha256": "ab" * 32}}
    body = {
        "_type": "targets",
        "version": 5,
        "expires": "2027-02-20T10:00:00Z",
        "targets": {"decisions/app/a.json": entry},
    }
    payload = json.dumps(body).encode()
    base = json.dumps({"signatures": [], "signed": {**body, "version": 4}}).encode()
    part = {
        "role": "waves-app",
        "version": 5,
        "payload": base64.b64encode(payload).decode(),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "base": base64.b64encode(base).decode(),
    }
    assert f"= decisions/app/a.json stays: 12 bytes, sha256 {'ab' * 32}" in differences({"parts": [part]})
