"""Passwords from a file, from stdin or asked for at a terminal; never from the command line, where others see them."""

from __future__ import annotations

import sys
from typing import Final

import click

_MAX_PASSWORD: Final = 4096  # characters; more is some other file


def given_password(file: str | None, stdin: bool) -> str:
    """The password from the file, from stdin, or asked for; raises UsageFault when nobody can be asked."""
    from cli.errors import UsageFault

    if file is not None and stdin:
        raise UsageFault("--password-file and --password-stdin exclude each other")
    if file is not None:
        return read_password(file)
    if stdin:
        return _first_line(sys.stdin.read(_MAX_PASSWORD), "stdin")
    return ask("Password", "--password-file or --password-stdin", hide=True)


def ask(question: str, instead: str, *, hide: bool = False, twice: bool = False) -> str:
    """Ask at the terminal; raises UsageFault that names ``instead`` when nobody sits there."""
    from cli.errors import UsageFault

    if not sys.stdin.isatty():
        raise UsageFault(
            f"{question.lower()} is missing, and nobody sits at a terminal to be asked", hint=f"use {instead}"
        )
    answer: str = click.prompt(question, hide_input=hide, confirmation_prompt=twice, err=True)
    return answer


def read_password(path: str) -> str:
    """The first line of a file; raises UsageFault when it is empty."""
    with open(path, encoding="utf-8") as file:
        return _first_line(file.read(_MAX_PASSWORD), path)


def _first_line(text: str, origin: str) -> str:
    from cli.errors import UsageFault

    password = text.split("\n", 1)[0].rstrip("\r")
    if not password:
        raise UsageFault(f"{origin} holds no password")
    return password
