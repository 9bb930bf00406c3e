"""`publish device import` and `export`: devices as CSV, and the filters of every list of devices."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final, TypeVar

import click

from cli.commands.device_codes import KeptFile
from cli.errors import UsageFault
from cli.invocation import Invocation
from cli.options import server_options
from cli.text import table

_STATUSES: Final = ("pending", "active", "revoked")
_SORTS: Final = ("created_at", "-created_at", "name", "-name")
_MAX_BYTES: Final = 8 * 1024**2  # what the server takes; more is not sent

Command = TypeVar("Command", bound=Callable[..., Any])


def filter_options(command: Command) -> Command:
    """What a list of devices is narrowed to, and its order; the command gets each as the API names it."""
    for option in reversed(
        (
            click.option("--status", type=click.Choice(_STATUSES), help="Only devices with this status."),
            click.option("--online/--offline", default=None, help="Only those that called lately, or did not."),
            click.option("--search", "q", metavar="WORDS", help="Only with these in name, host name or labels."),
            click.option("--platform", metavar="NAME", help="Only this platform's."),
            click.option("--os-family", metavar="NAME", help="Only of this family, for example linux."),
            click.option("--os-name", metavar="TEXT", help="Only with this in the system's name."),
            click.option("--group", metavar="NAME", help="Only this group's."),
            click.option("--name", metavar="TEXT", help="Only devices with this in their name."),
            click.option("--label", metavar="NAME=VALUE", help="Only devices with this label."),
            click.option("--sort", type=click.Choice(_SORTS), help="Order. [default: created_at]"),
        )
    ):
        command = option(command)
    return command


@click.command("export")
@filter_options
@server_options(forms=("csv",))
def export(invocation: Invocation, **wanted: str | bool | None) -> None:
    """Write the devices as CSV to stdout, whole.

    `publish device import` takes it back: `name`, `platform`, `groups` and `labels` are what it reads. A cell that a
    spreadsheet would calculate has an apostrophe before it.
    """
    for chunk in invocation.client().stream("/devices", format="csv", **wanted):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


@click.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--update", is_flag=True, help="Give devices that are there the groups and labels of their line.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--codes-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write name and code of the devices made into this new CSV, mode 0600, and print no code.",
)
@server_options
def import_(invocation: Invocation, file: BinaryIO, update: bool, dry_run: bool, codes_file: str | None) -> None:
    """Make the devices of FILE, a CSV (- for stdin), each with a code good once for 30 days: all of them or none.

    Columns: `name`, and where wanted `platform`, `groups` and `labels`, several between semicolons (canary;berlin,
    site=berlin;rack=7). Those that an export has besides are passed over. With --update an empty cell takes all groups
    or labels away, and a column that is missing leaves them.
    """
    content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise UsageFault(f"the file has more than {_MAX_BYTES} bytes; cut it into several")

    def ask() -> dict[str, Any]:
        told: dict[str, Any] = invocation.client().post_bytes(
            "/devices/import",
            content,
            content_type="text/csv",
            existing="update" if update else "refuse",
            dry_run=dry_run,
        )
        return told

    if codes_file is None or dry_run:
        done = ask()
        shown = done
    else:
        with KeptFile(codes_file) as kept:
            done = ask()
            kept.write(_codes(done))
        shown = {**done, "codes": None}
    invocation.emit(shown, lambda: _describe(done, codes_file))


def _codes(done: dict[str, Any]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows([("name", "code"), *(done["codes"] or {}).items()])
    return written.getvalue()


def _describe(done: dict[str, Any], codes_file: str | None) -> str:
    codes: dict[str, str] = done["codes"] or {}
    shows_codes = codes_file is None and bool(codes)
    rows: Sequence[tuple[Any, ...]] = [
        (one["line"], one["name"], one["outcome"], one["id"], *((codes.get(one["name"], ""),) if shows_codes else ()))
        for one in done["items"]
    ]
    head = ("line", "name", "outcome", "id", *(("code",) if shows_codes else ()))
    would = "would be " if done["dry_run"] else ""
    counts = f"{done['created']} {would}created, {done['updated']} {would}updated, {done['unchanged']} unchanged"
    if done["created"] and not done["dry_run"]:
        if done["codes"] is None:
            kept = "The answer with the codes got lost; make new ones with `publish device code`."
        else:
            kept = "The codes are shown this once." if shows_codes else f"The codes are in {codes_file}."
        counts = f"{counts}\n{kept}"
    return f"{table(head, rows, empty='')}\n{counts}"
