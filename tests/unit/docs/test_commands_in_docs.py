"""What the prose tells people to type must exist; what it links to, too."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.invocation import Invocation

PROJECT = Path(__file__).parents[3]
PAGES = sorted(
    page
    for page in (*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"))
    if page.name != "cli.md"  # generated from the real --help, and compared with it by its own test
)
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|\()(?:umask 077; )?((?:publish|wavegate-agent) [^#\n]*)", re.MULTILINE)


def _commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in _SHELL_BLOCK.findall(page.read_text()):
            for command in _COMMAND.findall(block):
                yield str(page.relative_to(PROJECT)), re.split(r"\s(?:&|>|\|)|\)\s", command)[0].strip()


@pytest.mark.parametrize(("page", "command"), sorted(set(_commands())), ids=str)
def test_a_command_in_the_docs_exists_with_these_options(page: str, command: str) -> None:
    program, *words = shlex.split(command)
    module = importlib.import_module({"publish": "cli.main", "wavegate-agent": "agent.main"}[program])
    group = next(value for value in vars(module).values() if isinstance(value, click.Group))
    _parse(group, program, words)


def test_the_docs_show_commands() -> None:
    assert len(set(_commands())) > 50


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_page_that_is_linked_to_is_there(page: Path) -> None:
    targets = [target for target in _LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def _parse(command: click.Command, name: str, words: list[str], parent: click.Context | None = None) -> None:
    """Parse without running, so that an unknown option, a missing one or a spare argument is an error."""
    names = ["-h", "--help"]  # as `publish` has them; a command keeps those that it was first parsed with
    with click.Context(command, info_name=name, parent=parent, obj=Invocation(), help_option_names=names) as context:
        if not isinstance(command, click.Group):
            # Files named in examples are not here: their options take any path.
            files = [one for one in command.params if isinstance(one.type, click.Path | click.File)]
            types = [one.type for one in files]
            for one in files:
                one.type = click.STRING
            try:
                command.parse_args(context, list(words))
            finally:
                # Other tests of this process run the same commands.
                for one, kind in zip(files, types, strict=True):
                    one.type = kind
            return
        assert words, f"{name} needs a command"
        found = command.get_command(context, words[0])
        assert found is not None, f"{name} has no command {words[0]}"
        _parse(found, words[0], words[1:], context)
