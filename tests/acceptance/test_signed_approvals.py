"""A product whose approvers sign with their own keys: from the appointment to devices, with the installed commands."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.conftest import BIN, Home
from tests.acceptance.test_ceremony import person
from tests.acceptance.test_rollouts import Device, Wait, create, installed, push, show

PASSWORD = "a long enough password"


class Approver:
    """Somebody with a login and a key of their own, both on their own machine."""

    def __init__(self, home: Home, folder: Path, name: str) -> None:
        self._environ = {
            **home.environ,
            "WAVEGATE_URL": home.url,
            "WAVEGATE_CONFIG_DIR": str(folder / f"{name}-config"),
        }
        self.key = person(folder, name)
        home.publish(
            *("user", "create", f"{name}@example.com", "--name", name, "--role", "approver", "--password-file", "-"),
            stdin=PASSWORD,
        )
        self.run("login", "--email", f"{name}@example.com", "--password-stdin", stdin=PASSWORD)

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `publish` as this person."""
        done = subprocess.run(
            [BIN / "publish", *arguments], env=self._environ, input=stdin, capture_output=True, text=True
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def sign(self, rollout_id: str, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`publish rollout approve` with the own key."""
        return self.run("rollout", "approve", rollout_id, "--key", self.key["uri"], "--yes", *more, check=check)


@pytest.fixture
def fleet(home: Home, tmp_path: Path) -> list[Device]:
    """Two devices in the group `everyone`."""
    home.log_in()
    home.publish("group", "create", "everyone")
    token = home.publish("enroll-token", "create", "batch", "--group", "everyone", "--max-uses", "2")["token"]
    return [Device(home, tmp_path, token, f"device-{number}") for number in range(2)]


@pytest.fixture
def approvers(home: Home, fleet: list[Device], tmp_path: Path) -> list[Approver]:
    """Ann and Ben, who both have to sign every wave of `fw`."""
    ann, ben = (Approver(home, tmp_path, name) for name in ("ann", "ben"))
    assert home.publish("product", "show", "fw")["mode"] == "managed"
    draft = home.publish(
        "product", "approvers", "fw", "--key", ann.key["public"], "--key", ben.key["public"], "--threshold", "2"
    )["id"]
    offline = home.folder / "orgs" / "acme" / "offline-keys"
    keys: list[str | Path] = [*offline.rglob("targets*.pem"), ann.key["uri"], ben.key["uri"]]
    for key in keys:
        signed = home.publish("repo", "sign", draft, "--key", key, "--yes")
    assert signed["serial"] is not None
    return [ann, ben]


def test_waves_of_a_signed_product_open_by_its_approvers_signatures_alone(
    home: Home, fleet: list[Device], approvers: list[Approver], tmp_path: Path, wait_until: Wait
) -> None:
    ann, ben = approvers
    product = home.publish("product", "show", "fw")
    assert (product["mode"], product["approvers"]["threshold"]) == ("signed", 2)
    assert product["approvers"]["keyids"] == [ann.key["keyid"], ben.key["keyid"]]
    push(home, tmp_path, "1.0.0", b"release one")
    first = create(home, "1.0.0", "everyone:50,soak=0s,min_reports=1", "everyone,soak=0s")
    waiting = "wave 1 waits for signatures: 0 of 2 signatures by approvers of fw given"
    assert (show(home, first)["mode"], show(home, first)["why"]) == ("signed", waiting)
    refused = ann.run("rollout", "approve", first, "--yes", check=False)
    assert refused.returncode == 2
    assert "sign with their own keys" in refused.stderr

    told = ann.sign(first, "--wave", "1").stderr
    assert "50% of group everyone (places 0 to 4999 of 10000)" in told
    assert "fw/1.0.0/linux-amd64/fw.bin, 11 B" in told
    assert "nothing: no decision stands for this group" in told
    assert installed(fleet) == {None}
    again = ann.sign(first, "--wave", "1")
    assert "1 of 2 signatures" in json.loads(again.stdout)["why"], "one key counts once"
    ben.sign(first, "--wave", "1")
    wait_until(lambda: show(home, first)["waves"][0]["state"] != "pending")

    def both() -> bool:
        """Whether the first wave has passed, with all that are in it."""
        installed(fleet)
        return bool(show(home, first)["wave"] == 2)

    wait_until(both)
    assert show(home, first)["why"].startswith("wave 2 waits for signatures: 0 of 2")
    told = ann.sign(first).stderr
    assert "50% of the group become 100%" in told
    ben.sign(first)
    wait_until(lambda: installed(fleet) == {b"release one"})
    wait_until(lambda: show(home, first)["state"] == "completed")

    yes = show(home, first)["waves"][0]["approvals"]
    assert [(one["by"]["name"], one["keyid"]) for one in yes] == [("ann", ann.key["keyid"]), ("ben", ben.key["keyid"])]
    events = home.publish("audit", "list", "--limit", "0", "--subject", first)["items"]
    signed = [one["data"]["command"]["signature"] for one in events if one["tag"] == "rollout.wave.approved"]
    assert [one.partition(":")[0] for one in signed] == [one.key["keyid"] for one in (ann, ben, ann, ben)]

    # What is tried again is another decision: the server cannot offer it alone.
    push(home, tmp_path, "1.1.0", b"broken release")
    bad = create(home, "1.1.0", "everyone,max_failures=1,soak=1h")
    for one in approvers:
        one.sign(bad)

    def paused() -> bool:
        installed(fleet)
        return bool(show(home, bad)["state"] == "paused")

    wait_until(paused)
    tried = home.publish("rollout", "retry", bad, check=False)
    assert tried.returncode == 5
    assert f"a retry of {bad} is another decision, which approvers sign" in tried.stderr
    assert show(home, bad)["state"] == "paused"


def test_a_schedule_is_signed_at_once_and_its_second_wave_waits_for_its_time(
    home: Home, fleet: list[Device], approvers: list[Approver], tmp_path: Path, wait_until: Wait
) -> None:
    push(home, tmp_path, "1.0.0", b"release one")
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat(timespec="seconds").replace("+00:00", "Z")
    loose = create(home, "1.0.0", "everyone:50,soak=0s", "everyone")
    refused = approvers[0].sign(loose, "--through", "2", check=False)
    assert refused.returncode != 0
    assert "not_before of its own" in refused.stderr
    home.publish("rollout", "abort", loose, "--reason", "no times")

    rollout_id = create(home, "1.0.0", "everyone:1,soak=0s", f"everyone,not_before={later}")
    for one in approvers:
        told = one.sign(rollout_id, "--wave", "1", "--through", "2").stderr
    assert told.count("you sign") == 2
    assert later[:10] in told
    wait_until(lambda: show(home, rollout_id)["wave"] == 2)
    assert show(home, rollout_id)["why"] == f"wave 2 opens not before {later}"
    # The operator stops it at any time, by the server's own key.
    home.publish("rollout", "pause", rollout_id, "--reason", "a bug was found")
    assert show(home, rollout_id)["state"] == "paused"
    home.publish("rollout", "resume", rollout_id, "--reason", "it was none")
    assert show(home, rollout_id)["why"] == f"wave 2 opens not before {later}", "what was signed stays signed"

    # Another rollout of the product in between: what waits is to be looked at and signed again.
    home.publish("rollout", "abort", rollout_id, "--reason", "for another")
    home.publish("group", "create", "canary")
    slow, quick = create(home, "1.0.0", "everyone"), create(home, "1.0.0", "canary")
    ann, ben = approvers
    ann.sign(slow)
    for one in approvers:
        one.sign(quick)
    wait_until(lambda: show(home, quick)["waves"][0]["state"] != "pending")
    assert show(home, slow)["why"].startswith("wave 1 waits for signatures: 0 of 2")
    told = ann.sign(slow).stderr
    assert f"fw 1.0.0 to 100% of group canary (places 0 to 9999 of 10000): {quick} wave 1" in told
    ben.sign(slow)
    wait_until(lambda: installed(fleet) == {b"release one"})


def test_rules_of_a_plan_and_exclusions_hold_where_approvers_sign(
    home: Home, fleet: list[Device], approvers: list[Approver], tmp_path: Path, wait_until: Wait
) -> None:
    push(home, tmp_path, "1.0.0", b"broken release")
    home.publish("device", "exclude", "device-0", "--reason", "press runs")
    plan = {
        "product": "fw",
        "version": "1.0.0",
        "waves": [{"group": "everyone", "count": 2, "gate": {"max_failures": 2, "max_failure_rate_percent": None}}],
        "window": "daily 00:00 24h UTC",
        "retry": {"count": 1, "backoff_seconds": 0},
    }
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    rollout_id = str(home.publish("rollout", "create", "--plan", file)["id"])
    said = [one.sign(rollout_id).stderr for one in approvers]
    for told in said:
        assert "by count" in told
        assert "begin only daily 00:00 24h UTC" in told
        assert "up to 1 more after a failure, first after 0s" in told
    wait_until(lambda: show(home, rollout_id)["state"] == "running")

    fleet[0].poll()
    assert fleet[0].runs is None
    assert "excluded: press runs" in fleet[0].agent("status").stdout

    # The other one fails, tries again by itself, and with the second failure the limit is reached.
    fleet[1].poll()
    assert show(home, rollout_id)["state"] == "running"
    fleet[1].poll()
    wait_until(lambda: show(home, rollout_id)["state"] == "paused")
    assert show(home, rollout_id)["why"].startswith("paused: wave 1: 2 of 1 device failed, limit 2")

    # What is yanked pauses at once, and nobody new takes it though approvers signed it.
    home.publish("rollout", "abort", rollout_id, "--reason", "broken")
    push(home, tmp_path, "1.1.0", b"good release")
    good = create(home, "1.1.0", "everyone,soak=1h")
    for one in approvers:
        one.sign(good)
    wait_until(lambda: show(home, good)["state"] == "running")
    fleet[1].poll()
    assert fleet[1].runs == b"good release"
    home.publish("artifact", "yank", "fw/1.1.0/linux-amd64/fw.bin", "--reason", "eats batteries")
    wait_until(lambda: show(home, good)["state"] == "paused")
    [standing] = home.publish("device", "exclusions")["items"]
    home.publish("device", "include", standing["id"])
    fleet[0].poll()
    assert fleet[0].runs is None
