"""`publish profile`: servers and persons remembered by name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from cli.invocation import Invocation
from cli.options import output_option
from cli.text import moment, table


@click.group()
def profile() -> None:
    """Servers and persons by name. `publish login --profile NAME --url URL` makes one."""


@profile.command("list")
@output_option
def list_(invocation: Invocation) -> None:
    """List the profiles, and who is logged in where."""
    from cli.config import Config

    config = Config.from_environment()
    current = config.profile_name(None)
    items: list[dict[str, Any]] = []
    for name, one in sorted(config.profiles().items()):
        login = config.login(one.url.rstrip("/"), name)
        live = login is not None and not login.is_expired(datetime.now(UTC))
        items.append(
            {
                "name": name,
                "url": one.url,
                "email": one.email,
                "current": name == current,
                "logged_in_until": login.expires_at if login is not None and live else None,
            }
        )
    invocation.emit(
        {"items": items},
        lambda: table(
            ("", "name", "server", "person", "logged in until"),
            [
                ("*" if item["current"] else "", item["name"], item["url"], item["email"], _until(item))
                for item in items
            ],
            empty="there is no profile; `publish login` makes one",
        ),
    )


@profile.command()
@click.argument("name")
@output_option
def use(invocation: Invocation, name: str) -> None:
    """Use this profile wherever none is named."""
    from cli.config import Config

    chosen = Config.from_environment().use(name)
    invocation.emit({"name": name, "url": chosen.url, "email": chosen.email}, f"{name} is {chosen.url} from now on")


@profile.command()
@click.argument("name")
@output_option
def remove(invocation: Invocation, name: str) -> None:
    """Forget a profile with its login. The login ends at the server by itself; `publish logout` ends it at once."""
    from cli.config import Config

    gone = Config.from_environment().remove(name)
    invocation.emit({"name": name, "url": gone.url, "removed": True}, f"forgot {name}, {gone.url}")


def _until(item: dict[str, Any]) -> str:
    return moment(item["logged_in_until"]) if item["logged_in_until"] else "-"
