"""The device CA is rotated under a server that runs and devices that call: nobody is shut out who renews."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent.errors import ServerAway
from agent.home import Home
from agent.identity import Credentials, Identity, Keypair, load_credentials, replace_credentials, save_identity
from agent.link import Facts, GrpcLink
from api.device.server import DeviceServer, DeviceServerSettings
from api.device_ca import finish
from api.organisations import SetupRefused
from api.settings import Settings
from api.setup import initialise
from cli.main import run
from evidence.model import Actor, ActorKind
from fleet import service
from keys.device_ca import DeviceCa
from keys.device_ca_rotation import rotate
from store.audit import AuditLog
from store.database import Database
from store.fleet import SqlFleet
from tests.databases import Databases
from tests.integration.api.conftest import settings_of
from tests.simulators.devices import EnrolledDevice, enrol_device, new_token, private_pem, utc_now
from tests.simulators.key_stores import TOKEN_PIN
from tests.simulators.permits import DevicePermitsSimulator

ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada")
FACTS = Facts(agent_version="0.1", hostname="press", os_family="linux", os_name="Debian", platform="linux-x86_64")
TEN = timedelta(minutes=10)
HOUR = timedelta(hours=1)


@dataclass
class Told:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str


def publish(*arguments: str) -> Told:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return Told(code, out.getvalue(), err.getvalue())


@dataclass
class Site:
    """A home whose device port is open."""

    settings: Settings
    fleet: SqlFleet
    ca: DeviceCa
    server: DeviceServer
    token: str
    folder: Path
    port: int = 0

    @property
    def custody(self) -> Path:
        return self.settings.home / "device-ca"

    def device(self, name: str, *, ago: timedelta = timedelta(0)) -> Home:
        """A device that enrolled, as the agent keeps it."""
        made: EnrolledDevice = enrol_device(self.fleet, self.ca, self.token, name, now=utc_now() - ago)
        home = Home(self.folder / name)
        home.create()
        identity = Identity(
            device_id=made.id,
            name=name,
            org="acme",
            device_endpoint=f"localhost:{self.port}",
            metadata_url="",
            targets_url="",
            root_sha256="",
            enrolled_at="",
        )
        credentials = Credentials(private_pem(made.key), made.chain)
        save_identity(home, identity, credentials, device_ca=made.enrolled.device_ca.encode(), root=b"")
        return home

    def calls(self, home: Home) -> bool:
        """Whether the port and the device take each other for what they are."""
        link = GrpcLink(home, f"localhost:{self.port}")
        try:
            link.check_in(FACTS, [], "idle")
        except ServerAway:
            return False
        finally:
            link.close()
        return True

    def renews(self, home: Home) -> None:
        link, key = GrpcLink(home, f"localhost:{self.port}"), Keypair()
        renewal = link.renew(key.request(Encoding.DER))
        replace_credentials(home, Credentials(key.private_pem, renewal.chain), device_ca=renewal.device_ca)
        link.close()

    def run(self, *arguments: str) -> Told:
        return publish("device-ca", *arguments)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    initialise(settings_of(databases, home), org="acme", admin="ada@example.com", now=utc_now())
    return home


@pytest.fixture
def site(template: Path, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    databases.copy_home(template, tmp_path / "home")
    settings = settings_of(databases, tmp_path / "home")
    database = Database(settings.database_url)
    fleet, ca = SqlFleet(database), DeviceCa.open(settings.home / "device-ca")
    token = new_token(fleet, max_uses=10, life=timedelta(days=90))
    for name, value in {"WAVEGATE_HOME": str(settings.home), **databases.environ(settings.home)}.items():
        monkeypatch.setenv(name, value)
    server = DeviceServer(
        fleet,
        ca,
        lambda *_: True,
        lambda *_: [],
        DevicePermitsSimulator(),
        DeviceServerSettings(listen="127.0.0.1:0", workers=4),
        utc_now,
    )
    made = Site(settings, fleet, ca, server, token, tmp_path)
    made.port = server.start()
    yield made
    server.stop(0)
    database.close()


def test_devices_of_the_old_ca_go_on_until_they_renew_and_the_new_ca_is_alone_in_the_end(site: Site) -> None:
    press, lathe, drill = (site.device(name, ago=2 * HOUR) for name in ("press-1", "lathe-1", "drill-1"))

    # (1) The port takes both; it shows the old CA's certificate, the only one that these devices trust.
    rotate(site.custody, now=utc_now() - HOUR, after=TEN)
    assert site.server.renew_certificate()
    assert not site.server.renew_certificate()
    assert (site.calls(press), site.calls(lathe)) == (True, True)

    # (2) Who renews or enrols has a certificate of the new CA and trusts both.
    site.renews(press)
    newcomer = site.device("mill-1")
    old, new = (one.certificate.subject for one in site.ca.authorities)
    assert load_credentials(press).certificate.issuer == load_credentials(newcomer).certificate.issuer == new
    assert load_credentials(lathe).certificate.issuer == old
    assert all(site.calls(one) for one in (press, newcomer, lathe, drill))

    # (3) Not before all have renewed, or somebody says that it does not matter.
    refused = site.run("rotate", "--finish")
    assert refused.exit_code == 5
    assert "devices hold no certificate of the new device CA yet: 2, acme/drill-1, acme/lathe-1; they renew by" in (
        refused.stderr
    )
    site.renews(lathe)
    service.revoke_device(site.fleet, "acme", "drill-1", "scrapped", by=ADMIN, now=utc_now())
    shown = json.loads(site.run("show", "--output", "json").stdout)
    assert (len(shown["authorities"]), shown["behind"], shown["behind_named"]) == (2, 0, [])
    assert site.run("rotate", "--finish").exit_code == 0

    # (4) The port shows the new CA's certificate and takes no other.
    assert site.server.renew_certificate()
    assert all(site.calls(one) for one in (press, newcomer, lathe))
    assert not site.calls(drill)


def test_a_device_that_did_not_renew_is_shut_out_by_whoever_finishes_anyway(site: Site) -> None:
    press = site.device("press-1", ago=2 * HOUR)
    rotate(site.custody, now=utc_now() - HOUR, after=TEN)

    told = site.run("rotate", "--finish", "--anyway")

    assert told.exit_code == 0
    assert site.server.renew_certificate()
    assert not site.calls(press)
    assert site.calls(site.device("press-2"))


def test_a_device_that_enrols_while_the_new_ca_waits_trusts_both(site: Site) -> None:
    rotate(site.custody, now=utc_now(), after=HOUR)
    press = site.device("press-1")
    assert load_credentials(press).certificate.issuer == site.ca.authorities[0].certificate.subject
    assert site.server.renew_certificate()
    assert site.calls(press)
    assert (press.identity / "device-ca.pem").read_text().count("BEGIN CERTIFICATE") == 2


def test_what_was_done_to_the_ca_is_in_the_log_of_the_organisation(site: Site) -> None:
    assert site.run("rotate").exit_code == 0
    early = site.run("rotate", "--finish")
    assert (early.exit_code, "finish it later" in early.stderr) == (5, True)
    begun = site.ca.authorities[1].sha256
    finish(site.settings, anyway=False, now=utc_now() + HOUR)

    database = Database(site.settings.database_url)
    events = [one.event for one in AuditLog(database).events("acme", limit=100)]
    database.close()
    told = [(one.tag, one.by.id, one.data["sha256"]) for one in events if one.tag.startswith("device_ca.")]
    assert told == [
        ("device_ca.rotated", "system:operator", begun),
        ("device_ca.rotation.finished", "system:operator", begun),
    ]


def test_the_command_says_what_there_is_in_plain_words(site: Site) -> None:
    press = site.device("press-1", ago=2 * HOUR)
    first = site.run("show", "--output", "table")
    assert "sealed:ca-key.pem" in first.stdout
    assert "renewed" not in first.stdout
    rotate(site.custody, now=utc_now() - HOUR, after=TEN)
    begun = site.run("show", "--output", "table").stdout.splitlines()
    assert [line.rstrip().endswith(end) for line, end in zip(begun[1:3], ("no more", "now"), strict=True)] == [True] * 2
    assert begun[-1] == "Not renewed: 1, acme/press-1"
    site.server.renew_certificate()
    site.renews(press)
    ended = site.run("show", "--output", "table").stdout.splitlines()
    assert ended[-1] == "All devices have renewed: publish device-ca rotate --finish"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["rotate", "--finish"], 5, "no rotation of the device CA is under way"),
        (["rotate", "--anyway"], 2, "--anyway goes with --finish"),
        (["rotate", "--finish", "--key", "hsm:2"], 2, "--key goes with the beginning of a rotation"),
        (["rotate", "--key", "file2:/etc/passwd"], 2, "names no key; expected one of hsm:"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    site: Site, arguments: list[str], exit_code: int, said: str
) -> None:
    before = site.ca.certificate_pem
    refused = site.run(*arguments)
    assert (refused.exit_code, said in refused.stderr) == (exit_code, True), refused.stderr
    assert site.ca.certificate_pem == before


def test_a_home_is_made_with_the_ca_in_a_token(token: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = tmp_path / "pin"
    pin.write_text(f"{TOKEN_PIN}\n")
    home = tmp_path / "home"
    databases = Databases(None)
    key, pin_file = "hsm:2?label=wavegate+test", str(pin)
    settings = settings_of(databases, home, WAVEGATE_DEVICE_CA_KEY=key, WAVEGATE_DEVICE_CA_PIN_FILE=pin_file)
    initialise(settings, org="acme", admin="ada@example.com", now=utc_now())

    monkeypatch.setenv("WAVEGATE_HOME", str(home))
    shown = publish("device-ca", "show")

    assert (shown.exit_code, key in shown.stdout) == (0, True), shown.stderr
    DeviceCa.open(home / "device-ca").server_certificate(["localhost"], now=utc_now())


def test_a_home_whose_ca_cannot_be_made_says_why(tmp_path: Path) -> None:
    settings = settings_of(Databases(None), tmp_path / "home", WAVEGATE_DEVICE_CA_KEY="public:/nowhere.pem")
    with pytest.raises(SetupRefused, match=r"the device CA cannot be made: .*begin again"):
        initialise(settings, org="acme", admin="ada@example.com", now=utc_now())
