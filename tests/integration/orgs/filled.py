"""Two organisations of one installation, each with something of everything that can be had."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from api.app import create_app
from api.installation import Installation, open_installation
from api.organisations import NewAdmin, add_first_key, create_organisation
from api.settings import Settings, read_settings
from api.setup import initialise
from api.webhook_round import WebhookRound
from evidence.federation import Newcomer
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.publishing import PublishToken
from evidence.webhooks.model import Outcome
from fleet.metering import count_nights
from fleet.model import CheckIn, Running
from rollout.metrics import Reading
from rollout.model import Progress, Report
from store.models import metadata
from tests.integration.orgs.places import places
from tests.simulators.devices import Key, new_key, request_for

PASSWORD = "a long enough password"
SBOM = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1}

# Tables without the organisation's column, and rows that are there for a moment only.
WITHOUT_ORG = {"orgs", "leases", "recovery_codes", "request_counts", "spent_id_tokens"}
PASSING = {"rollout_intents"}


@dataclass
class Organisation:
    """One of the two: its credentials, and by kind the id or name of one thing of each."""

    slug: str
    key: str
    admin: str = ""
    operator: str = ""
    device_key: Key = field(default_factory=new_key)
    chain: str = ""
    things: dict[str, str] = field(default_factory=dict)


class Answered:
    """A receiver that takes every delivery."""

    def send(self, url: str, headers: object, body: bytes) -> Outcome:
        return Outcome(204, "", 1)


class Pair:
    """The installation of ``acme`` and ``beta``."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = read_settings(
            {
                "WAVEGATE_HOME": str(folder / "home"),
                "WAVEGATE_PASSWORD_MEMORY_KIB": "8192",
                "WAVEGATE_WEBHOOK_ALLOW": "127.0.0.0/8",
                "WAVEGATE_DEVICE_LISTEN": "127.0.0.1:0",
            }
        )
        now = self.made_at = datetime.now(UTC)
        made = initialise(self.settings, org="acme", admin="admin@acme.example", now=now)
        self.installation: Installation = open_installation(self.settings)
        db = self.installation.shared.db
        admin = NewAdmin(email="admin@beta.example", password=PASSWORD)
        create_organisation(self.settings, db, org="beta", admin=admin, now=now)
        self.app = create_app(self.installation)
        self.client: FlaskClient = self.app.test_client()
        self.acme = Organisation("acme", made.api_key)
        self.beta = Organisation("beta", add_first_key(db, "beta", now))
        for one, password in ((self.acme, made.admin_password), (self.beta, PASSWORD)):
            one.admin = self.login(f"admin@{one.slug}.example", password)
            self._fill(one)
        self.openapi: dict[str, Any] = self.client.get("/openapi.json").get_json()
        self.places = list(places(self.openapi))
        # As they are before anybody has tried anything; by path, for acme's admin.
        self.lists = {
            path: self.call("GET", path.removeprefix("/api/v1"), self.acme.admin).get_data(as_text=True)
            for path, operations in self.openapi["paths"].items()
            if "get" in operations and "{" not in path
        }
        self.empty = {one.slug: self._empty_tables(one.slug) for one in (self.acme, self.beta)}

    def call(self, method: str, path: str, token: str, **more: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})} if token else more.pop("headers", {})
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, buffered=True, **more)

    def login(self, email: str, password: str) -> str:
        token: str = self.made("POST", "/auth/token", "", json={"email": email, "password": password})["token"]
        return token

    def made(self, method: str, path: str, token: str, **more: Any) -> Any:
        answer = self.call(method, path, token, **more)
        assert answer.status_code in {200, 201, 204}, (method, path, answer.text)
        return answer.get_json() if answer.data else None

    def rows(self, org: str) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of an organisation, by table; without the minute in which a credential was last used."""
        told: dict[str, list[tuple[Any, ...]]] = {}
        with self.installation.shared.db.read() as connection:
            for table in metadata.sorted_tables:
                if "org" in table.c:
                    columns = [one for one in table.c if one.name != "last_used_at"]
                    query = select(*columns).where(table.c.org == org)
                    told[table.name] = sorted((tuple(row) for row in connection.execute(query)), key=repr)
                elif table.name == "recovery_codes":
                    told[table.name] = sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
        return told

    def files(self, org: str) -> dict[str, str]:
        """Digest of every file of an organisation."""
        folder = self.settings.home / "orgs" / org
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def _empty_tables(self, org: str) -> set[str]:
        """Tables in which an organisation has no row."""
        with self.installation.shared.db.read() as connection:
            return {
                table.name
                for table in metadata.sorted_tables
                if "org" in table.c
                and not connection.execute(
                    select(func.count()).select_from(table).where(table.c.org == org)
                ).scalar_one()
            }

    def tables_without_org(self) -> set[str]:
        """Tables that know of no organisation."""
        return {table.name for table in metadata.sorted_tables if "org" not in table.c}

    def upload(self, one: Organisation, content: bytes) -> str:
        """Take in bytes that nobody has published."""
        upload: str = self.made("PUT", "/artifacts/content", one.key, data=content)["upload_id"]
        return upload

    def _meet(self, one: Organisation, publisher: str) -> None:
        """A job that exchanged its identity, and the operator's identity at a provider."""
        wiring, now = self.installation.organisation(one.slug), datetime.now(UTC)
        job = Actor(ActorKind.SERVICE, publisher, "ci")
        token = PublishToken(
            id=new_id("ptk"),
            publisher=publisher,
            org=one.slug,
            sha256=hashlib.sha256(one.slug.encode()).hexdigest(),
            created_at=now,
            expires_at=now + timedelta(minutes=15),
            claims={},
        )
        event = AuditEvent("publish_token.issued", token.id, job, now)
        wiring.publishers.exchange(one.slug, token.expires_at, token, event)
        operator = wiring.accounts.user(one.slug, one.things["user"])
        newcomer = Newcomer(
            issuer="https://id.example", subject="1", email=operator.email, name=operator.name, role=None
        )
        linked = AuditEvent("user.linked", operator.id, operator.actor("ses"), now)
        wiring.identities.link(operator, newcomer, linked)

    def _fill(self, one: Organisation) -> None:
        slug, wiring = one.slug, self.installation.organisation(one.slug)
        things = one.things
        self.made(
            "POST",
            "/users",
            one.admin,
            json={"email": f"op@{slug}.example", "name": "op", "role": "operator", "password": PASSWORD},
        )
        one.operator = self.login(f"op@{slug}.example", PASSWORD)
        assert self.call("POST", "/auth/token", "", json={"email": f"op@{slug}.example", "password": "x"}).status_code
        [things["user"]] = [
            user["id"] for user in self.made("GET", "/users", one.admin)["items"] if user["email"].startswith("op@")
        ]
        things["session"] = self.made("GET", "/profile/sessions", one.operator)["items"][0]["id"]
        things["api_key"] = self.made("POST", "/api-keys", one.admin, json={"name": "ci"})["id"]
        guest = {"email": f"guest@{slug}.example", "role": "viewer"}
        things["invitation"] = self.made("POST", "/invitations", one.admin, json=guest)["id"]
        job = {
            "name": "ci",
            "provider": "gitlab",
            "products": ["fw"],
            "claims": {"project_id": "1", "namespace_id": "2"},
        }
        things["trusted_publisher"] = self.made("POST", "/trusted-publishers", one.admin, json=job)["id"]
        self._meet(one, things["trusted_publisher"])
        self.made("POST", "/devices", one.key, json={"name": f"{slug}-expected"})
        things["group_name"] = f"{slug}-field"
        things["group"] = self.made("POST", "/groups", one.key, json={"name": f"{slug}-field"})["id"]
        self._publish(one)
        self._enrol(one)
        self.made("PUT", f"/groups/{things['group']}/devices/{things['device']}", one.key)
        things["exclusion"] = self.made(
            "POST", "/exclusions", one.key, json={"product": f"{slug}-other", "version": "9", "reason": "broken"}
        )["id"]
        ends = datetime.now(UTC) + timedelta(days=30)
        freeze = {"product": f"{slug}-other", "ends": ends.isoformat(), "reason": "holidays"}
        things["freeze"] = self.made("POST", "/freeze-windows", one.key, json=freeze)["id"]
        template = {"name": f"{slug}-shape", "waves": [{"group": "*"}]}
        self.made("POST", "/rollout-templates", one.key, json=template)
        things["template"] = f"{slug}-shape"
        things["webhook"] = self.made("POST", "/webhooks", one.admin, json={"url": "http://127.0.0.1:9/"})["id"]
        self._roll_out(one)
        things["draft"] = self.made("POST", "/repository/drafts", one.key, json={"role": "root"})["id"]
        WebhookRound(wiring, Answered()).turn(clock=lambda: datetime.now(UTC), stop=lambda: False)
        found = self.made("GET", f"/webhooks/{things['webhook']}/deliveries", one.admin)["items"]
        things["delivery"] = found[0]["id"]

    def _publish(self, one: Organisation) -> None:
        slug, things = one.slug, one.things
        body = {"product": f"{slug}-fw", "version": "1.0.0", "platform": "any", "file_name": "fw.bin"}
        upload = self.upload(one, f"firmware of {slug}".encode())
        more = {"Idempotency-Key": "the same in both"}
        published = self.made("POST", "/artifacts", one.key, json={"upload_id": upload, **body}, headers=more)
        things |= {"artifact": published["id"], "product": f"{slug}-fw", "sha256": published["sha256"]}
        sbom = json.dumps({**SBOM, "components": [{"type": "library", "name": f"{slug}-lib", "version": "1"}]}).encode()
        self.made(
            "PUT",
            f"/artifacts/{published['id']}/sboms",
            one.key,
            data=sbom,
            headers={"Content-Type": "application/vnd.cyclonedx+json"},
        )
        things["sbom"] = self.made("GET", f"/artifacts/{published['id']}/sboms", one.key)["items"][0]["id"]
        payload = json.dumps(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "predicateType": "https://slsa.dev/provenance/v1",
                "subject": [{"name": "fw.bin", "digest": {"sha256": published["sha256"]}}],
                "predicate": {},
            }
        ).encode()
        envelope = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": "AAAA", "keyid": slug}],
        }
        self.made(
            "PUT",
            f"/artifacts/{published['id']}/attestations",
            one.key,
            data=json.dumps(envelope).encode(),
            headers={"Content-Type": "application/vnd.dsse.envelope.v1+json"},
        )
        attested = self.made("GET", f"/artifacts/{published['id']}/attestations", one.key)["items"]
        things["attestation"] = attested[0]["id"]
        things["upload"] = self.upload(one, f"not published by {slug}".encode())
        things["open_upload"] = self.made("POST", "/artifacts/uploads", one.key, json={})["upload_id"]

    def _enrol(self, one: Organisation) -> None:
        token = self.made(
            "POST",
            "/enroll-tokens",
            one.admin,
            json={"name": "line", "max_uses": 5, "groups": [one.things["group_name"]], "labels": {"site": one.slug}},
        )
        one.things |= {"enroll_token": token["id"], "enroll_token_text": token["token"]}
        enrolled = self.made(
            "POST",
            "/enroll",
            "",
            json={
                "token": token["token"],
                "certificate_request": request_for(one.device_key).decode(),
                "name": f"{one.slug}-press",
                "platform": "linux-x86_64",
            },
        )
        one.chain = enrolled["certificate_chain"]
        one.things |= {"device": enrolled["device_id"], "device_name": f"{one.slug}-press"}
        running = Running(product=f"{one.slug}-fw", version="0.9", path="", sha256="ab" * 32, rollout="")
        said = CheckIn(
            agent_version="1",
            hostname="press",
            os_family="linux",
            os_name="Debian",
            platform="linux-x86_64",
            running=(running,),
            state="idle",
            at=datetime.now(UTC),
        )
        self.installation.shared.fleet.check_in(one.slug, enrolled["device_id"], said)
        self.made("POST", f"/reboots/{enrolled['device_id']}/schedule", one.key, json={})
        asked = self.made("POST", f"/devices/{enrolled['device_id']}/logs", one.key, json={})
        one.things["log"] = asked["id"]
        self._send_logs(one, f"logs of {one.slug}".encode())

    def _send_logs(self, one: Organisation, content: bytes) -> None:
        commands, now = self.installation.shared.commands, datetime.now(UTC)
        device = self.installation.shared.fleet.device(one.slug, one.things["device"])
        sha256 = hashlib.sha256(content).hexdigest()
        with commands.stage(device) as staged:
            staged.write(content)
            log = one.things["log"]
            commands.take_bundle(device, log, staged, sha256=sha256, length=len(content), files=1, now=now)

    def _roll_out(self, one: Organisation) -> None:
        slug, things, wiring = one.slug, one.things, self.installation.organisation(one.slug)
        plan = {
            "product": f"{slug}-fw",
            "version": "1.0.0",
            "waves": [{"group": f"{slug}-field", "gate": {"soak_seconds": 86_400}}],
            "budget": {"label": "site", "max_updating": 1},
        }
        made = self.made("POST", "/rollouts", one.key, json=plan)
        things["rollout"] = made["id"]
        now = datetime.now(UTC)
        for _ in range(2):
            wiring.rollouts.tick(slug, now)
        rollout = wiring.rollout_store.get(slug, made["id"])
        wiring.readings.keep(rollout, {"errors": Reading(at=now, samples=(0.5,))})
        assert wiring.permits.ask(slug, things["device"], made["id"], 1, now=now).granted
        report = Report(id="rep_1", rollout=made["id"], attempt=rollout.attempt, progress=Progress.DOWNLOADING, at=now)
        assert wiring.rollouts.record_report(slug, things["device"], report, groups=frozenset({f"{slug}-field"}))
        assert count_nights(wiring.meter, slug, now + timedelta(days=2))
