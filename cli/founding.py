"""What `publish init` and `publish org create` ask in the same words: how an organisation's repository is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from api.organisations import Holders

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--layout",
        type=click.Choice(["bins", "paths"]),
        default="bins",
        show_default=True,
        help="paths: a role per product, for TUF clients without succinct roles (tough); it cannot be changed later.",
    ),
    click.option(
        "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML)."
    ),
    click.option(
        "--production", is_flag=True, help="Keep the keys of root and targets elsewhere; they are never here."
    ),
    click.option("--root-key", "root_keys", multiple=True, metavar="FILE", help="A holder's .pub file; repeat."),
    click.option(
        "--root-threshold", type=click.IntRange(min=1), default=2, show_default=True, help="How many sign root."
    ),
    click.option(
        "--targets-key", "targets_keys", multiple=True, metavar="FILE", help="Same for targets. [default: root's]"
    ),
    click.option(
        "--targets-threshold", type=click.IntRange(min=1), default=2, show_default=True, help="Same for targets."
    ),
)


def founding_options(command: Command) -> Command:
    """Add ``--layout``, ``--config``, ``--production`` and what says whose keys root and targets get."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def holders_of(
    production: bool, root: tuple[tuple[str, ...], int], targets: tuple[tuple[str, ...], int]
) -> Holders | None:
    """Key files and threshold of each role as :class:`Holders`; None without ``--production``. Raises UsageFault."""
    from api.organisations import Holders
    from cli.errors import UsageFault
    from keys.holders import public_key

    if not production:
        if root[0] or targets[0]:
            raise UsageFault("--root-key and --targets-key go with --production")
        return None
    if not root[0]:
        raise UsageFault(
            "--production holds no key of root and targets: name those of their holders by --root-key, 3 of them for "
            "the default threshold of 2",
            hint="each holder makes one with `publish repo key new --out FOLDER`",
        )
    named = {"root": root[0], "targets": targets[0] or root[0]}
    keys = {role: [public_key(one) for one in files] for role, files in named.items()}
    return Holders(keys=keys, thresholds={"root": root[1], "targets": targets[1]})
