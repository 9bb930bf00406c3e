"""One call of `publish`: which server, as whom, and in what form the answer is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from cli.text import encode

if TYPE_CHECKING:
    from cli.client import Client

FORMS: Final = ("table", "json", "yaml")


class Invocation:
    """What the shared options of a command said. Filled by the decorators of :mod:`cli.options`.

    ``output`` is ``None`` until ``-o`` is given; then the answer is a table on a terminal and JSON elsewhere.
    """

    def __init__(self) -> None:
        self.output: str | None = None
        self.url: str | None = None
        self.profile: str | None = None
        self.api_key_file: str | None = None
        self.org: str | None = None

    @property
    def form(self) -> str:
        """One of ``table``, ``json``, ``yaml``, or what else the command takes."""
        if self.output is not None:
            return self.output
        return "table" if sys.stdout.isatty() else "json"

    @property
    def error_form(self) -> str | None:
        """``json`` or ``yaml`` when a program asked for it by name, so that errors are told in it, too."""
        return self.output if self.output in ("json", "yaml") else None

    def emit(self, answer: Any, table: str | Callable[[], str]) -> None:
        """Print the one answer of this call to stdout.

        Args:
            answer: JSON values; printed whole and unchanged as JSON or YAML.
            table: The same for a person's eyes, ready or made on demand; an empty text prints nothing.
        """
        if self.form == "table":
            text = table if isinstance(table, str) else table()
            if text:
                click.echo(text)
        else:
            click.echo(encode(answer, self.form))

    def note(self, text: str) -> None:
        """Tell a person something beside the answer; silent when nobody sits at the terminal."""
        if sys.stderr.isatty():
            click.echo(text, err=True)

    def base_url(self) -> str:
        """The server's address without a trailing slash: ``--url``, then the profile's, then this machine's default."""
        from cli.config import Config

        return Config.from_environment().base_url(self.url, self.profile)

    def client(self, *, as_person: bool = False) -> Client:
        """A client of the server in question.

        Args:
            as_person: The server takes a person's login only for what comes next, so a stored login goes
                before an API key of the environment.

        Raises:
            UsageFault: The address or the key file is unusable.
        """
        from cli.client import Client
        from cli.config import Config

        config = Config.from_environment()
        base_url = config.base_url(self.url, self.profile)
        credential = config.credential(
            base_url, api_key_file=self.api_key_file, as_person=as_person, profile=self.profile
        )
        return Client(base_url, credential, notice=self.note)

    def publishing_client(self, trusted: bool | None, products: Sequence[str]) -> Client:
        """A client for what CI jobs do: by key, else by the identity that the CI system gives the job, else by login.

        Args:
            trusted: True takes the job's identity whatever keys there are, False never, None when there is no key.
            products: What is to be published.

        Raises:
            NotLoggedIn: The job's identity is wanted and there is none.
            ApiRefusal: The server does not trust it.
        """
        from cli.ambient import Ambient, nobody_here, trade
        from cli.client import Client
        from cli.config import Config

        config = Config.from_environment()
        ambient = None if trusted is False else Ambient.found()
        if trusted and ambient is None:
            raise nobody_here()
        if ambient is None or (trusted is None and (self.api_key_file is not None or config.api_key is not None)):
            return self.client()
        base_url = config.base_url(self.url, self.profile)
        stranger = Client(base_url, None, notice=self.note)
        return Client(base_url, trade(stranger, ambient, products=products), notice=self.note)
