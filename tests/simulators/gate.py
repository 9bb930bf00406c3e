"""A server as devices see it, without the server: enrolment, repository and device port, real and on loopback."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from api.device.server import DeviceServer, DeviceServerSettings
from evidence.model import Actor, ActorKind
from fleet import service
from fleet.enrol import EnrolRequest, enrol
from fleet.errors import FleetError
from fleet.provision import Wanted, create_device
from keys.device_ca import DeviceCa, create_device_ca
from rollout.decision import encode_decision
from rollout.model import Report
from tests.simulators.agents import a_decision
from tests.simulators.devices import new_token, utc_now
from tests.simulators.fleet import FleetSimulator
from tests.simulators.permits import DevicePermitsSimulator
from tests.simulators.signed_tree import Mirror, SignedTree, served

ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada")


@dataclass
class Gate:
    """A server as devices see it: enrolment and repository over HTTP, the device port over mutual TLS."""

    tree: SignedTree
    mirror: Mirror
    fleet: FleetSimulator
    ca: DeviceCa
    port: int = 0
    reports: list[tuple[str, Report]] = field(default_factory=list)
    change: Callable[[dict[str, Any]], None] = lambda answer: None

    def report(self, org: str, device: str, report: Report, groups: frozenset[str]) -> bool:
        self.reports.append((device, report))
        return True

    def token(self, root_sha256: str | None = None) -> str:
        return new_token(
            self.fleet,
            max_uses=3,
            groups=["canary"],
            root_sha256=root_sha256 or self.tree.root_sha256,
            life=timedelta(hours=1),
        )

    def code(self, name: str, platform: str = "") -> str:
        wanted = Wanted(name=name, platform=platform, groups=["canary"])
        root = self.tree.root_sha256
        return create_device(self.fleet, "acme", wanted, root_sha256=root, by=ADMIN, now=utc_now()).code

    def enrol(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        request = EnrolRequest(**{**body, "certificate_request": body["certificate_request"].encode()})
        try:
            enrolled = enrol(request, fleet=self.fleet, issuer=self.ca, now=utc_now())
        except FleetError as error:
            return 403, {"error": {"code": error.code, "message": str(error), "request_id": "req_1"}}
        answer = {
            "device_id": enrolled.device.id,
            "name": enrolled.device.name,
            "org": enrolled.device.org,
            "groups": list(enrolled.device.groups),
            "certificate_chain": enrolled.certificate_chain,
            "device_ca": enrolled.device_ca,
            "device_endpoint": f"localhost:{self.port}",
            "root": base64.b64encode(self.tree.root).decode(),
            "metadata_url": "metadata/",
            "targets_url": f"{self.mirror.url}/targets/",
        }
        self.change(answer)
        return 201, answer

    def offer(self, content: bytes, version: str = "1.0", rollout: str = "rol_1", minutes: int = 0) -> None:
        target = self.tree.add_artifact(f"app/{version}/linux-x86_64/app.bin", content)
        decision = a_decision(version, rollout, target.path, target.length, target.hashes["sha256"], minutes)
        self.tree.put_document("decisions/app/canary.json", encode_decision(decision))


@contextmanager
def open_gate(folder: Path) -> Iterator[Gate]:
    """One organisation, ``acme``, with one group, ``canary``, until the block ends."""
    tree, fleet = SignedTree(), FleetSimulator()
    ca = create_device_ca(folder / "device-ca", now=utc_now())
    service.create_group(fleet, "acme", name="canary", description="", by=ADMIN, now=utc_now())
    with served(tree.files) as mirror:
        gate = Gate(tree, mirror, fleet, ca)
        mirror.enrol = gate.enrol
        server = DeviceServer(
            fleet,
            ca,
            gate.report,
            lambda *_: ["app"],
            DevicePermitsSimulator(),
            DeviceServerSettings(listen="127.0.0.1:0"),
            utc_now,
        )
        gate.port = server.start()
        try:
            yield gate
        finally:
            server.stop(0)
