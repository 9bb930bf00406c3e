"""Every kind of secret is planted, used, misused, made to fail, and looked for wherever the server says something."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from api.app import create_app
from api.backup import back_up
from api.logs import AsJson, keep_fields
from api.metrics import Measurer, NotMeasured, fetch
from api.settings import InvalidSettings, MetricSource, read_settings
from api.webhook_round import WebhookRound
from cli.main import run
from evidence.webhooks.addresses import Allowed
from keys.second_factor import code_at
from repo_signing.bucket import Bucket, BucketAddress, BucketFailed
from store.database import Database
from store.errors import InvalidDatabaseUrl, StoreError
from tests.integration.api.conftest import Home
from tests.simulators.webhook_receiver import WebhookReceiver, webhook_receiver

ANN = "ann@example.com"
PASSWORD, NEXT_PASSWORD, WRONG_PASSWORD = "canary-Pq7 first", "canary-Pq7 second", "canary-Pq7 mistyped"


@dataclass
class Planted:
    """A home with a webhook that may reach loopback, and all that was said: in answers, log, errors, deliveries."""

    home: Home
    receiver: WebhookReceiver
    log: io.StringIO
    secrets: dict[str, str] = field(default_factory=dict)
    said: list[tuple[str, str]] = field(default_factory=list)

    def call(self, method: str, path: str, body: object = None, *, shows: str = "", **more: object) -> TestResponse:
        """One request; what it answers may hold only the secret that it ``shows``."""
        answer = self.home.call(method, path, body, **more)  # type: ignore[arg-type]
        text = f"{answer.status}\n{answer.headers}\n{answer.text}"
        if shows:
            told = answer.get_json()
            for part in shows.split("."):
                told = told[part]
            for number, secret in enumerate([told] if isinstance(told, str) else told):
                self.secrets[f"{method} {path} {shows} {number}"] = secret
                assert text.count(secret) == 1
                text = text.replace(secret, "")
        self.said.append((f"{method} {path}", text))
        return answer

    def tell(self, where: str, what: object) -> None:
        self.said.append((where, str(what)))


@pytest.fixture
def planted(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planted]:
    wiring = replace(home.wiring, webhooks=replace(home.wiring.webhooks, allowed=Allowed.parse(["127.0.0.1"])))
    app = create_app(wiring)
    log = io.StringIO()
    lines = logging.StreamHandler(log)
    lines.addFilter(keep_fields)
    # Without the net that catches what looks like our secrets: nothing is to fall into it.
    monkeypatch.setattr("api.logs.without_secrets", lambda text: text)
    lines.setFormatter(AsJson())
    root = logging.getLogger()
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    try:
        with webhook_receiver() as receiver:
            yield Planted(Home(home.made, wiring, app, app.test_client()), receiver, log)
    finally:
        root.removeHandler(lines)
        root.setLevel(level)


def test_no_secret_is_ever_seen_but_by_the_answer_that_shows_it_once(planted: Planted, tmp_path: Path) -> None:
    admin = people(planted)
    keys_and_tokens(planted, admin)
    second_factor(planted)
    webhooks(planted, admin)
    settings_and_stores(planted, tmp_path)
    commands(planted, tmp_path)
    files_of_the_home(planted, tmp_path)
    broken_database(planted)
    planted.tell("log", planted.log.getvalue())
    planted.tell("/metrics", planted.home.client.get("/metrics").text)

    assert len(planted.secrets) >= 25
    assert len(planted.said) > 60
    found = [
        f"{name} in {where}"
        for name, secret in planted.secrets.items()
        for where, text in planted.said
        if any(form in text for form in forms_of(secret))
    ]
    assert found == []
    lines = [json.loads(line) for line in planted.log.getvalue().splitlines()]
    routes = {line.get("route") for line in lines}
    assert {"/api/v1/auth/token", "/api/v1/api-keys", "/api/v1/enroll", "/api/v1/webhooks"} <= routes


def forms_of(secret: str) -> list[str]:
    """The secret as it may stand somewhere: plain, in JSON, in a URL, in base64, in hex."""
    plain = secret.encode()
    whole = [secret, json.dumps(secret)[1:-1], quote(secret), plain.hex()]
    return [*whole, base64.b64encode(plain).decode().rstrip("=")[:-1]]


def people(planted: Planted) -> str:
    """Passwords, chosen and made, right and wrong; login token and session cookie."""
    home = planted.home
    planted.secrets |= {"password": PASSWORD, "next": NEXT_PASSWORD, "wrong": WRONG_PASSWORD}
    planted.secrets["one-time"] = home.made.admin_password
    body = {"email": home.made.admin_email, "password": home.made.admin_password}
    answer = planted.call("POST", "/auth/token", body, token="", shows="token")
    admin: str = answer.get_json()["token"]
    made = {"email": ANN, "name": "Ann", "role": "approver", "password": PASSWORD}
    assert planted.call("POST", "/users", made, token=admin).status_code == 201
    assert planted.call("POST", "/users", made, token=admin).status_code == 409
    bob = {"email": "bob@example.com", "name": "Bob", "role": "viewer"}
    assert planted.call("POST", "/users", bob, token=admin, shows="password").status_code == 201
    for wrong in (
        {"email": ANN, "password": WRONG_PASSWORD},
        {"email": "", "password": [WRONG_PASSWORD]},
        {"email": ANN, "password": PASSWORD * 40},
        {"email": ANN, "password": PASSWORD, "extra": NEXT_PASSWORD},
    ):
        assert planted.call("POST", "/auth/token", wrong, token="").status_code in {400, 401}
    assert planted.call("POST", "/auth/login", data=f'{{"password": "{PASSWORD}', token="").status_code in {400, 415}
    assert planted.call("GET", f"/auth/me?password={quote(PASSWORD)}", token=admin).status_code in {200, 400}
    browser = planted.home.app.test_client()
    logged_in = browser.post(
        "/api/v1/auth/login", json={"email": ANN, "password": PASSWORD}, base_url="https://localhost"
    )
    cookie = logged_in.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    planted.secrets["session cookie"] = cookie
    planted.tell("login", logged_in.text)
    for path in ("/auth/me", "/profile/sessions", "/profile"):
        planted.tell(path, browser.get(f"/api/v1{path}", base_url="https://localhost").text)
    change = {"password": NEXT_PASSWORD, "current_password": PASSWORD}
    changed = browser.patch("/api/v1/profile", json=change, base_url="https://localhost")
    assert changed.status_code == 200, changed.text
    planted.tell("profile", changed.text)
    for path in ("/users", "/auth/me"):
        planted.call("GET", path, token=admin)
    return admin


def keys_and_tokens(planted: Planted, admin: str) -> None:
    """API keys and enrolment tokens: shown once, used well, used wrongly."""
    planted.secrets["first API key"] = planted.home.made.api_key
    key = planted.call("POST", "/api-keys", {"name": "ci"}, token=admin, shows="key").get_json()
    again = planted.call("POST", f"/api-keys/{key['id']}/rotate", {"overlap_hours": 1}, token=admin, shows="key")
    assert again.status_code == 201, again.text
    token = planted.call(
        "POST", "/enroll-tokens", {"name": "line", "groups": []}, token=admin, shows="token"
    ).get_json()["token"]
    planted.call("GET", "/api-keys", token=admin)
    planted.call("GET", "/enroll-tokens", token=admin)
    planted.call("GET", "/artifacts", token=key["key"])
    planted.call("POST", "/enroll", {"token": token, "name": "press", "csr": "no request"}, token="")
    planted.call("POST", "/enroll", {"token": token[:-1] + "x", "name": "press", "csr": "no request"}, token="")
    for header in (f"Bearer {key['key']}x", f"Bearer {key['key'][:-1]}", f"Basic {key['key']}", key["key"]):
        answer = planted.call("GET", "/auth/me", token="", headers={"Authorization": header})
        assert answer.status_code == 401
    planted.call("GET", f"/artifacts/{key['key']}")
    planted.call("GET", f"/no/such/{key['key']}")
    planted.call("POST", "/groups", {"name": "x"}, headers={"Idempotency-Key": key["key"] * 9})
    planted.call("DELETE", f"/api-keys/{key['id']}", token=admin)


def second_factor(planted: Planted) -> None:
    """The secret of the app and the recovery codes."""
    token = planted.call(
        "POST", "/auth/token", {"email": ANN, "password": NEXT_PASSWORD}, token="", shows="token"
    ).get_json()["token"]
    begun = planted.home.call("POST", "/profile/second-factor", {"current_password": NEXT_PASSWORD}, token=token)
    (secret,) = parse_qs(urlsplit(begun.get_json()["otpauth_uri"]).query)["secret"]
    planted.secrets["TOTP secret"] = secret
    planted.secrets["TOTP secret, raw"] = base64.b32decode(secret).decode("latin-1")
    planted.call("POST", "/profile/second-factor/confirm", {"code": "abc"}, token=token)
    code = code_at(base64.b32decode(secret), datetime.now(UTC))
    confirmed = planted.call(
        "POST", "/profile/second-factor/confirm", {"code": code}, token=token, shows="recovery_codes"
    ).get_json()
    recovery = confirmed["recovery_codes"][0]
    body = {"email": ANN, "password": NEXT_PASSWORD}
    assert planted.call("POST", "/auth/token", {**body, "code": recovery + "x"}, token="").status_code == 401
    answer = planted.call("POST", "/auth/token", {**body, "code": recovery}, token="", shows="token")
    assert answer.status_code == 200
    planted.call("POST", "/auth/token", {**body, "code": recovery}, token="")
    planted.call("GET", "/profile/second-factor", token=token)


def webhooks(planted: Planted, admin: str) -> None:
    """Secrets of webhooks; deliveries of everything that has happened until now."""
    body = {"url": planted.receiver.url, "events": ["*"]}
    hook = planted.call("POST", "/webhooks", body, token=admin, shows="secret").get_json()["id"]
    planted.call("POST", f"/webhooks/{hook}/rotate-secret", {}, token=admin, shows="secret")
    password = planted.secrets["webhook URL"] = "canary-in-a-url"
    refused = {**body, "url": f"https://user:{password}@example.com/"}
    assert planted.call("POST", "/webhooks", refused, token=admin).status_code == 400
    planted.call("POST", "/groups", {"name": "late"})
    planted.call("POST", f"/webhooks/{hook}/test", {}, token=admin)
    planted.receiver.answers.append(500)
    turn = WebhookRound(planted.home.wiring).turn(clock=lambda: datetime.now(UTC), stop=lambda: False)
    assert turn >= 2
    for got in planted.receiver.got:
        planted.tell("webhook", f"{got.path} {got.headers} {got.body.decode()}")
    for path in ("/webhooks", f"/webhooks/{hook}", f"/webhooks/{hook}/deliveries"):
        assert planted.call("GET", path, token=admin).status_code == 200
    events = planted.call("GET", "/audit/events?limit=200")
    assert len(events.get_json()["items"]) > 10


def settings_and_stores(planted: Planted, tmp_path: Path) -> None:
    """What the server is given to reach others: database, bucket, sources of metrics."""
    secret = planted.secrets["database password"] = "canary-in-the-database-url"
    for url in (f"postgresql://wavegate:{secret}@127.0.0.1:1/wavegate", f"mysql://wavegate:{secret}@db/wavegate"):
        try:
            Database(url).ping()
        except (StoreError, InvalidDatabaseUrl) as error:
            logging.getLogger("wavegate").exception("the database is away")
            planted.tell("database", repr(error) + str(error.__cause__))
    for name, value in (
        ("DATABASE_URL", f"mysql://wavegate:{secret}@db/wavegate"),
        ("STORAGE_URL", f"s3://key:{secret}@bucket/x"),
        ("STORAGE_ENDPOINT", f"https://key:{secret}@store"),
        ("METRIC_SOURCES", json.dumps({"a": {"url": f"https://key:{secret}@prometheus"}})),
    ):
        with pytest.raises(InvalidSettings) as refused:
            read_settings({f"WAVEGATE_{name}": value, "WAVEGATE_HOME": str(tmp_path)})
        planted.tell(name, refused.value)
    bucket_key = planted.secrets["bucket key"] = "canary/of+the/bucket"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKCANARY")
        patch.setenv("AWS_SECRET_ACCESS_KEY", bucket_key)
        address = BucketAddress(url="s3://b/x", endpoint="http://127.0.0.1:1", region="r", allow_http=True)
        with pytest.raises(BucketFailed) as failed:
            Bucket(address).get("timestamp.json")
        planted.tell("bucket", failed.value)
    token = planted.secrets["metric token"] = "canary-of-a-source"
    (tmp_path / "token").write_text(token)
    with pytest.raises(NotMeasured) as silent:
        fetch(MetricSource(url="http://127.0.0.1:1", bearer_token_file=tmp_path / "token"), "http://127.0.0.1:1/x")
    planted.tell("metric source", silent.value)
    Measurer({}, planted.home.wiring.rollout_store, planted.home.wiring.readings).turn("acme", datetime.now(UTC))


def commands(planted: Planted, tmp_path: Path) -> None:
    """What `publish` says when its credential is no good or nobody answers."""
    key = planted.secrets["key file"] = "wgk_" + "canaryCanary" * 4
    (tmp_path / "key").write_text(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVEGATE_CONFIG_DIR", str(tmp_path / "config"))
        out, err = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        for form in ("table", "json"):
            call = ["whoami", "--url", "http://127.0.0.1:1", "--api-key-file", str(tmp_path / "key"), "-o", form]
            assert run(call) != 0
        patch.setenv("WAVEGATE_API_KEY", f"{key} and more")
        patch.setenv("WAVEGATE_DEBUG", "1")
        assert run(["whoami", "--url", "http://127.0.0.1:1"]) != 0
    planted.tell("commands", out.getvalue() + err.getvalue())


def files_of_the_home(planted: Planted, tmp_path: Path) -> None:
    """Passphrases of keys, and a backup without keys: every file of it, the database, too, where it is a file."""
    for passphrase in sorted(planted.home.made.home.rglob("passphrase")):
        planted.secrets[str(passphrase.relative_to(planted.home.made.home))] = passphrase.read_text().strip()
    assert len([name for name in planted.secrets if name.endswith("passphrase")]) == 3
    database = planted.home.wiring.db.is_sqlite
    back_up(planted.home.wiring, tmp_path / "backup", keys=False, database=database, now=datetime.now(UTC))
    names = []
    for file in sorted((tmp_path / "backup").rglob("*")):
        if file.is_file():
            names.append(file.name)
            planted.tell(f"backup: {file.name}", file.read_bytes().decode("latin-1"))
    assert ("wavegate.db" in names) is database


def broken_database(planted: Planted) -> None:
    """A database that fails in the middle of a login."""
    with planted.home.wiring.db.write() as connection:
        connection.execute(text("ALTER TABLE users RENAME TO lost_users"))
    answer = planted.call("POST", "/auth/token", {"email": ANN, "password": WRONG_PASSWORD}, token="")
    assert answer.status_code in {500, 503}
    answer = planted.call("GET", "/artifacts")
    assert answer.status_code in {500, 503}
    missing = "no such table" if planted.home.wiring.db.is_sqlite else "UndefinedTable"
    assert missing in planted.log.getvalue()
