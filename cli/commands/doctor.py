"""`publish doctor`: is all well with a server, and what is to be done."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.invocation import Invocation
from cli.options import server_options
from cli.text import styled, visible

if TYPE_CHECKING:
    from api.doctor.model import Check

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "bright_black"}


@click.command()
@click.option("--remote", is_flag=True, help="Ask the server of --url over the network; look at no home.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML) of the home."
)
@server_options
def doctor(invocation: Invocation, remote: bool, config: Path | None) -> int:
    """Look at the home (WAVEGATE_HOME), its server and what they need, and say what to do. Exit 1 when something fails.

    On the server's machine, as the server's user and with its settings; the server may run or not. Nothing is changed.
    With --remote from anywhere: what can be seen with an API key, and what could not be looked at.
    """
    from api.doctor.examine import is_well

    checks = _remote(invocation) if remote else _local(config)
    well = is_well(checks)
    invocation.emit(
        {
            "ok": well,
            "checks": [
                {"name": one.name, "level": one.level.value, "found": one.found, "todo": one.todo or None}
                for one in checks
            ],
        },
        lambda: _told(checks),
    )
    return 0 if well else 1


def _local(config: Path | None) -> list[Check]:
    from api.doctor.examine import examine
    from api.doctor.model import fail
    from api.settings import InvalidSettings, read_settings

    try:
        settings = read_settings(config=config)
    except InvalidSettings as error:
        return [fail("settings", str(error), "mend it; docs/reference.md has every setting")]
    return examine(settings, datetime.now(UTC))


def _remote(invocation: Invocation) -> list[Check]:
    from api.doctor.network import asking, remote
    from cli.config import Config

    url = invocation.base_url()
    credential = Config.from_environment().credential(url, api_key_file=invocation.api_key_file, as_person=False)
    bearer = "" if credential is None else credential.token
    return list(remote(asking(url, bearer), url, datetime.now(UTC), with_key=credential is not None))


def _told(checks: Iterable[Check]) -> str:
    lines = []
    for one in checks:
        lines.append(
            f"{styled(one.level.value.ljust(8), fg=_COLOURS[one.level.value])}{one.name}: {visible(one.found)}"
        )
        if one.todo:
            lines.append(f"        -> {visible(one.todo)}")
    return "\n".join(lines)
