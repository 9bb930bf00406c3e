"""A walk through every route with a real home: what the reference shows as examples, and what fuzzing begins from.

``python -m tests.integration.api.tour`` writes ``api/examples`` anew. What changes with every run (ids, times, digests,
keys) is replaced there by values that do not; routes that the walk cannot reach keep the example they have.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from api.app import BLUEPRINTS
from api.auth.rates import Policy
from tests.integration.api.conftest import Home, made_home
from tests.integration.api.tour_people import PASSWORD, People
from tests.integration.api.tour_recorder import EXAMPLES, Recorder, settled
from tests.simulators.devices import new_key, request_for
from tests.simulators.key_holders import Holder

FIRMWARE = b"lamp firmware 2.4.0\n" * 40
SBOM: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "components": [{"type": "library", "name": "zlib", "version": "1.3.1", "purl": "pkg:generic/zlib@1.3.1"}],
}
SBOM_BYTES = json.dumps(SBOM).encode()
CYCLONEDX = "application/vnd.cyclonedx+json"
DSSE = "application/vnd.dsse.envelope.v1+json"


class Tour:
    """The walk; each part may use what the parts before it made."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.to = Recorder(home)
        self.admin = ""
        self.approver = ""
        self.devices: list[str] = []

    def walk(self) -> Recorder:
        """Go through all parts."""
        people = People(self.home, self.to)
        people.walk()
        self.admin, self.approver = people.admin, people.approver
        self.artifacts()
        self.devices_and_groups()
        self.commands()
        self.exclusions_and_freezes()
        self.rollouts()
        self.ends_of_rollouts()
        self.webhooks()
        self.repository()
        self.drafts()
        self.claims_and_approvers()
        self.departures()
        return self.to

    def left_behind(self) -> dict[str, list[str]]:
        """What this home has, by the names under which requests ask for it; ids by the word before them in the path."""
        admin = self.home.admin()
        uploads = [self.home.upload(b"content %d" % number) for number in range(3)]
        spare = {"url": "https://hooks.example.com/spare"}
        self.home.call("POST", "/webhooks", spare, token=admin)
        self.home.call("POST", "/invitations", {"email": "finn@example.com", "role": "viewer"}, token=admin)
        self.home.call("POST", "/exclusions", {"product": "lamp", "group": "munich", "reason": "spare"})
        self.home.call("POST", "/rollout-templates", {"name": "spare", "waves": [{"group": "*"}]})
        found = {
            name: [one["id"] for one in self.home.call("GET", f"/{path}", token=admin).get_json()["items"][:20]]
            for name, path in (
                *((name, name) for name in ("artifacts", "rollouts", "users", "webhooks", "api-keys", "exclusions")),
                *((name, name) for name in ("invitations", "trusted-publishers")),
                ("drafts", "repository/drafts"),
                ("enroll-tokens", "enroll-tokens"),
            )
        }
        return {
            **found,
            "sboms": [one["id"] for one in self.home.call("GET", self.of_lamp("sboms")).get_json()["items"]],
            "attestations": [
                one["id"] for one in self.home.call("GET", self.of_lamp("attestations")).get_json()["items"]
            ],
            "uploads": [self.home.call("POST", "/artifacts/uploads", {}).get_json()["upload_id"] for _ in range(3)],
            "devices": [*self.devices[:2], "lamp-1"],
            "device": self.devices[:2],
            "groups": ["berlin", "munich"],
            "rollout-templates": ["spare"],
            "upload_id": uploads,
            "product": ["lamp", "pump"],
            "version": ["2.4.0", "1.2.0"],
            "group": ["berlin", "munich"],
            "rollout_id": [self.rollout],
            "role": ["root", "targets", "timestamp"],
            "number": ["1", "2"],
        }

    def of_lamp(self, what: str) -> str:
        return f"/artifacts/{self.lamp['id']}/{what}"

    def artifacts(self) -> None:
        to = self.to
        upload = to.put("/artifacts/content", FIRMWARE)
        sbom = to.put("/artifacts/content", SBOM_BYTES)
        piece = to.post("/artifacts/uploads", {})["upload_id"]
        to.patch(f"/artifacts/uploads/{piece}", data=FIRMWARE, headers={"Content-Range": "bytes 0-799/800"})
        to.get(f"/artifacts/uploads/{piece}")
        to.post(f"/artifacts/uploads/{piece}/complete", {"sha256": upload["sha256"]})
        lamp = {"product": "lamp", "version": "2.4.0", "platform": "linux-arm64", "file_name": "lamp.bin"}
        told = {"sboms": [sbom["upload_id"]], "notes": "Steadier dimming.", "labels": {"line": "a"}}
        body = {"upload_id": upload["upload_id"], **lamp, "channel": "stable", **told}
        self.lamp = to.post("/artifacts", body)
        again = {name: self.home.upload(content) for name, content in (("firmware", FIRMWARE), ("sbom", SBOM_BYTES))}
        to.post("/artifacts", {**body, "upload_id": again["firmware"], "sboms": [again["sbom"]]})
        framed = b"".join(len(one).to_bytes(8, "big") + one for one in (b"pump 1.0.0", b"pump 1.1.0", b"pump 1.2.0"))
        many = to.put("/artifacts/contents", framed)["items"]
        items = [
            {"upload_id": one["upload_id"], "product": "pump", "version": version, "file_name": "pump.bin"}
            for one, version in zip(many, ("1.0.0", "1.1.0", "1.2.0"), strict=True)
        ]
        batch = to.post("/artifacts/batch", {"items": items, "partial": False})["items"]
        to.get("/artifacts?product=lamp&limit=20")
        to.get(f"/artifacts/{self.lamp['id']}")
        to.patch(f"/artifacts/{self.lamp['id']}", {"notes": "Steadier dimming, less standby.", "labels": {"line": "a"}})
        attached = to.put(
            f"/artifacts/{self.lamp['id']}/sboms",
            json.dumps({**SBOM, "version": 2}).encode(),
            headers={"Content-Type": CYCLONEDX},
        )
        to.get(f"/artifacts/{self.lamp['id']}/sboms")
        to.get(f"/sboms/{attached['id']}")
        attested = to.put(
            f"/artifacts/{self.lamp['id']}/attestations",
            attestation_of(self.lamp["sha256"]),
            headers={"Content-Type": DSSE},
        )
        to.get(f"/artifacts/{self.lamp['id']}/attestations")
        to.get(f"/attestations/{attested['id']}")
        pumps = [one["artifact"]["id"] for one in batch]
        self.spare, self.spare_sha256 = pumps[2], batch[2]["artifact"]["sha256"]
        to.post(f"/artifacts/{pumps[0]}/yank", {"reason": "loses its settings"})
        to.post(f"/artifacts/{pumps[0]}/withdraw", {"reason": "loses its settings"})
        to.post(f"/artifacts/{pumps[1]}/revoke", {"reason": "its signing key leaked"})

    def devices_and_groups(self) -> None:
        to = self.to
        berlin = to.post("/groups", {"name": "berlin", "description": "Devices in Berlin"})
        selector = "labels.site = munich and platform = linux-arm64"
        to.post("/groups", {"name": "munich", "selector": selector})
        wanted = {"name": "line 7", "groups": ["berlin"], "labels": {"site": "berlin"}, "max_uses": 10}
        token = to.post("/enroll-tokens", wanted, token=self.admin)
        to.get("/enroll-tokens", token=self.admin)
        for number in range(3):
            body = {
                "token": token["token"],
                "certificate_request": request_for(new_key()).decode(),
                "name": f"lamp-{number + 1}",
                "platform": "linux-arm64",
                "hostname": f"lamp-{number + 1}.berlin",
                "os_family": "linux",
                "os_name": "Debian 12",
                "agent_version": "0.1.0",
            }
            self.devices.append(to.post("/enroll", body, token="")["device_id"])
        first = self.devices[0]
        known = {"name": "lamp-4", "platform": "linux-arm64", "groups": ["berlin"], "labels": {"site": "berlin"}}
        expected = to.post("/devices", known)
        to.post(f"/devices/{expected['id']}/enroll-code")
        to.delete(f"/enroll-tokens/{token['id']}", token=self.admin)
        line = b"name,platform,groups,labels\r\nlamp-5,linux-arm64,berlin,site=berlin;floor=1\r\n"
        path = "/devices/import?existing=update&dry_run=false"
        to.post(path, data=line, headers={"Content-Type": "text/csv"})
        to.get("/devices?status=active&limit=50")
        to.get(f"/devices/{first}")
        to.put(f"/devices/{first}/labels", body={"labels": {"site": "berlin", "floor": "2"}})
        to.patch(f"/devices/{first}/labels", {"labels": {"floor": None, "room": "14"}})
        to.get("/groups")
        to.get(f"/groups/{berlin['id']}")
        to.patch(f"/groups/{berlin['id']}", {"description": "All devices in Berlin"})
        to.get(f"/groups/{berlin['id']}/devices")
        to.post("/groups/preview", {"selector": "labels.site = berlin", "percents": [10, 100], "sample": 1})
        spare = to.post("/groups", {"name": "spare"})
        to.put(f"/groups/{spare['id']}/devices/{first}")
        to.delete(f"/groups/{spare['id']}/devices/{first}")
        to.delete(f"/groups/{spare['id']}")

    def commands(self) -> None:
        from tests.integration.api.tour_reports import send_logs

        to, first = self.to, self.devices[0]
        asked = to.post(f"/devices/{first}/logs", {"reason": "it flickers"})
        to.post(f"/devices/{first}/logs")
        send_logs(self.home.wiring, first, asked["id"])
        to.get(f"/devices/{first}/logs")
        to.get(f"/logs/{asked['id']}")
        to.delete(f"/logs/{asked['id']}")
        night = {**ahead(), "maintenance_window": True, "reason": "kernel update"}
        to.post(f"/reboots/{first}/schedule", night)
        to.post(f"/reboots/{first}/schedule", night)
        to.get("/reboots")
        to.delete(f"/reboots/{first}/schedule")

    def exclusions_and_freezes(self) -> None:
        to = self.to
        made = to.post("/exclusions", {"group": "munich", "product": "lamp", "reason": "old power boards"})
        to.get("/exclusions")
        to.delete(f"/exclusions/{made['id']}")
        pin = {"product": "lamp", "version": "2.4.0", "reason": "lab reference"}
        to.put(f"/devices/{self.devices[2]}/pin", body=pin)
        to.delete(f"/devices/{self.devices[2]}/pin?product=lamp")
        weekly = {"days": ["fri", "sat"], "start": "18:00", "minutes": 600, "zone": "Europe/Berlin"}
        frozen = to.post("/freeze-windows", {"reason": "weekend", "product": "pump", "weekly": weekly})
        to.get("/freeze-windows")
        to.delete(f"/freeze-windows/{frozen['id']}")
        waves = [{"group": "*", "percent": 10}, {"group": "*", "percent": 100}]
        to.post("/rollout-templates", {"name": "careful", "description": "A tenth first", "waves": waves})
        to.get("/rollout-templates")
        to.delete("/rollout-templates/careful")

    def rollouts(self) -> None:
        to = self.to
        waves: list[dict[str, Any]] = [
            {"group": "berlin", "percent": 50, "gate": {"approvals": 1, "soak_seconds": 3600}},
            {"group": "berlin", "percent": 100},
        ]
        plan: dict[str, Any] = {"product": "lamp", "version": "2.4.0", "waves": waves}
        to.post("/rollouts/preview", plan)
        early = self.home.call("POST", "/rollouts", plan).get_json()
        to.post(f"/rollouts/{early['id']}/refuse", {"reason": "not before the fair"}, token=self.approver)
        made = to.post("/rollouts", {**plan, "note": "Steadier dimming", "draft": True})
        self.rollout: str = made["id"]
        self.path = f"/rollouts/{self.rollout}"
        to.patch(self.path, {**plan, "note": "Steadier dimming, in two waves"})
        to.post(f"{self.path}/submit")
        to.get("/rollouts?product=lamp&sort=-created_at")
        to.get(self.path)
        to.get(f"{self.path}/preview")
        approval = {"wave": 1, "plan_hash": to.get(self.path)["plan_hash"]}
        to.post(f"{self.path}/approve", approval, token=self.approver)
        self.tick()
        to.get(f"{self.path}/waves/1/decision")
        to.post(f"{self.path}/pause", {"reason": "complaints from the field"})
        to.post(f"{self.path}/resume", {"reason": "it was the network"})
        to.get(f"{self.path}/events?limit=5")

    def tick(self) -> None:
        for _ in range(2):
            self.home.wiring.rollouts.tick("acme", datetime.now(UTC))

    def ends_of_rollouts(self) -> None:
        from tests.integration.api.tour_reports import report

        to = self.to
        to.post(f"{self.path}/abort", {"reason": "a better one is coming", "mode": "stop"})
        to.post(f"{self.path}/rerun", {"draft": True})
        lenient = {"max_failures": 100, "max_failure_rate_percent": None, "advance": "manual", "success_percent": 1}
        waves = [{"group": "berlin", "percent": 100, "gate": lenient}, {"group": "munich"}]
        budget = {"label": "site", "max_updating": 2}
        cloned = to.post(f"{self.path}/clone", {"waves": waves, "budget": budget, "submit": True})
        path = f"/rollouts/{cloned['id']}"
        self.tick()
        report(self.home, cloned["id"], self.devices)
        to.get(f"{path}/devices?limit=10")
        to.get(f"{path}/failures?wave=1")
        to.get(f"{path}/permits")
        to.get(f"{path}/recount")
        to.post(f"{path}/retry", {"devices": [self.devices[1]]})
        self.tick()
        to.post(f"{path}/advance")
        self.tick()
        self.tick()
        to.post(f"{path}/roll-back", {"reason": "watchdog resets"})
        to.get("/audit/events?tag=rollout&limit=3")

    def webhooks(self) -> None:
        to = self.to
        wanted = {"url": "https://hooks.example.com/wavegate", "events": ["rollout", "artifact.published"]}
        made = to.post("/webhooks", wanted, token=self.admin)
        path = f"/webhooks/{made['id']}"
        to.get("/webhooks", token=self.admin)
        to.get(path, token=self.admin)
        to.patch(path, {"description": "the team's channel"}, token=self.admin)
        to.post(f"{path}/rotate-secret", {"overlap_hours": 24}, token=self.admin)
        tested = to.post(f"{path}/test", token=self.admin)
        to.get(f"{path}/deliveries?limit=10", token=self.admin)
        to.post(f"{path}/deliveries/{tested['id']}/replay", token=self.admin)
        to.delete(path, token=self.admin)

    def repository(self) -> None:
        to = self.to
        to.get("/repository")
        to.get("/repository/root")
        to.get("/repository/bundle")
        to.post("/repository/check", {"repair": False})
        to.post("/repository/gc", {"dry_run": True})
        to.post("/repository/rebin", {})
        to.post("/repository/refresh", {})

    def drafts(self) -> None:
        to = self.to
        root = Holder.of_laptop(self.home.made.home / "orgs" / "acme", "root")
        adding = {"role": "root", "add": {"root": [Holder().public]}, "deadline_days": 14}
        draft = to.post("/repository/drafts", adding)
        path = f"/repository/drafts/{draft['id']}"
        to.get("/repository/drafts")
        to.get(path)
        to.get(f"{path}/payloads/root")
        draft = to.post(f"{path}/rebase")
        to.post(f"{path}/signatures", self.signed(root, draft))
        spare = to.post("/repository/drafts", {"role": "targets"})
        to.delete(f"/repository/drafts/{spare['id']}")
        [rotation, *_] = to.post("/repository/rotations", {"roles": ["timestamp"]})["items"]
        to.delete(f"/repository/drafts/{rotation['id']}")

    def claims_and_approvers(self) -> None:
        to, folder = self.to, self.home.made.home / "orgs" / "acme"
        targets, team = Holder.of_laptop(folder, "targets"), Holder()
        claim = to.post("/repository/products", {"product": "pump", "keys": [team.public], "threshold": 1})
        self.finish(claim, team, targets)
        to.get("/repository/products")
        self.changes_of_a_claimed_product()
        upload = to.put("/artifacts/content", b"pump 2.0.0")["upload_id"]
        to.post(
            "/artifacts/drafts",
            {"upload_id": upload, "product": "pump", "version": "2.0.0", "file_name": "pump.bin"},
        )
        again = self.home.upload(b"pump 1.2.0")
        to.post(
            "/artifacts/drafts", {"upload_id": again, "product": "pump", "version": "1.2.0", "file_name": "pump.bin"}
        )
        to.post("/repository/products/pump/release")
        ann, ben = Holder(), Holder()
        appointed = to.post("/repository/products/lamp/approvers", {"keys": [ann.public, ben.public], "threshold": 1})
        self.finish(appointed, targets, ann, ben)
        to.get("/products/lamp")
        to.post("/repository/products/lamp/managed")

    def changes_of_a_claimed_product(self) -> None:
        to, path = self.to, f"/artifacts/{self.spare}"
        to.patch(path, {"notes": "For pumps built before 2020."})
        to.put(f"{path}/sboms", SBOM_BYTES, headers={"Content-Type": CYCLONEDX})
        to.put(f"{path}/attestations", attestation_of(self.spare_sha256), headers={"Content-Type": DSSE})
        for verb in ("yank", "withdraw", "revoke"):
            to.post(f"{path}/{verb}", {"reason": "its signing key leaked"})

    def departures(self) -> None:
        to, last = self.to, self.devices[-1]
        to.post(f"/devices/{last}/revoke", {"reason": "sold"})
        to.delete(f"/devices/{last}")
        admin = {"email": "zoe@zenith.example", "name": "Zoe", "password": PASSWORD}
        to.post("/auth/register", {"org": "zenith", "org_name": "Zenith Lamps", **admin}, token="")

    def finish(self, draft: dict[str, Any], *holders: Holder) -> None:
        for holder in holders:
            done = self.to.post(f"/repository/drafts/{draft['id']}/signatures", self.signed(holder, draft))
            if done["serial"] is not None:
                return

    def signed(self, holder: Holder, draft: dict[str, Any]) -> dict[str, Any]:
        found = {
            part["role"]: {holder.keyid: holder.signer.sign(base64.b64decode(part["payload"])).signature}
            for part in draft["parts"]
            if any(holder.keyid in one["keyids"] for one in part["requirements"])
        }
        return {"signatures": found}


