"""`publish doctor` on a home that has one fault after the other, and from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket

import pytest
from sqlalchemy import text

from api.app import create_app
from api.backup import back_up
from api.doctor.examine import examine, is_well
from api.doctor.model import Check, Level
from api.doctor.network import Told, remote, serves
from api.settings import Address, Settings, read_settings
from api.setup import initialise
from api.wiring import open_wavegate
from cli.main import run
from keys.device_ca_rotation import rotate
from tests.integration.api.conftest import Home

FREE = Address("127.0.0.1", 1)
Fault = Callable[[Settings, ExitStack], Settings | None]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with an artifact, whose ports are closed; faults are undone by the test that makes them."""
    folder = tmp_path_factory.mktemp("doctor")
    settings = read_settings({"WAVEGATE_HOME": str(folder / "home"), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192"})
    settings = replace(settings, listen=FREE, device_listen=replace(FREE, port=2))
    made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
    wiring = open_wavegate(settings)
    app = create_app(wiring)
    home = Home(made, wiring, app, app.test_client())
    assert home.publish().status_code == 201
    yield home
    wiring.close()


def found(settings: Settings, *, ahead: timedelta = timedelta(0)) -> dict[str, Check]:
    return {one.name: one for one in examine(settings, datetime.now(UTC) + ahead)}


@contextmanager
def renamed(path: Path) -> Iterator[None]:
    path.rename(path.with_name("aside"))
    try:
        yield
    finally:
        path.with_name("aside").rename(path)


def test_a_home_that_is_well_has_nothing_that_fails_and_nothing_is_changed(patient: Home) -> None:
    files = {path: path.stat().st_mtime_ns for path in patient.made.home.rglob("*") if path.name != "wavegate.db-shm"}
    checks = found(patient.wiring.settings)
    assert {one.name: one.level for one in checks.values() if one.level is not Level.OK} == {
        "offline keys": Level.WARN,
        "server": Level.WARN,
        "leader": Level.UNKNOWN,
        "backup": Level.WARN,
    }
    assert is_well(list(checks.values()))
    assert [one.name for one in checks.values() if one.level is not Level.OK and not one.todo] == ["leader"]
    after = {path: path.stat().st_mtime_ns for path in files if path.exists()}
    folders = {path for path in files if path.is_dir()}  # a trial file came and went
    assert {path for path in files if path not in folders and after.get(path) != files[path]} == set()


def passphrase_open(settings: Settings, undo: ExitStack) -> None:
    key = settings.home / "orgs" / "acme" / "keys"
    for path in (settings.home, settings.home / "orgs", settings.home / "orgs" / "acme", key, key / "passphrase"):
        undo.callback(path.chmod, path.stat().st_mode & 0o777)
        path.chmod(path.stat().st_mode | 0o044 | (0o011 if path.is_dir() else 0))


def home_open(settings: Settings, undo: ExitStack) -> None:
    undo.callback(settings.home.chmod, 0o700)
    settings.home.chmod(0o755)


def passphrase_gone(settings: Settings, undo: ExitStack) -> None:
    undo.enter_context(renamed(settings.home / "orgs" / "acme" / "keys" / "passphrase"))


def authority_gone(settings: Settings, undo: ExitStack) -> None:
    undo.enter_context(renamed(settings.home / "device-ca"))


def database_gone(settings: Settings, undo: ExitStack) -> None:
    undo.enter_context(renamed(settings.home / "wavegate.db"))


def database_away(settings: Settings, undo: ExitStack) -> Settings:
    return replace(settings, database_url="postgresql://wavegate:secret-of-the-database@127.0.0.1:1/wavegate")


def blob_gone(settings: Settings, undo: ExitStack) -> None:
    (blob,) = [
        path
        for path in (settings.home / "orgs" / "acme" / "repository" / "blobs").rglob("*")
        if path.is_file() and path.read_bytes() == b"firmware"
    ]
    undo.enter_context(renamed(blob))


def storage_gone(settings: Settings, undo: ExitStack) -> None:
    undo.enter_context(renamed(settings.home / "orgs" / "acme" / "repository"))


def bucket_away(settings: Settings, undo: ExitStack) -> Settings:
    patch = undo.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("AWS_ACCESS_KEY_ID", "AK")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-bucket")
    return replace(
        settings, bucket="s3://b/x", storage_endpoint="http://127.0.0.1:1", storage_region="r", storage_allow_http=True
    )


def port_taken(settings: Settings, undo: ExitStack) -> Settings:
    other = undo.enter_context(socket())
    other.bind(("127.0.0.1", 0))
    other.listen()
    return replace(settings, device_listen=Address("127.0.0.1", other.getsockname()[1]))


FAULTS: list[tuple[Fault, str, Level, str]] = [
    (passphrase_open, "key files", Level.FAIL, "other users may read orgs/acme/keys"),
    (home_open, "home", Level.FAIL, "other users may enter"),
    (passphrase_gone, "keys", Level.FAIL, "passphrase"),
    (authority_gone, "device CA", Level.FAIL, "device-ca"),
    (database_gone, "database", Level.FAIL, "there is no"),
    (database_away, "database", Level.FAIL, "does not answer"),
    (blob_gone, "repository", Level.FAIL, "1 missing_blob"),
    (storage_gone, "storage", Level.FAIL, "cannot be written"),
    (bucket_away, "storage", Level.FAIL, "the bucket cannot be used"),
    (port_taken, "device port", Level.FAIL, "is held by another program"),
]


@pytest.mark.parametrize(("fault", "name", "level", "words"), FAULTS, ids=[one[0].__name__ for one in FAULTS])
def test_a_fault_is_found_under_its_name_and_says_what_to_do(
    patient: Home, fault: Fault, name: str, level: Level, words: str
) -> None:
    with ExitStack() as undo:
        settings = fault(patient.wiring.settings, undo) or patient.wiring.settings
        checks = found(settings)
    assert (checks[name].level, words in checks[name].found) == (level, True), checks[name]
    assert checks[name].todo
    assert not is_well(list(checks.values()))
    assert "secret-of" not in str(checks)


@pytest.mark.parametrize(
    ("ahead", "name", "level", "words"),
    [
        (timedelta(hours=30), "metadata", Level.WARN, "timestamp expires in 1"),
        (timedelta(days=3), "metadata", Level.FAIL, "timestamp expired"),
        (timedelta(days=-1), "clock", Level.FAIL, "behind the last commit"),
        (timedelta(days=3630), "device CA", Level.WARN, "valid until"),
        (timedelta(days=3700), "device CA", Level.FAIL, "expired on"),
    ],
)
def test_time_is_told_before_it_runs_out(patient: Home, ahead: timedelta, name: str, level: Level, words: str) -> None:
    checks = [one for one in examine(patient.wiring.settings, datetime.now(UTC) + ahead) if one.name == name]
    assert [one for one in checks if one.level is level and words in one.found] != [], checks


def test_a_rotation_of_the_device_ca_that_nobody_finishes_is_told(patient: Home) -> None:
    custody = patient.made.home / "device-ca"
    made = rotate(custody, now=datetime.now(UTC), after=timedelta(minutes=10))
    try:
        assert "device CA rotation" not in found(patient.wiring.settings, ahead=timedelta(days=30))
        told = found(patient.wiring.settings, ahead=timedelta(days=50))["device CA rotation"]
    finally:
        (custody / "authorities.json").unlink()
        (custody / made.key.removeprefix("sealed:")).unlink()
    assert (told.level, told.todo) == (
        Level.WARN,
        "`publish device-ca rotate --finish`; until then the old key counts",
    )


def test_a_backup_quiets_the_warning_for_a_week(patient: Home, tmp_path: Path) -> None:
    back_up(patient.wiring, tmp_path / "b.tar", keys=True, database=True, now=datetime.now(UTC))
    assert found(patient.wiring.settings)["backup"].level is Level.OK
    assert found(patient.wiring.settings, ahead=timedelta(days=8))["backup"].level is Level.WARN


def test_the_command_tells_it_as_json_and_its_exit_code_says_whether_something_fails(
    patient: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in (("HOME", patient.made.home), ("LISTEN", "127.0.0.1:1"), ("DEVICE_LISTEN", "127.0.0.1:2")):
        monkeypatch.setenv(f"WAVEGATE_{name}", str(value))
    assert run(["doctor", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert {"name": "key files", "level": "ok", "todo": None}.items() <= told["checks"][2].items()
    monkeypatch.setenv("WAVEGATE_HOME", str(tmp_path / "nothing"))
    assert run(["doctor", "-o", "table"]) == 1
    assert "-> make one with `publish init`" in capsys.readouterr().out
    assert not (tmp_path / "nothing").exists()
    monkeypatch.setenv("WAVEGATE_HTTP_THREADS", "0")
    assert run(["doctor", "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["checks"][0]["found"] == "http_threads is '0', expected 1 to 512"
    monkeypatch.delenv("WAVEGATE_HTTP_THREADS")
    assert run(["doctor", "--remote", "--url", "http://127.0.0.1:1", "-o", "json"]) == 1


def test_from_elsewhere_it_says_what_it_can_see_and_what_not(patient: Home) -> None:
    def asking(token: str) -> Callable[[str], Told]:
        def ask(path: str) -> Told:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = patient.client.get(path, headers=headers)
            date = {"date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")}
            return Told(answer.status_code, date, answer.get_json(silent=True))

        return ask

    def look(token: str, url: str = "http://127.0.0.1", ahead: timedelta = timedelta(0)) -> dict[str, Level]:
        checks = remote(asking(token), url, datetime.now(UTC) + ahead, with_key=bool(token))
        return {one.name: one.level for one in checks}

    assert serves(asking(""))
    assert look(patient.made.api_key) == {
        "server": Level.OK,
        "clock": Level.OK,
        "TLS certificate": Level.OK,
        "credential": Level.OK,
        "metadata": Level.OK,
        "the server's machine": Level.UNKNOWN,
    }
    assert look("")["credential"] is Level.UNKNOWN
    assert look("wgk_wrong")["credential"] is Level.FAIL
    assert look("", url="http://wavegate.example.com")["TLS certificate"] is Level.FAIL
    late = look(patient.made.api_key, ahead=timedelta(days=360))
    assert (late["clock"], late["credential"]) == (Level.FAIL, Level.WARN)


def test_a_database_of_an_earlier_release_is_told_and_left_as_it_is(patient: Home) -> None:
    db = patient.wiring.db
    with db.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0011'"))
    try:
        checks = found(patient.wiring.settings)
        assert (checks["database"].level, db.schema_version()) == (Level.WARN, "0011")
        assert "the next start of the server migrates it" in checks["database"].todo
        assert checks["repository"].level is Level.UNKNOWN
    finally:
        with db.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0015'"))
