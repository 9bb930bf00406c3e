"""Makes ``first_release.json``: every row of a home that the first release (schema 0001) filled.

Run once, by Python with the packages of requirements.lock, in a checkout of a commit whose folder of migrations holds
``0001_first_tables.py`` alone: ``PYTHONPATH=. python <this file> first_release.json``.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect, text

from api.app import create_app
from api.settings import read_settings
from api.setup import initialise
from api.wiring import open_wavegate
from fleet.model import CheckIn, Running
from rollout.model import Progress, Report
from tests.simulators.devices import enrol_device

WAVES = [
    {"group": "canary", "gate": {"approvals": 1, "max_failures": 2, "max_failure_rate_percent": None}},
    {"group": "everyone", "percent": 50},
    {"group": "everyone"},
]
PASSWORD = "a long enough password"


class Broken:
    """The disk fails while a decision is signed: the intent stays."""

    def __init__(self, decisions: Any) -> None:
        self._decisions = decisions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decisions, name)

    def commit(self, *_: Any, **__: Any) -> int:
        raise OSError("no space left on device")


def fill(folder: Path) -> dict[str, Any]:
    settings = read_settings({"WAVEGATE_HOME": str(folder / "home"), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192"})
    made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
    wiring = open_wavegate(settings)
    client = create_app(wiring).test_client()

    def call(method: str, path: str, body: Any = None, *, token: str = made.api_key, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= more.pop("headers", {})
        answer = client.open(f"/api/v1{path}", method=method, json=body, headers=headers, **more)
        assert answer.status_code < 300, answer.text
        return answer.get_json(silent=True)

    def publish(version: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {made.api_key}"}
        upload = client.put("/api/v1/artifacts/content", data=f"firmware {version}".encode(), headers=headers)
        fields = {"product": "fw", "version": version, "platform": "any", "file_name": "fw.bin", **more}
        return call(
            *("POST", "/artifacts", {"upload_id": upload.get_json()["upload_id"], **fields}),
            headers={"Idempotency-Key": f"publish-{version}"},
        )

    login = {"email": made.admin_email, "password": made.admin_password}
    admin = call("POST", "/auth/token", login, token="")["token"]
    for name, role in (("ann", "approver"), ("ben", "viewer")):
        call(
            "POST",
            "/users",
            {"email": f"{name}@example.com", "name": name, "role": role, "password": PASSWORD},
            token=admin,
        )
    ann = call("POST", "/auth/token", {"email": "ann@example.com", "password": PASSWORD}, token="")["token"]

    one, two = publish("1.0", notes="first\nöffentlich", labels={"line": "a"}), publish("2.0", security=True)
    publish("0.9")
    old = publish("0.8")
    call("POST", f"/artifacts/{old['id']}/yank", {"reason": "broken"})
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}
    headers = {"Authorization": f"Bearer {made.api_key}"}
    put = client.put(f"/api/v1/artifacts/{one['id']}/sboms", data=json.dumps(sbom), headers=headers)
    assert put.status_code == 201, put.text

    for name in ("canary", "everyone"):
        call("POST", "/groups", {"name": name, "description": f"the {name}"})
    token = call(
        *(
            "POST",
            "/enroll-tokens",
            {"name": "lab", "max_uses": 9, "groups": ["canary", "everyone"], "labels": {"site": "b"}},
        ),
        token=admin,
    )
    devices = []
    for number in range(4):
        now = datetime.now(UTC)
        enrolled = enrol_device(wiring.fleet, wiring.device_ca, token["token"], f"box-{number}", now=now)
        devices.append(enrolled.enrolled.device.id)
        running = Running(product="fw", version="0.9", path="fw/0.9/any/fw.bin", sha256="5f" * 32)
        said = CheckIn(
            agent_version="1",
            hostname=f"box-{number}",
            os_family="linux",
            os_name="Debian",
            platform="any",
            running=(running,),
            state="idle",
            at=now,
        )
        wiring.fleet.check_in("acme", devices[-1], said)
    call("POST", f"/devices/{devices[3]}/revoke", {"reason": "lost"}, token=admin)

    moving = call("POST", "/rollouts", {"product": "fw", "version": "1.0", "waves": WAVES, "note": "n"})["id"]
    call("POST", f"/rollouts/{moving}/approve", {"wave": 1}, token=ann)
    wiring.rollouts.tick("acme", datetime.now(UTC))
    for number, progress in enumerate((Progress.SUCCEEDED, Progress.FAILED, Progress.DOWNLOADING)):
        report = Report(
            id=f"r-{number}",
            rollout=moving,
            attempt=1,
            progress=progress,
            at=datetime.now(UTC),
            code="E_DISK" if progress is Progress.FAILED else "",
            detail="the disk is full",
        )
        assert wiring.rollouts.record_report("acme", devices[number], report)
    call("POST", f"/rollouts/{moving}/pause", {"reason": "lunch"})
    draft = call("POST", "/rollouts", {"product": "fw", "version": "2.0", "waves": WAVES[:1], "draft": True})["id"]
    stuck = replace(wiring.rollouts, decisions=Broken(wiring.rollouts.decisions))
    try:
        actor = wiring.rollout_store.events("acme", moving)[-1].by
        stuck.resume("acme", moving, reason="back", by=actor, now=datetime.now(UTC))
    except OSError:
        pass
    spare = call("POST", "/api-keys", {"name": "spare"}, token=admin)
    call("DELETE", f"/api-keys/{spare['id']}", token=admin)
    client.post("/api/v1/auth/token", json={"email": "ben@example.com", "password": "wrong"})
    wiring.close()
    return {
        "api_key": made.api_key,
        "login": admin,
        "one": one["id"],
        "two": two["id"],
        "moving": moving,
        "draft": draft,
        "devices": devices,
    }


def rows(database: Path) -> dict[str, list[dict[str, Any]]]:
    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        found = {
            name: [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name}"))]
            for name in sorted(inspect(connection).get_table_names())
            if name != "alembic_version"
        }
    engine.dispose()
    assert all(found.values()), [name for name, of in found.items() if not of]
    return found


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(value)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        told = fill(Path(scratch))
        made = {"told": told, "tables": rows(Path(scratch) / "home" / "wavegate.db")}
    Path(sys.argv[1]).write_text(json.dumps(made, indent=1, ensure_ascii=False, default=plain) + "\n", "utf-8")
