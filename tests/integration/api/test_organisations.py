"""Several organisations in one home: made, served, and kept apart."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from api import installation as rooms
from api.app import create_app
from api.backup import back_up, restore
from api.doctor.examine import examine
from api.doctor.model import Level
from api.installation import Installation, OrganisationUnavailable, open_installation
from api.jobs import Jobs
from api.organisations import Founded, NewAdmin, SetupRefused, add_first_key, create_organisation
from api.settings import Settings, read_settings
from api.setup import initialise, make_home
from api.tallies import Tallies
from api.wiring import NotInitialised, open_wavegate, organisation_of, root_file
from cli.main import publish
from keys.keyring import Keyring
from repo_signing.errors import BackupRefused
from store.errors import OrgExists
from store.models import leases

PASSWORD = "a long enough password"


@dataclass
class Two:
    """A home with the organisations ``acme`` and ``beta``, and a server over it."""

    settings: Settings
    installation: Installation
    client: FlaskClient
    keys: dict[str, str]

    def call(self, method: str, path: str, body: object = None, *, org: str = "", token: str = "") -> TestResponse:
        bearer = token or (self.keys[org] if org else "")
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, json=body)

    def login(self, **fields: str) -> TestResponse:
        return self.call("POST", "/auth/token", fields)


def settings_of(folder: Path, **more: str) -> Settings:
    return read_settings({"WAVEGATE_HOME": str(folder), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192", **more})


def found(settings: Settings, installation: Installation, org: str, email: str, password: str | None) -> Founded:
    return create_organisation(
        settings,
        installation.shared.db,
        org=org,
        admin=NewAdmin(email=email, password=password),
        now=datetime.now(UTC),
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home that every test gets a copy of, and an API key of each of its organisations."""
    home = tmp_path_factory.mktemp("template") / "home"
    settings = settings_of(home)
    made = initialise(settings, org="acme", admin="ada@example.com", now=datetime.now(UTC))
    installation = open_installation(settings)
    found(settings, installation, "beta", "bea@example.com", PASSWORD)
    beta_key = add_first_key(installation.shared.db, "beta", datetime.now(UTC))
    installation.close()
    return home, {"acme": made.api_key, "beta": beta_key}


@pytest.fixture
def two(template: tuple[Path, dict[str, str]], tmp_path: Path) -> Iterator[Two]:
    home, keys = template
    shutil.copytree(home, tmp_path / "home")
    settings = settings_of(tmp_path / "home")
    installation = open_installation(settings)
    yield Two(settings, installation, create_app(installation).test_client(), keys)
    installation.close()


def code(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def test_each_organisation_has_keys_and_a_repository_of_its_own(two: Two) -> None:
    roots = {}
    for org in ("acme", "beta"):
        with two.client.get(f"/tuf/{org}/metadata/1.root.json") as served:
            assert served.status_code == 200
            assert served.data == root_file(two.settings, org).read_bytes()
            roots[org] = set(json.loads(served.data)["signed"]["keys"])
    assert roots["acme"] & roots["beta"] == set()
    assert two.call("GET", "/auth/me", org="beta").get_json()["org"] == "beta"
    published = {org: two.call("GET", "/repository", org=org).get_json()["serial"] for org in ("acme", "beta")}
    assert published == {"acme": 1, "beta": 1}


def test_the_log_of_a_new_organisation_begins_with_its_repository(two: Two) -> None:
    admin = two.login(email="bea@example.com", password=PASSWORD).get_json()["token"]
    events = two.call("GET", "/audit/events", token=admin).get_json()["items"]
    assert [event["tag"] for event in events][:2] == ["repository.created", "user.created"]


def test_an_organisation_made_by_another_process_is_served_without_a_restart(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "KNOWN_SECONDS", 0.0)
    assert two.client.get("/tuf/gamma/metadata/timestamp.json").status_code == 404
    other = open_installation(two.settings)
    found(two.settings, other, "gamma", "gus@example.com", PASSWORD)
    other.close()
    assert two.client.get("/tuf/gamma/metadata/timestamp.json").status_code == 200
    assert two.login(email="gus@example.com", password=PASSWORD).status_code == 200


def test_a_slug_that_is_taken_or_none_makes_nothing(two: Two) -> None:
    with pytest.raises(OrgExists, match="the organisation beta exists already"):
        found(two.settings, two.installation, "beta", "x@example.com", None)
    for wrong in ("", "B", "../beta", "-beta", "a" * 51):
        with pytest.raises(SetupRefused, match="is no organisation slug"):
            found(two.settings, two.installation, wrong, "x@example.com", None)
    assert sorted(path.name for path in (two.settings.home / "orgs").iterdir()) == ["acme", "beta"]


def test_what_a_cut_short_making_left_is_not_taken_over(two: Two) -> None:
    (two.settings.home / "orgs" / "gamma").mkdir()
    with pytest.raises(OrgExists, match="was cut short"):
        found(two.settings, two.installation, "gamma", "x@example.com", None)
    assert organisation_of(two.settings, "beta") == "beta"


def test_nothing_is_left_of_an_organisation_whose_signing_failed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Keyring, "sign", no_disk)
        with pytest.raises(OSError, match="No space left"):
            found(two.settings, two.installation, "gamma", "x@example.com", None)
    assert not (two.settings.home / "orgs" / "gamma").exists()
    assert found(two.settings, two.installation, "gamma", "x@example.com", None).org == "gamma"


