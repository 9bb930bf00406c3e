"""`publish repo`: the signed repository."""

from __future__ import annotations

from typing import Any

import click

from cli.commands import repo_home, repo_life
from cli.commands.repo_drafts import draft, key, rotate, sign
from cli.commands.repo_nginx import nginx
from cli.commands.repo_rebin import rebin
from cli.invocation import Invocation
from cli.options import server_options
from cli.text import fields, moment, table, visible

_DAY = 86_400  # seconds
_HOUR = 3_600  # seconds


@click.group()
def repo() -> None:
    """Look after the signed repository."""


@repo.command()
@server_options
def status(invocation: Invocation) -> None:
    """Show the serial, the roles and when each expires, what waits for signatures, and the overlap of a rotation."""
    told = invocation.client().get("/repository")

    def table_() -> str:
        head = fields(
            [
                ("organisation", told["org"]),
                ("serial", told["serial"]),
                ("recorded up to", told["projected_serial"]),
                ("artifacts", told["artifacts"]),
                ("root", f"version {told['root_version']}, sha256 {told['root_sha256']}"),
                ("metadata", told["metadata_url"]),
                ("targets", told["targets_url"]),
                ("overlap", _overlap(told.get("overlap"))),
            ]
        )
        roles = [
            (
                role["name"],
                role["version"],
                role["targets"],
                moment(role["expires"]),
                _left(role["expires_in_seconds"]),
                role["outlook"],
            )
            for role in told["roles"]
        ]
        waiting = [
            (
                draft["id"],
                draft["title"],
                ", ".join(f"{one['role']} {one['have']}/{one['need']} ({one['by']})" for one in draft["signatures"]),
                moment(draft["deadline"]),
            )
            for draft in told.get("drafts", ())
        ]
        waits = "\n\n" + table(("waits", "title", "signatures", "until"), waiting) if waiting else ""
        warned = "".join(f"warning: {visible(line)}\n" for line in told["warnings"])
        return (
            f"{warned}{head}\n\n" + table(("role", "version", "targets", "expires", "left", "outlook"), roles) + waits
        )

    invocation.emit(told, table_)


@repo.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended: orphans, missing rows, left-over files.")
@server_options
def check(invocation: Invocation, repair: bool) -> int:
    """Compare what is signed, what is stored and what is recorded. Exit 8 when they do not agree."""
    from cli.errors import UNVERIFIED

    told: dict[str, Any] = invocation.client().post("/repository/check", {"repair": repair})
    invocation.emit(
        told,
        lambda: table(
            ("kind", "what", "repaired"),
            [(finding["kind"], finding["what"], finding["repaired"]) for finding in told["findings"]],
            empty="all is well: signed, stored and recorded agree",
        ),
    )
    return 0 if told["ok"] else UNVERIFIED


@repo.command()
@click.option(
    "--accept-clock",
    is_flag=True,
    help="You looked: the server's clock is right, though behind the last commit or months after it.",
)
@server_options
def refresh(invocation: Invocation, accept_clock: bool) -> None:
    """Sign again what would expire soon. The server does this by itself; after a long sleep you need not wait."""
    told = invocation.client().post("/repository/refresh", {"accept_clock": True} if accept_clock else {})
    invocation.emit(
        told,
        lambda: f"serial {told['serial']}, signed again: {', '.join(told['roles']) or 'nothing was due'}",
    )


def _overlap(told: dict[str, Any] | None) -> str | None:
    if told is None:
        return None
    roles, until = ", ".join(told["keyids"]), moment(told["ends_from"])
    return f"old keys of {roles} still sign; `publish repo rotate --finish` from {until}"


for _command in (rebin, draft, sign, rotate, key):
    repo.add_command(_command)


def _left(seconds: int) -> str:
    if seconds <= 0:
        return "expired"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // 60} min"
    return f"{seconds // _DAY} d"


for _command in (
    repo_life.gc,
    repo_life.bundle,
    repo_home.sync,
    nginx,
    repo_home.backup,
    repo_home.restore,
    repo_home.rebuild_db,
):
    repo.add_command(_command)
