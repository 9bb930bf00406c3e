"""``wavegate-agent``: enroll, run, status, verify."""

from __future__ import annotations

import json
import logging
import os
import platform
import random
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import wraps
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo

import click
from click.core import ParameterSource

from agent.config import AgentConfig, read_config, this_platform
from agent.core import Agent
from agent.enrol import Enrolment, enroll
from agent.errors import AgentError, BadConfig
from agent.home import Home
from agent.hooks import CommandHooks
from agent.identity import Identity, load_credentials, load_identity
from agent.link import Facts, GrpcLink
from agent.machine import HostMachine
from agent.partial import Terms
from agent.report import status_in_words, status_of, verify_file, verify_running
from agent.state import StateFile
from agent.steps import Surroundings
from agent.trust import Repository
from agent.web import Limits

LOCALTIME: Final = Path("/etc/localtime")
# Parameters of ``enroll`` that are settings of agent.toml.
_SETTINGS: Final = (
    "platform_name",
    "products",
    "install_command",
    "health_command",
    "install_timeout",
    "health_timeout",
    "health_tries",
    "health_pause",
    "interval",
    "tls_ca",
)
JITTER: Final = 0.1  # of the interval: devices that were switched on together must not poll together


def default_home(environment: dict[str, str]) -> Path:
    """Where the agent lives unless told: ``WAVEGATE_AGENT_HOME``, else the usual place for root or for a person."""
    if environment.get("WAVEGATE_AGENT_HOME"):
        return Path(environment["WAVEGATE_AGENT_HOME"]).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/wavegate-agent")
    data = environment.get("XDG_DATA_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".local/share")
    return Path(data) / "wavegate-agent"


def local_zone(file: Path = LOCALTIME) -> tzinfo:
    """The zone that the device is set to, with its changes of summer time; UTC where it is set to none."""
    try:
        with file.open("rb") as stored:
            return ZoneInfo.from_file(stored, key="local")
    except (OSError, ValueError):
        return UTC


def agent_version() -> str:
    """The installed version, ``0`` when run from a source tree that was never installed."""
    try:
        return metadata.version("wavegate")
    except metadata.PackageNotFoundError:
        return "0"


def gather_facts(platform_name: str) -> Facts:
    """What this machine is."""
    try:
        os_name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        os_name = f"{platform.system()} {platform.release()}"
    return Facts(
        agent_version=agent_version(),
        hostname=socket.gethostname()[:255],
        os_family=platform.system().lower(),
        os_name=os_name[:200],
        platform=platform_name,
    )


def build_repository(home: Home, identity: Identity, config: AgentConfig) -> Repository:
    """The repository that this device's identity names."""
    return Repository(
        home,
        metadata_url=identity.metadata_url,
        targets_url=identity.targets_url,
        agent=f"wavegate-agent/{agent_version()}",
        tls_ca=config.tls_ca,
        terms=Terms(
            limits=Limits(config.download_seconds, config.least_bytes_per_second),
            bytes_per_second=config.download_bytes_per_second,
            keep_free_bytes=config.keep_free_bytes,
        ),
    )


def build_agent(home: Home, stopping: Callable[[], bool] = lambda: False) -> Agent:
    """An agent over a home that has an identity, with the real clock, network and commands.

    Raises NotEnrolled, BadConfig, StateUnreadable.
    """
    identity, config = load_identity(home), read_config(home.config)
    home.create()
    return Agent(
        home,
        identity,
        config,
        gather_facts(config.platform),
        link=GrpcLink(home, identity.device_endpoint),
        repository=build_repository(home, identity, config),
        hooks=CommandHooks(
            install_command=config.install_command,
            health_command=config.health_command,
            install_timeout_seconds=config.install_timeout_seconds,
            health_timeout_seconds=config.health_timeout_seconds,
            platform=config.platform,
            log=home.hook_log,
        ),
        surroundings=Surroundings(
            clock=lambda: datetime.now(UTC),
            sleep=time.sleep,
            new_report_id=lambda: f"rep_{uuid.uuid4().hex}",
            zone=local_zone(),
            stopping=stopping,
        ),
        machine=HostMachine(home, config, lambda: datetime.now(UTC)),
    )


Command = Callable[..., None]


def _telling_errors(command: Command) -> Command:
    @wraps(command)
    def told(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except AgentError as error:
            click.echo(f"{error.code}: {error}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            click.echo(f"agent_error: {error.strerror}: {error.filename}", err=True)
            sys.exit(1)

    return told


def _home_option(command: Command) -> Command:
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where the agent keeps everything.  [WAVEGATE_AGENT_HOME, /var/lib/wavegate-agent for root, "
        "~/.local/share/wavegate-agent]",
    )(command)


def _home(folder: Path | None) -> Home:
    return Home((folder or default_home(dict(os.environ))).absolute())


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(agent_version(), prog_name="wavegate-agent")
def cli() -> None:
    """Keep this device on what its signed rollouts say.

    Exit codes: 0 ok, 1 failure, 2 usage, 3 not enrolled or not recognised, 5 conflict, 8 verification failed.
    """


@cli.command("enroll")
@click.option("--url", required=True, help="The Wavegate server, for example https://wavegate.example.com")
@click.option("--token", help="The enrolment token.  [or --token-file, or WAVEGATE_ENROLL_TOKEN]")
@click.option(
    "--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file with the token."
)
@click.option("--name", help="The device's name.  [the host's name]")
@click.option(
    "--platform", "platform_name", default=this_platform, help="As artifacts name it, for example linux-x86_64."
)
@click.option("--product", "products", multiple=True, help="Follow only this product; may be given again.")
@click.option("--install-command", default="", help="Run to install; {file} is the verified file. No shell.")
@click.option("--health-command", default="", help="Run after installing; exit code 0 means well. No shell.")
@click.option("--install-timeout", type=float, help="Seconds.  [1800]")
@click.option("--health-timeout", type=float, help="Seconds, each try.  [60]")
@click.option("--health-tries", type=int, help="How often the health command may fail before it counts.  [3]")
@click.option("--health-pause", type=float, help="Seconds between two tries.  [2]")
@click.option("--interval", type=float, help="Seconds between two polls.  [60]")
@click.option(
    "--root",
    "root_file",
    type=click.Path(exists=True, path_type=Path),
    help="A root.json, or the folder of a bundle, that the server's root must equal, beside the token's word.",
)
@click.option("--tls-ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CAs to trust for https.")
@click.option(
    "--again",
    is_flag=True,
    help="Put a new identity in the place of the one that is here, with a fresh code; settings and what runs stay.",
)
@click.option("--allow-http", is_flag=True, help="Enrol over plain http with another host than this one.")
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text")
@_home_option
@_telling_errors
def enroll_command(  # one parameter an option
    url: str,
    token: str | None,
    token_file: Path | None,
    name: str | None,
    platform_name: str,
    products: tuple[str, ...],
    install_command: str,
    health_command: str,
    install_timeout: float | None,
    health_timeout: float | None,
    health_tries: int | None,
    health_pause: float | None,
    interval: float | None,
    root_file: Path | None,
    tls_ca: Path | None,
    again: bool,
    allow_http: bool,
    output: str,
    home: Path | None,
) -> None:
    """Make a key, exchange the token for a certificate, and pin the repository's root."""
    given = {
        "install_timeout_seconds": install_timeout,
        "health_timeout_seconds": health_timeout,
        "health_tries": health_tries,
        "health_pause_seconds": health_pause,
        "interval_seconds": interval,
    }
    config = AgentConfig(
        platform=platform_name,
        products=products,
        install_command=install_command,
        health_command=health_command,
        tls_ca="" if tls_ca is None else str(tls_ca.absolute()),
        **{setting: value for setting, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    pasted = token or (token_file.read_text() if token_file else os.environ.get("WAVEGATE_ENROLL_TOKEN", ""))
    text = pasted.strip()  # a line's end comes along where it was cut out of a list
    if not text:
        raise BadConfig("no token: give --token, --token-file or WAVEGATE_ENROLL_TOKEN")
    asked = Enrolment(
        url=url,
        token=text,
        name=name or socket.gethostname(),
        root=None if root_file is None else (root_file / "root.json" if root_file.is_dir() else root_file).read_bytes(),
        allow_http=allow_http,
        again=again,
    )
    where = _home(home)
    if again and where.config.exists():
        _check_no_settings()
        config = read_config(where.config)
    identity = enroll(where, asked, config, gather_facts(platform_name), now=datetime.now(UTC))
    if output == "json":
        click.echo(
            json.dumps(
                {
                    "device_id": identity.device_id,
                    "name": identity.name,
                    "org": identity.org,
                    "home": str(where.folder),
                    "root_sha256": identity.root_sha256,
                }
            )
        )
    else:
        click.echo(f"{identity.name} is {identity.device_id} of {identity.org}; next: wavegate-agent run")


def _check_no_settings() -> None:
    context = click.get_current_context()
    for name in _SETTINGS:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(one.opts[0] for one in context.command.params if one.name == name)
            raise BadConfig(f"{option} with --again: the settings stay as they are; change them in agent.toml")


@cli.command("run")
@click.option("--once", is_flag=True, help="Poll once and end; exit code 1 when the repository could not be read.")
@click.option("--interval", type=float, help="Seconds between two polls.  [as enrolled]")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
@_home_option
@_telling_errors
def run_command(once: bool, interval: float | None, verbose: bool, home: Path | None) -> None:
    """Poll, install and report until told to stop (SIGTERM ends it after the poll under way)."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    where = _home(home)
    config = read_config(where.config) if where.config.exists() else None
    load_identity(where)
    stop = threading.Event()
    with where.locked():
        agent = build_agent(where, stop.is_set)
        try:
            if once:
                refreshed = agent.poll().refreshed
                _say(agent)
                if not refreshed:
                    sys.exit(1)
                return
            seconds = interval or (config.interval_seconds if config is not None else 60.0)
            _run(agent, max(0.1, seconds), stop)
        finally:
            agent.close()


def _run(agent: Agent, interval: float, stop: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    said: dict[str, str] = {}
    while not stop.is_set():
        agent.poll()
        if dict(agent.state.words) != said:
            said = dict(agent.state.words)
            _say(agent)
        stop.wait(interval * random.uniform(1 - JITTER, 1 + JITTER))


def _say(agent: Agent) -> None:
    for product, words in sorted(agent.state.words.items()):
        click.echo(f"{product}: {words}", err=True)
    for trouble in (agent.state.repository_trouble, agent.state.server_trouble):
        if trouble:
            click.echo(trouble, err=True)


@cli.command("status")
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text")
@_home_option
@_telling_errors
def status_command(output: str, home: Path | None) -> None:
    """Say what runs, what it is doing and why, without asking anybody."""
    where = _home(home)
    identity, config = load_identity(where), read_config(where.config)
    credentials, state = load_credentials(where), StateFile(where.state).load()
    if output == "json":
        click.echo(json.dumps(status_of(identity, credentials, config, state), indent=2))
    else:
        for line in status_in_words(identity, credentials, config, state, now=datetime.now(UTC)):
            click.echo(line)


@cli.command("verify")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--path", help="The target path it should be, for example app/1.2/linux-x86_64/app.tar.gz")
@_home_option
@_telling_errors
def verify_command(file: Path | None, path: str | None, home: Path | None) -> None:
    """Say whether FILE is the artifact that the signed metadata names; without FILE, whether what runs is.

    Exit code 8 when it is not.
    """
    where = _home(home)
    identity, config = load_identity(where), read_config(where.config)
    state = StateFile(where.state).load()
    repository = build_repository(where, identity, config)
    try:
        view = repository.refresh()
        if file is not None:
            found, sha256 = verify_file(file, path, identity=identity, config=config, state=state, view=view)
            click.echo(f"{file} is {found}, SHA-256 {sha256}")
            return
        for release in verify_running(where, identity=identity, config=config, state=state, view=view):
            click.echo(f"{release.product} {release.version} is {release.path}, SHA-256 {release.sha256}")
        if not state.running:
            click.echo("nothing runs yet that a rollout installed")
    finally:
        repository.close()


def main() -> NoReturn:
    """The installed command."""
    cli(prog_name="wavegate-agent")
    raise AssertionError("click ends the process")
