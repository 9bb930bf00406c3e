"""What a job on GitHub gets beside the answer: outputs for its later steps, and a summary for its page."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cli.text import cell


def write_outputs(answer: Mapping[str, Any]) -> None:
    """Append the answer to the file GITHUB_OUTPUT names, if it is set: one output each, lists and numbers as JSON.

    The heredoc form with a delimiter nobody can guess: a value can then not forge another output.
    """
    path = os.environ.get("GITHUB_OUTPUT")
    if not path:
        return
    with open(path, "a", encoding="utf-8") as file:
        for name, value in answer.items():
            delimiter = f"wavegate_{secrets.token_hex(16)}"
            text = value if isinstance(value, str) else json.dumps(value)
            file.write(f"{name}<<{delimiter}\n{text}\n{delimiter}\n")


def write_summary(title: str, rows: Sequence[tuple[str, Any]]) -> None:
    """Append a heading and a table to the file GITHUB_STEP_SUMMARY names, if it is set.

    It is decoration: one that cannot be written is told, and the call that did its work does not fail for it.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    lines = [f"### {_inert(title)}", "", "| | |", "|---|---|"]
    lines += [f"| {_inert(name)} | <code>{_inert(cell(value))}</code> |" for name, value in rows]
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")
    except OSError as error:
        click.echo(f"warning: the summary {path} cannot be written: {error.strerror}", err=True)


def _inert(text: str) -> str:
    """The text as HTML that says it and nothing else: no markup, no link, no mention, no cell of its own."""
    return "".join(one if one.isalnum() or one in " .,:;/=+-()%" else f"&#{ord(one)};" for one in text)
