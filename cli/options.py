"""Options that many commands share; each decorator hands the command its :class:`Invocation` first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import click

from cli.invocation import FORMS, Invocation

Command = TypeVar("Command", bound=Callable[..., Any])

pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            setattr(ctx.ensure_object(Invocation), name, value)

    return callback


def output_option(command: Command, forms: Sequence[str] = FORMS) -> Command:
    """Add ``-o``; the command receives its :class:`Invocation` as first argument and answers by ``emit``."""
    option = click.option(
        "-o",
        "--output",
        type=click.Choice(forms),
        is_eager=True,
        expose_value=False,
        callback=_remember("output"),
        help="Form of the answer. [default: table on a terminal, else json]",
    )
    return option(pass_invocation(command))  # type: ignore[return-value]


def organisation_option(command: Command) -> Command:
    """Add ``--org`` to what works on a home itself; the :class:`Invocation` has it as ``org``."""
    option = click.option(
        "--org",
        metavar="SLUG",
        expose_value=False,
        callback=_remember("org"),
        help="Which organisation of the home. [default: the only one]",
    )
    return option(command)


@overload
def server_options(command: Command) -> Command: ...


@overload
def server_options(*, forms: Sequence[str]) -> Callable[[Command], Command]: ...


def server_options(command: Any = None, *, forms: Sequence[str] = FORMS) -> Any:
    """Add ``-o`` (with other ``forms``, as ``@server_options(forms=…)``) and what says which server and as whom."""
    if command is None:
        return lambda later: _server_options(later, forms)
    return _server_options(command, forms)


def _server_options(command: Command, forms: Sequence[str]) -> Command:
    decorated: Any = output_option(command, forms)
    decorated = click.option(
        "--api-key-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        envvar="WAVEGATE_API_KEY_FILE",
        expose_value=False,
        callback=_remember("api_key_file"),
        help="Read the API key from this file, or - for stdin. [default: WAVEGATE_API_KEY, then the stored login]",
    )(decorated)
    decorated = click.option(
        "--profile",
        metavar="NAME",
        envvar="WAVEGATE_PROFILE",
        expose_value=False,
        callback=_remember("profile"),
        help="Server remembered under this name by login. [default: default]",
    )(decorated)
    return click.option(  # type: ignore[no-any-return]
        "--url",
        metavar="URL",
        envvar="WAVEGATE_URL",
        expose_value=False,
        callback=_remember("url"),
        help="Address of the server. [default: WAVEGATE_URL, then the profile's]",
    )(decorated)


def list_options(command: Command) -> Command:
    """Add ``--limit``, passed on as ``limit``: an int, or ``None`` for everything."""
    return click.option(
        "--limit",
        type=click.IntRange(min=0),
        default=100,
        show_default=True,
        callback=lambda _ctx, _parameter, value: value or None,
        help="Show at most this many; 0 shows everything.",
    )(command)


def pairs(_ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Callback that turns repeated ``KEY=VALUE`` into a mapping; a repeated key is a usage error."""
    found: dict[str, str] = {}
    for text in value:
        key, equals, content = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param=parameter)
        if key in found:
            raise click.BadParameter(f"{key!r} is given twice", param=parameter)
        found[key] = content
    return found


def own_key_options(command: Command) -> Command:
    """``--key`` and ``--passphrase-file``, for artifacts of products that their teams have claimed."""
    file = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
    passphrase = click.option(
        "--passphrase-file", type=file, help="Opens the key. [default: the file passphrase beside it]"
    )
    key = click.option(
        "--key", "keys", multiple=True, metavar="URI", help="Sign it yourself, as claimed products are; repeat."
    )
    return key(passphrase(command))
