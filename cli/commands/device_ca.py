"""`publish device-ca`: the CA that device certificates are of, on the server's own machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.invocation import Invocation
from cli.options import output_option
from cli.text import moment, table

if TYPE_CHECKING:
    from api.device_ca import Custody
    from api.settings import Settings

_config = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML) of the home."
)


@click.group("device-ca")
def device_ca() -> None:
    """Show and rotate the CA of device certificates: one for all organisations of the home (WAVEGATE_HOME)."""


@device_ca.command()
@_config
@output_option
def show(invocation: Invocation, config: Path | None) -> None:
    """Show the CA, where its key is, and during a rotation which devices have not renewed."""
    from api.device_ca import custody_of

    _emit(invocation, _done(lambda settings, now: custody_of(settings, now=now), config))


@device_ca.command()
@click.option(
    "--key",
    metavar="ADDRESS",
    default="",
    help="Where the new CA's key is, such as hsm:2?label=ca or awskms:alias/ca. [default: a new encrypted file]",
)
@click.option(
    "--after",
    "minutes",
    type=click.IntRange(1, 43_200),
    default=10,
    show_default=True,
    metavar="MINUTES",
    help="When the new CA begins to certify devices. Every server must have read it by then.",
)
@click.option("--finish", is_flag=True, help="Leave the new CA alone.")
@click.option("--anyway", is_flag=True, help="Finish though some devices will have to enrol again.")
@_config
@output_option
def rotate(invocation: Invocation, key: str, minutes: int, finish: bool, anyway: bool, config: Path | None) -> None:
    """Put a new CA beside the one there is; with --finish, take the old one away.

    Servers that run trust both within a minute. Devices learn of the new CA when they enrol or renew, within 20 days by
    default, and go on with the old one until then. Give --finish when `publish device-ca show` names none any more.

    A key in a store is EC P-256 or P-384. The PIN of a token is read from device-ca/device-ca.pin in the home.
    """
    from api import device_ca as rotation

    if anyway and not finish:
        raise click.UsageError("--anyway goes with --finish")
    if finish:
        if key:
            raise click.UsageError("--key goes with the beginning of a rotation, not with --finish")
        _emit(invocation, _done(lambda settings, now: rotation.finish(settings, anyway=anyway, now=now), config))
        return
    after = timedelta(minutes=minutes)
    _emit(invocation, _done(lambda settings, now: rotation.rotate(settings, key=key, after=after, now=now), config))


def _emit(invocation: Invocation, custody: Custody) -> None:
    answer: dict[str, Any] = {
        "authorities": [
            {
                "sha256": one.sha256,
                "key": one.key,
                "not_after": one.not_after_text,
                "issues_from": one.issues_from_text,
                "certifies": "devices" if one is custody.issuing else None,
                "certificate": one.pem,
            }
            for one in custody.authorities
        ],
        "behind": custody.behind,
        "behind_named": list(custody.behind_named),
    }
    invocation.emit(answer, lambda: _told(answer))


def _told(answer: dict[str, Any]) -> str:
    rows = [
        (one["sha256"][:16], one["key"], moment(one["not_after"]), _when(one, answer["authorities"][-1]))
        for one in answer["authorities"]
    ]
    lines = [table(("SHA-256", "KEY", "ENDS", "CERTIFIES DEVICES"), rows)]
    if len(rows) > 1:
        named = ", ".join(answer["behind_named"])
        more = ", …" if answer["behind"] > len(answer["behind_named"]) else ""
        lines.append(
            f"Not renewed: {answer['behind']}, {named}{more}"
            if answer["behind"]
            else "All devices have renewed: publish device-ca rotate --finish"
        )
    return "\n".join(lines)


def _when(one: dict[str, Any], newest: dict[str, Any]) -> str:
    if one["certifies"]:
        return "now"
    return f"from {moment(one['issues_from'])}" if one is newest else "no more"


def _done(action: Any, config: Path | None) -> Custody:
    from api.settings import InvalidSettings, read_settings
    from api.wiring import NotInitialised

    try:
        settings: Settings = read_settings(config=config)
        done: Custody = action(settings, datetime.now(UTC))
    except (InvalidSettings, NotInitialised) as error:
        raise click.ClickException(str(error)) from error
    return done
