"""Entry point of `publish`.

Nothing here may import more than click: ``publish --help`` is shown from the table in :mod:`cli.catalog`, and a
command's module is imported when that command is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from cli.catalog import COMMANDS
from cli.invocation import Invocation

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class CatalogGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(name, help=entry.summary) for name, entry in COMMANDS.items() if name.startswith(incomplete)
        ]
        return names or click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=CatalogGroup,
    name="publish",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="wavegate", prog_name="publish")
def publish() -> None:
    """Publish signed artifacts and carry them to a fleet, wave by wave.

    Commands that talk to a server find it by --url, WAVEGATE_URL or the stored login, and prove who you are by
    --api-key-file, WAVEGATE_API_KEY or the stored login.

    Exit codes: 0 ok, 1 failure, 2 usage, 3 not authenticated, 4 missing permission, 5 not found or conflict,
    6 rollout paused or aborted while waiting, 7 timeout while waiting, 8 verification failed.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `publish` and end the process with the exit code that ``interfaces.md`` promises.

    Args:
        arguments: What follows the command's name; ``None`` takes the process's own.
    """
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run `publish` and return its exit code; the outermost frame, so every error is told here."""
    invocation = Invocation()
    try:
        result = publish.main(list(arguments), prog_name="publish", standalone_mode=False, obj=invocation)
    except click.ClickException as error:
        from cli.errors import CliError, UsageFault, tell

        if not isinstance(error, click.UsageError):
            return tell(CliError(error.format_message()), invocation.error_form)
        if invocation.error_form:
            return tell(UsageFault(error.format_message()), invocation.error_form)
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost frame
        from cli.errors import tell

        return tell(error, invocation.error_form)
    return result if isinstance(result, int) else 0
