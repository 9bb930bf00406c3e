"""The reference of all commands, made from their ``--help``: ``python -m cli.reference > docs/cli.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from cli.main import publish

_WIDTH: Final = 100  # columns, whatever terminal it is made on

_PREFACE: Final = """\
# `publish`, command by command

Made from `publish … --help` by `python -m cli.reference > docs/cli.md`; a test compares the two.

Nouns with verbs, one main verb: `push`. The answer goes to stdout: a table on a terminal, JSON elsewhere, or what `-o`
says. Everything else (progress, warnings, errors) goes to stderr. Nothing is asked unless a person sits at a terminal.

| exit code | means |
|---|---|
| 0 | ok |
| 1 | failure |
| 2 | the call itself is wrong |
| 3 | not authenticated |
| 4 | missing permission |
| 5 | not found, or in conflict with what is there |
| 6 | rollout paused, aborted or superseded while waiting |
| 7 | timeout while waiting |
| 8 | verification failed |

Errors are told as `error: …` and, where there is a next step, `hint: …`; with `-o json` or `-o yaml` as the API's
object `{"error": {"code", "message", …}}`.

| variable | means |
|---|---|
| `WAVEGATE_URL` | address of the server, like `--url` |
| `WAVEGATE_API_KEY` | API key; what only a person may do prefers the stored login |
| `WAVEGATE_API_KEY_FILE` | file with the API key, like `--api-key-file` |
| `WAVEGATE_PROFILE` | name of a remembered server, like `--profile` |
| `WAVEGATE_CONFIG_DIR` | folder of `config.toml` and `credentials`, instead of the platform's (`~/.config/wavegate`) |
| `WAVEGATE_ROOT` | root.json that `artifact verify` trusts, like `--root` |
| `GITHUB_OUTPUT` | set in a GitHub job: `push`, `push-batch` and `rollout create` write their answer there, too |
| `GITHUB_STEP_SUMMARY` | set in a GitHub job: the same commands write a table for the job's page there |
| `NO_COLOR` | no colours |
| `WAVEGATE_DEBUG` | show where an error nobody foresaw came from |
"""


def reference() -> str:
    """The whole page; importing every command, so it is for tests and tools only."""
    sections = [_PREFACE]
    for path, command in commands():
        context = click.Context(
            command,
            info_name=" ".join(path),
            terminal_width=_WIDTH,
            max_content_width=_WIDTH,
            help_option_names=["-h", "--help"],
        )
        sections.append(f"## `{' '.join(path)}`\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(sections)


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it, in the order of ``publish --help``."""

    def below(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from below((*path, name), inner)

    yield from below(("publish",), publish)


if __name__ == "__main__":
    click.echo(reference(), nl=False)
