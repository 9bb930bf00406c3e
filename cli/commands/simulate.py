"""`publish simulate`: a fleet of simulated devices against a server."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from cli.client import segment
from cli.errors import SimulationFailed, UsageFault
from cli.invocation import Invocation
from cli.options import server_options
from cli.plan import span
from cli.text import fields

PROFILES: Final = ("ok", "slow", "failing", "flapping", "wrong-clock", "silent")
FLEET: Final = ("-P", "-c", "from wavegate_launcher import simulated_fleet; simulated_fleet()")
_SEEDS: Final = 1_000_000
_TOKEN_HOURS: Final = 24


def _percents(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    percents: dict[str, int] = {}
    for text in given:
        name, _, percent = text.partition("=")
        if name not in PROFILES or not (percent.isascii() and percent.isdecimal()):
            raise click.BadParameter(f"{text!r} is not NAME=PERCENT with one of {', '.join(PROFILES)}")
        if name in percents:
            raise click.BadParameter(f"{name} is given twice")
        percents[name] = int(percent)
    if sum(percents.values()) > 100:
        raise click.BadParameter(f"{sum(percents.values())} percent; all profiles together have at most 100")
    return percents


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    seconds = span(text)
    if not seconds:
        raise click.BadParameter("0 is no span; the shortest is 1s")
    return seconds


@click.command()
@click.option("--devices", type=click.IntRange(1, 100_000), default=24, show_default=True, help="How many.")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Put them into this group; repeat.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Enrol by the token in this file. [default: by one made for this, which takes a login]",
)
@click.option(
    "--behave",
    "profiles",
    multiple=True,
    metavar="NAME=PERCENT",
    callback=_percents,
    help=f"How so many percent of them behave: {', '.join(PROFILES)}; repeat. [default: the rest is ok]",
)
@click.option("--duration", default="10m", show_default=True, callback=_seconds, help="How long they run.")
@click.option("--interval", default="1m", show_default=True, callback=_seconds, help="Between two polls of a device.")
@click.option("--seed", type=click.IntRange(0, _SEEDS), help="Draw names and behaviour from it. [default: at random]")
@click.option("--product", "products", multiple=True, metavar="NAME", help="Have them follow only this; repeat.")
@click.option("--platform", default="linux-x86_64", show_default=True, help="Theirs, as artifacts name it.")
@click.option("--allow-http", is_flag=True, help="Enrol over plain http with another host than this one.")
@click.option("--keep", is_flag=True, help="Keep the folder with their homes, for `wavegate-agent status --home`.")
@click.option("--delete", is_flag=True, help="Delete the devices from the server at the end.")
@server_options
def simulate(
    invocation: Invocation,
    devices: int,
    groups: tuple[str, ...],
    token_file: Path | None,
    profiles: dict[str, int],
    duration: int,
    interval: int,
    seed: int | None,
    products: tuple[str, ...],
    platform: str,
    allow_http: bool,
    keep: bool,
    delete: bool,
) -> int:
    """Run a fleet of simulated devices against a server, for demos and load.

    Each is the real agent with a key, a certificate and a TUF cache of its own, named sim-SEED-NUMBER; only its
    installs go to nowhere. Progress goes to stderr; Ctrl-C ends it early, and cleanly. Exit code 1 when something went
    wrong that no behaviour explains.
    """
    if token_file is not None and groups:
        raise UsageFault("a token puts devices into its own groups", hint="give --group or --token-file, not both")
    seed = random.randrange(_SEEDS) if seed is None else seed
    with _homes(keep) as folder:
        with _token(invocation, token_file, groups, devices, seed) as token:
            order = {
                "url": invocation.base_url(),
                "token": token,
                "folder": str(folder),
                "devices": devices,
                "duration": duration,
                "interval": interval,
                "seed": seed,
                "products": products,
                "platform": platform,
                "profiles": profiles,
                "allow_http": allow_http,
                "keep": keep,
            }
            told = _run(order)
        ids = told.pop("ids")
        told |= {"seed": seed, "homes": str(folder) if keep else None, "deleted": 0}
        try:
            for one in _deleted(invocation, ids) if delete else ():
                told["deleted"] += one
        finally:  # a server that lets nothing be deleted takes no numbers away
            invocation.emit(told, lambda: _described(told))
    return 1 if told["errors"] else 0


@contextmanager
def _homes(keep: bool) -> Iterator[Path]:
    """A folder for the devices; it is removed in whole whatever ends us, so long as that can be heard."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="wavegate-simulate-"))
    try:
        yield folder
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _token(
    invocation: Invocation, file: Path | None, groups: tuple[str, ...], devices: int, seed: int
) -> Iterator[str]:
    """The token to enrol by; one made for this is gone afterwards."""
    if file is not None:
        yield file.read_text().strip()
        return
    client = invocation.client(as_person=True)
    asked = {"name": f"simulate-{seed}", "groups": list(groups), "labels": {}, "max_uses": devices}
    made = client.post("/enroll-tokens", {**asked, "expires_in_hours": _TOKEN_HOURS})
    try:
        yield made["token"]
    finally:
        client.delete(f"/enroll-tokens/{segment(made['id'])}")


def _run(order: dict[str, Any]) -> dict[str, Any]:
    """Have the fleet run in a process of its own: the agent is another room, and its load is not ours.

    Raises:
        SimulationFailed: It says why there is no summary.
    """
    # A session of its own, so that a Ctrl-C reaches us alone: the fleet ends when its stdin does, whatever ends us.
    with (
        subprocess.Popen(
            [sys.executable, *FLEET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as process,
        _ending(process),
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        text = process.stdout.read()
    if process.returncode < 0 or not text:
        raise SimulationFailed(f"the process of the fleet ended with {process.returncode}; nothing is known of it")
    told: dict[str, Any] = json.loads(text)
    if "error" in told:
        raise SimulationFailed(f"the simulation ended: {told['error']['message']}")
    return told


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ctrl-C and a plain kill ask the fleet to end, and its summary is still read; a second one ends it at once."""
    asked = 0

    def end(_number: int, _frame: object) -> None:
        nonlocal asked
        asked += 1
        if asked > 1 or process.stdin is None:
            process.kill()
            return
        click.echo("ending; once more to end at once", err=True)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _deleted(invocation: Invocation, ids: list[str]) -> Iterator[int]:
    """Delete the devices; a 1 for each that is."""
    client = invocation.client(as_person=True)
    for one in ids:
        client.delete(f"/devices/{segment(one)}")
        yield 1


def _described(told: dict[str, Any]) -> str:
    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"

    def timed(count: int, took: dict[str, float | None]) -> str:
        return f"{count}, p50 {took['p50']} ms, p99 {took['p99']} ms" if count else "none was due"

    return fields(
        [
            ("seed", told["seed"]),
            ("devices", f"{told['enrolled']} of {told['devices']} enrolled: {listed(told['profiles'])}"),
            ("ran for", f"{told['seconds']} s, {told['polls']} polls, at most {told['behind_seconds']} s behind"),
            ("arrivals", timed(told["arrivals"], told["arrival_ms"])),
            ("check-ins", timed(told["check_ins"], told["check_in_ms"])),
            ("reports", f"{told['reports']}, {told['reports_refused']} refused"),
            ("installs", listed(told["installs"])),
            ("failures", listed(told["failures"])),
            ("errors", listed(told["errors"])),
            ("homes", told["homes"] or "removed"),
            ("deleted", told["deleted"]),
        ]
    )
