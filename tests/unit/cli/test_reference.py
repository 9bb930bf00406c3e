"""The reference, the catalogue and the completion scripts say what the commands are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli.catalog import COMMANDS
from cli.main import publish
from cli.reference import commands, reference
from tests.unit.cli.conftest import Publish

ROOT = Path(__file__).parents[3]


def test_the_written_reference_is_what_help_says() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run: .venv/bin/python -m cli.reference > docs/cli.md"


def test_every_command_of_the_catalogue_is_there_under_its_name() -> None:
    context = click.Context(publish)
    found = {name: publish.get_command(context, name) for name in COMMANDS}
    assert {name: command.name for name, command in found.items() if command is not None} == {
        name: name for name in COMMANDS
    }


def test_every_option_says_what_it_does() -> None:
    silent = [
        f"{' '.join(path)} {parameter.opts[0]}"
        for path, command in commands()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert silent == []


def test_every_command_takes_minus_o_except_those_whose_answer_is_no_data() -> None:
    without = [
        " ".join(path)
        for path, command in commands()
        if not isinstance(command, click.Group) and not any("-o" in parameter.opts for parameter in command.params)
    ]
    assert without == [
        "publish serve",
        "publish demo",
        "publish repo nginx",
        "publish signer serve",
        "publish completion",
    ]


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o nosort"), ("zsh", "#compdef publish"), ("fish", "complete --no-files")]
)
def test_a_shell_gets_its_completion_script(publish: Publish, shell: str, sign: str) -> None:
    done = publish("completion", shell)
    assert done.code == 0
    assert sign in done.out
    assert "_PUBLISH_COMPLETE" in done.out


def test_the_shell_is_told_the_commands_without_importing_them() -> None:
    script = (
        "import sys; from cli.main import run\n"
        "try: run([])\n"
        "finally: print([name for name in sys.modules if name.startswith('cli.commands.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "_PUBLISH_COMPLETE": "bash_complete", "COMP_WORDS": "publish r", "COMP_CWORD": "1"},
        check=True,
    )
    assert done.stdout.splitlines() == ["plain,register", "plain,rollout", "plain,repo", "[]"]
