"""What messages, hints and helps tell people to type must exist, with the options they name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import publish

PROJECT = Path(__file__).parents[3]
ROOMS = ("agent", "api", "cli", "evidence", "fleet", "keys", "repo_signing", "rollout", "sbom", "store")
_NAMED = re.compile(r"`publish ([^`]+)`")
_WORD = re.compile(r"[a-z][a-z-]*")
_OPTION = re.compile(r"--[a-z][a-z-]*")


def _texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a module, those put together with ``f"…"`` with an X for each value."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def _named() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for file in sorted((PROJECT / room).rglob("*.py")):
            for text in _texts(ast.parse(file.read_text("utf-8"))):
                for command in _NAMED.findall(text):
                    yield str(file.relative_to(PROJECT)), " ".join(command.split())


def _fault(named: str) -> str | None:
    command: click.Command = publish
    context = click.Context(publish, info_name="publish")
    words = named.split()
    while words and isinstance(command, click.Group):
        if not _WORD.fullmatch(words[0]):
            return None  # the noun alone is named, such as in `publish rollout …`, or the verb is a value
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]}"
        words.pop(0)
        command, context = found, click.Context(found, parent=context)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = sorted(set(_OPTION.findall(" ".join(words))) - {*known, "--help"})
    return f"no option {', '.join(unknown)}" if unknown else None


def test_every_command_that_a_message_names_exists_with_its_options() -> None:
    named = sorted(set(_named()))
    assert len(named) > 100
    assert [(file, command, fault) for file, command in named if (fault := _fault(command))] == []


@pytest.mark.parametrize(
    ("named", "fault"),
    [
        ("rollout approve X --wave 2", None),
        ("rollout …", None),
        ("rollout bless", "no command bless"),
        ("bless", "no command bless"),
        ("rollout approve X --gently", "no option --gently"),
    ],
)
def test_a_command_that_is_none_is_noticed(named: str, fault: str | None) -> None:
    assert _fault(named) == fault