def ahead() -> dict[str, str]:
    """A window tomorrow."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return {"starts": tomorrow.isoformat(), "ends": (tomorrow + timedelta(hours=3)).isoformat()}


def attestation_of(sha256: str) -> bytes:
    """An envelope around a statement of these bytes; nobody the server trusts has signed it."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"name": "firmware.bin", "digest": {"sha256": sha256}}],
        "predicate": {},
    }
    return json.dumps(
        {
            "payloadType": "application/vnd.in-toto+json",
            "payload": base64.b64encode(json.dumps(statement).encode()).decode(),
            "signatures": [{"keyid": "builder", "sig": base64.b64encode(bytes(64)).decode()}],
        }
    ).encode()


@contextmanager
def toured(folder: Path) -> Iterator[Tour]:
    """A walk that is over, with its home: open to registration, and slow for nobody."""
    limits = {f"WAVEGATE_RATE_LIMIT_{policy.upper()}": "1000000" for policy in Policy}
    with made_home(folder, WAVEGATE_REGISTRATION="open", **limits) as home:
        tour = Tour(home)
        tour.walk()
        yield tour


def write(folder: Path) -> None:
    """Walk through a home of its own and write the examples, one file for each blueprint."""
    with toured(folder) as tour:
        told = settled(tour.to.told)
    blueprint_of = {
        endpoint.partition(".")[2]: endpoint.partition(".")[0] for one in BLUEPRINTS for endpoint in one.declarations
    }
    by_file: dict[str, dict[str, Any]] = {}
    for name, example in told.items():
        by_file.setdefault(blueprint_of[name], {})[name] = example
    for blueprint, found in by_file.items():
        file = EXAMPLES / f"{blueprint}.json"
        kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
        text = json.dumps(dict(sorted({**kept, **found}.items())), indent=1, ensure_ascii=False)
        file.write_text(re.sub(r"\n +$", "", text) + "\n", "utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch))