def test_a_home_with_several_asks_which_one_is_meant(two: Two) -> None:
    with pytest.raises(NotInitialised, match=r"has 2 organisations; name one: there are acme, beta"):
        open_wavegate(two.settings)
    with pytest.raises(NotInitialised, match="has no organisation nobody"):
        open_wavegate(two.settings, "nobody")
    wiring = open_wavegate(two.settings, "beta")
    assert wiring.org == "beta"
    wiring.close()


def test_a_home_can_begin_without_any_organisation(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    make_home(settings, now=datetime.now(UTC))
    installation = open_installation(settings)
    client = create_app(installation).test_client()
    assert client.get("/readyz").get_json() == {"status": "ready", "checks": {"database": "ok", "organizations": {}}}
    body = {"email": "ada@example.com", "password": PASSWORD}
    assert client.post("/api/v1/auth/token", json=body).status_code == 401
    assert found(settings, installation, "first", "ada@example.com", PASSWORD).root == (
        settings.home / "orgs" / "first" / "root.json"
    )
    assert client.post("/api/v1/auth/token", json=body).status_code == 200
    installation.close()


# Logging in


def test_an_address_of_one_organisation_needs_no_name(two: Two) -> None:
    told = two.login(email="BEA@example.com", password=PASSWORD).get_json()
    assert two.call("GET", "/auth/me", token=told["token"]).get_json()["org"] == "beta"


def test_an_address_in_several_goes_where_the_password_is_right(two: Two) -> None:
    found(two.settings, two.installation, "gamma", "bea@example.com", "another long password")
    for password, org in ((PASSWORD, "beta"), ("another long password", "gamma")):
        token = two.login(email="bea@example.com", password=password).get_json()["token"]
        assert two.call("GET", "/auth/me", token=token).get_json()["org"] == org
    assert code(two.login(email="bea@example.com", password="a wrong long password")) == (401, "login_failed")


def test_the_same_password_in_several_is_asked_which(two: Two) -> None:
    found(two.settings, two.installation, "gamma", "bea@example.com", PASSWORD)
    asked = two.login(email="bea@example.com", password=PASSWORD)
    assert code(asked) == (400, "organization_required")
    assert "right in beta, gamma; name one as `org`" in asked.get_json()["error"]["message"]
    for named in ("beta", "gamma"):
        token = two.login(email="bea@example.com", password=PASSWORD, org=named).get_json()["token"]
        assert two.call("GET", "/auth/me", token=token).get_json()["org"] == named
    by_path = two.call("POST", "/orgs/gamma/auth/token", {"email": "bea@example.com", "password": PASSWORD})
    assert two.call("GET", "/auth/me", token=by_path.get_json()["token"]).get_json()["org"] == "gamma"
    both = {"email": "bea@example.com", "password": PASSWORD, "org": "beta"}
    assert code(two.call("POST", "/orgs/gamma/auth/token", both)) == (403, "wrong_organization")


def test_a_login_tells_nothing_of_organisations_that_are_not_ones_own(two: Two) -> None:
    told = {
        name: two.login(email="bea@example.com", password=PASSWORD, org=name).get_json()["error"]["message"]
        for name in ("acme", "nobody")
    }
    assert told["acme"] == told["nobody"]


def test_guesses_are_counted_over_all_organisations_together(two: Two) -> None:
    for number in range(100):
        guess = two.login(email=f"nobody-{number}@example.com", password="x", org=("acme", "beta", "none")[number % 3])
        assert guess.status_code == 401
    assert two.login(email="bea@example.com", password=PASSWORD).status_code == 429


# One that is broken


def test_a_broken_organisation_keeps_no_other_from_being_served(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = two.settings.home / "orgs" / "acme" / "keys"
    shutil.move(keys, keys.with_name("away"))
    refused = two.call("GET", "/artifacts", org="acme")
    assert code(refused) == (503, "organization_unavailable")
    assert refused.headers["Retry-After"] == "5"
    assert two.call("GET", "/artifacts", org="beta").status_code == 200
    ready = two.client.get("/readyz")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")
    each = ready.get_json()["checks"]["organizations"]
    assert (each["acme"], each["beta"]["status"]) == ({"status": "not ready", "repository": "KeyNotHere"}, "ready")
    metrics = two.client.get("/metrics").get_data(as_text=True)
    assert 'wavegate_organization_up{org="acme"} 0.0' in metrics
    assert 'wavegate_organization_up{org="beta"} 1.0' in metrics
    assert 'wavegate_repository_serial{org="beta"} 1.0' in metrics
    shutil.move(keys.with_name("away"), keys)
    assert code(two.call("GET", "/artifacts", org="acme")) == (503, "organization_unavailable")
    monkeypatch.setattr(rooms, "AGAIN_SECONDS", 0.0)
    assert two.call("GET", "/artifacts", org="acme").status_code == 200


def test_jobs_go_on_for_the_others_and_a_server_with_none_left_does_not_start(two: Two) -> None:
    keys = {org: two.settings.home / "orgs" / org / "keys" for org in ("acme", "beta")}
    shutil.move(keys["acme"], keys["acme"].with_name("away"))
    Jobs(two.installation, Tallies()).recover()
    shutil.move(keys["beta"], keys["beta"].with_name("away"))
    fresh = open_installation(two.settings)
    with pytest.raises(OrganisationUnavailable):
        fresh.organisation("beta")
    with pytest.raises(Exception, match=r"keyring\.json"):
        Jobs(fresh, Tallies()).recover()
    fresh.close()


def led(installation: Installation) -> set[str]:
    with installation.shared.db.read() as connection:
        return set(connection.execute(select(leases.c.name)).scalars())


def test_every_organisation_has_its_jobs_also_one_that_comes_later(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(rooms, "KNOWN_SECONDS", 0.0)
    keys = two.settings.home / "orgs" / "acme" / "keys"
    shutil.move(keys, keys.with_name("away"))
    settings = settings_of(two.settings.home, WAVEGATE_SCHEDULER_SECONDS="0.05", WAVEGATE_CANARY_URL="off")
    installation = open_installation(settings)
    jobs = Jobs(installation, Tallies())
    jobs.start()
    try:
        wait_for(lambda: led(installation) == {"scheduler/beta"})
        shutil.move(keys.with_name("away"), keys)
        wait_for(lambda: led(installation) == {"scheduler/acme", "scheduler/beta"})
        found(settings, installation, "gamma", "gus@example.com", PASSWORD)
        wait_for(lambda: led(installation) == {"scheduler/acme", "scheduler/beta", "scheduler/gamma"})
    finally:
        jobs.stop()
        installation.close()


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Another's


def test_another_organisation_and_none_are_refused_alike(two: Two) -> None:
    for path in ("/artifacts", "/devices/dev_x", "/nothing"):
        answers = [two.call("GET", f"/orgs/{org}{path}", org="acme") for org in ("beta", "nobody", "ACME")]
        errors = [answer.get_json()["error"] | {"request_id": ""} for answer in answers]
        assert errors[0] == errors[1] == errors[2]
        assert {answer.status_code for answer in answers} == ({404} if path == "/nothing" else {403})
    assert code(two.call("GET", "/orgs/beta/artifacts", org="acme")) == (403, "wrong_organization")
    assert two.call("GET", "/orgs/acme/artifacts", org="acme").status_code == 200


def test_an_idempotency_key_is_each_organisations_own(two: Two) -> None:
    for org in ("acme", "beta"):
        made = two.client.post(
            "/api/v1/groups",
            json={"name": "field"},
            headers={"Authorization": f"Bearer {two.keys[org]}", "Idempotency-Key": "same"},
        )
        assert made.status_code == 201
        assert "Idempotency-Replayed" not in made.headers


# Backups


def test_a_backup_has_every_organisation_and_all_come_back(two: Two, tmp_path: Path) -> None:
    upload = two.client.put(
        "/api/v1/artifacts/content", data=b"beta firmware", headers={"Authorization": f"Bearer {two.keys['beta']}"}
    ).get_json()
    fields = {"product": "fw", "version": "1", "platform": "any", "file_name": "fw.bin"}
    two.call("POST", "/artifacts", {"upload_id": upload["upload_id"], **fields}, org="beta")
    now = datetime.now(UTC)
    acme, beta = (two.installation.organisation(org) for org in ("acme", "beta"))
    with pytest.raises(BackupRefused, match="beta would not be in the backup"):
        back_up(acme, tmp_path / "half.tar", keys=True, database=True, now=now)
    made = back_up(acme, tmp_path / "whole.tar", further=[beta], keys=True, database=True, now=now)
    assert (made.serial, dict(made.further)) == (1, {"beta": 2})
    roots = {org: root_file(two.settings, org).read_bytes() for org in ("acme", "beta")}
    there = settings_of(tmp_path / "restored")
    done = restore(there, tmp_path / "whole.tar", now=datetime.now(UTC))
    assert [(one.org, one.serial_in_backup, one.artifacts) for one in (done, *done.further)] == [
        ("acme", 1, 0),
        ("beta", 2, 1),
    ]
    assert {org: root_file(there, org).read_bytes() for org in ("acme", "beta")} == roots
    installation = open_installation(there)
    client = create_app(installation).test_client()
    for org, serial in (("acme", done.serial), ("beta", done.further[0].serial)):
        told = client.get("/api/v1/repository", headers={"Authorization": f"Bearer {two.keys[org]}"})
        assert told.get_json()["serial"] == serial > 1000
        assert installation.organisation(org).repository.check(now=datetime.now(UTC)) == []
    installation.close()


def test_a_broken_organisation_is_left_out_of_a_backup_only_by_name(two: Two, tmp_path: Path) -> None:
    now, acme = datetime.now(UTC), two.installation.organisation("acme")
    made = back_up(acme, tmp_path / "part.tar", keys=True, database=True, now=now, without=["beta"])
    assert dict(made.further) == {}
    done = restore(settings_of(tmp_path / "restored"), tmp_path / "part.tar", now=datetime.now(UTC))
    assert (done.org, done.further) == ("acme", [])
    installation = open_installation(settings_of(tmp_path / "restored"))
    assert [one.org for one in installation.each()] == ["acme"]
    installation.close()


# On the server's machine


def run(two: Two, *arguments: str) -> Result:
    environ = {"WAVEGATE_HOME": str(two.settings.home), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192"}
    return CliRunner().invoke(publish, arguments, env=environ)


def test_the_operator_makes_and_lists_organisations(two: Two) -> None:
    told = json.loads(run(two, "org", "create", "gamma", "--admin", "gus@example.com", "--name", "Gamma Ltd").stdout)
    assert told["root"] == str(two.settings.home / "orgs" / "gamma" / "root.json")
    token = two.login(email="gus@example.com", password=told["admin"]["password"]).get_json()["token"]
    assert two.call("GET", "/auth/me", token=token).get_json()["org"] == "gamma"
    assert two.call("GET", "/auth/me", token=told["api_key"]).get_json()["org"] == "gamma"
    listed = json.loads(run(two, "org", "list").stdout)["items"]
    assert [(one["slug"], one["name"], one["signed"]) for one in listed] == [
        ("acme", "acme", True),
        ("beta", "beta", True),
        ("gamma", "Gamma Ltd", True),
    ]
    again = run(two, "org", "create", "gamma", "--admin", "gus@example.com")
    assert (again.exit_code, "the organisation gamma exists already" in again.stderr) == (1, True)


def test_a_verb_on_the_home_asks_which_organisation(two: Two) -> None:
    home = str(two.settings.home)
    asked = run(two, "repo", "draft", "list", "--home", home)
    assert (asked.exit_code, "name one: there are acme, beta" in asked.stderr) == (1, True)
    assert json.loads(run(two, "repo", "draft", "list", "--home", home, "--org", "beta").stdout) == {"items": []}
    rebuilt = json.loads(run(two, "repo", "rebuild-db", "--org", "beta").stdout)
    assert rebuilt == {"serial": 1, "artifacts": 0, "equal": True}
    assert "/tuf/beta/metadata/timestamp.json" in run(two, "repo", "nginx").stdout


def test_the_doctor_looks_at_each_by_its_name(two: Two) -> None:
    shutil.move(two.settings.home / "orgs" / "beta" / "keys" / "keyring.json", two.settings.home / "away.json")
    checks = {one.name: one for one in examine(two.settings, datetime.now(UTC))}
    assert checks["home"].found == f"{two.settings.home}, organisation acme, beta"
    assert checks["acme: keys"].level is Level.OK
    assert checks["acme: repository"].level is Level.OK
    assert checks["beta: keys"].level is Level.FAIL
    assert [name for name in checks if name.endswith("device CA")] == ["device CA"]
