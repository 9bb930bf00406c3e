"""What is left of a device that is deleted: its audit trail, and under its id what it did in rollouts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from fleet.errors import UnknownDevice
from fleet.model import CheckIn, Running
from rollout.model import Progress, Report
from store.models import metadata
from tests.integration.api.conftest import Home
from tests.simulators.devices import new_key, request_for

pytestmark = pytest.mark.postgresql

NAME, HOST, LABEL = "erasable-press", "erasable-host.example", "erasable-site"


@dataclass
class Erasable:
    """A device that has something in every table that knows of devices."""

    home: Home
    id: str
    rollout: str
    fingerprint: str
    serial: str
    before: set[str] = field(default_factory=set)

    def places(self, *told: str) -> set[str]:
        """Tables in which any of these texts stands; all that is told of the device when none is given."""
        wanted = told or (self.id, NAME, HOST, LABEL, self.fingerprint, self.serial)
        found = set()
        with self.home.wiring.db.read() as connection:
            for table in metadata.sorted_tables:
                rows = [repr(tuple(row)) for row in connection.execute(select(table))]
                if any(one in row for row in rows for one in wanted):
                    found.add(table.name)
        return found


@pytest.fixture(scope="module")
def erased(shared_home: Home) -> Erasable:
    """It, deleted; ``before`` is where it stood."""
    made = an_erasable(shared_home)
    made.before = made.places()
    assert shared_home.call("DELETE", f"/devices/{NAME}").status_code == 204
    return made


def an_erasable(home: Home) -> Erasable:
    def made(method: str, path: str, body: object = None, token: str | None = None) -> Any:
        answer = home.call(method, path, body, token=token)
        assert answer.status_code in {200, 201, 204}, answer.text
        return answer.get_json() if answer.data else None

    fw = home.publish().get_json()
    group = made("POST", "/groups", {"name": "field"})["id"]
    made("POST", "/groups", {"name": "sited", "selector": f"labels.site = {LABEL}"})
    made("POST", "/webhooks", {"url": "https://example.com/hook"}, home.admin())
    code = made("POST", "/devices", {"name": NAME, "groups": ["field"], "labels": {"site": LABEL}})["code"]
    body = {"token": code, "certificate_request": request_for(new_key()).decode(), "name": "x", "platform": "any-x"}
    enrolled = made("POST", "/enroll", {**body, "hostname": HOST}, "")
    device = enrolled["device_id"]
    made("POST", f"/devices/{device}/enroll-code", {})
    certificate = x509.load_pem_x509_certificates(enrolled["certificate_chain"].encode())[0]
    now = datetime.now(UTC)
    runs = Running(product="fw", version="0.9", path="", sha256="ab" * 32)
    said = CheckIn(
        agent_version="1",
        hostname=HOST,
        os_family="linux",
        os_name="Debian",
        platform="any-x",
        running=(runs,),
        state=f"on {HOST}",
        at=now,
    )
    home.wiring.fleet.check_in("acme", device, said)
    plan = {
        "product": "fw",
        "version": fw["version"],
        "waves": [{"group": "field", "gate": {"soak_seconds": 86_400}}],
        "budget": {"label": "site", "max_updating": 1},
    }
    rollout = made("POST", "/rollouts", plan)["id"]
    for _ in range(2):
        home.wiring.rollouts.tick("acme", now)
    assert home.wiring.permits.ask("acme", device, rollout, 1, now=now).granted
    failed = Report(id="rep_1", rollout=rollout, attempt=1, progress=Progress.FAILED, at=now, code="x", detail=HOST)
    assert home.wiring.rollouts.record_report("acme", device, failed, groups=frozenset({"field"}))
    made("PUT", f"/devices/{device}/pin", {"product": "other", "version": "1", "reason": "kept"})
    made("POST", "/exclusions", {"product": "fw", "version": "7", "reason": "bench", "device": device})
    assert home.call("GET", f"/groups/{group}").get_json()["devices"] == 1
    fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    return Erasable(home, device, rollout, fingerprint, f"{certificate.serial_number:x}")


def test_a_deleted_device_is_in_no_table_but_the_audit_log_and_by_its_id_in_rollouts(erased: Erasable) -> None:
    assert erased.before >= {
        "audit_events",
        "device_certificates",
        "device_codes",
        "device_labels",
        "device_running",
        "devices",
        "exclusions",
        "group_devices",
        "permits",
        "rollout_devices",
    }
    # A group's selector names a label, and a rollout counts the places of one; neither is a device's.
    assert erased.places() == {"audit_events", "groups", "permit_places", "rollout_devices"}
    assert erased.places(erased.id) == {"audit_events", "rollout_devices"}
    assert erased.places(NAME, HOST) == {"audit_events"}
    assert erased.places(erased.fingerprint) == {"audit_events"}


def test_what_it_did_stays_counted_and_its_pins_and_exclusions_go(erased: Erasable) -> None:
    home = erased.home
    told = home.call("GET", f"/rollouts/{erased.rollout}/failures").get_json()
    assert (told["devices"], told["reasons"][0]["code"]) == (1, "x")
    example = told["reasons"][0]["example"]
    assert (example["device_id"], example["device_name"], example["detail"]) == (erased.id, "", "")
    assert home.call("GET", "/exclusions").get_json()["items"] == []
    for group in ("field", "sited"):
        assert home.call("GET", f"/groups/{group}").get_json()["devices"] == 0
    admin = home.admin()
    trail = home.call("GET", f"/audit/events?subject={erased.id}&limit=50", token=admin).get_json()["items"]
    assert "device.deleted" in {one["tag"] for one in trail}
    removed = home.call("GET", "/audit/events?tag=exclusion.removed", token=admin).get_json()["items"]
    assert len(removed) == 2
    with pytest.raises(UnknownDevice):
        home.wiring.fleet.device_by_fingerprint(erased.fingerprint)


def test_its_name_is_free_and_the_next_one_inherits_nothing(erased: Erasable) -> None:
    again = erased.home.call("POST", "/devices", {"name": NAME}).get_json()
    assert again["id"] != erased.id
    assert (again["groups"], again["labels"], again["running"], again["hostname"]) == ([], {}, [], "")
