"""`publish artifact`: what is published, and whether it is what was signed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.attestation_words import attestation_in_words
from cli.commands.artifact_verify import verify
from cli.invocation import Invocation
from cli.lookup import find_artifact
from cli.options import list_options, own_key_options, pairs, server_options
from cli.text import fields, moment, size, table

_STATES = ("published", "yanked", "withdrawn", "revoked")
_SORTS = ("-created_at", "created_at", "product", "-product")


@click.group()
def artifact() -> None:
    """List, show, verify, amend, yank, withdraw and revoke artifacts.

    Where a command takes ARTIFACT, give its id (art_…) or its target path (product/version/platform/file).
    """


@artifact.command("list")
@click.option("--product", metavar="NAME", help="Only this product's.")
@click.option("--version", metavar="V", help="Only this version's.")
@click.option("--platform", metavar="NAME", help="Only this platform's.")
@click.option("--channel", metavar="NAME", help="Only this channel's.")
@click.option("--state", type=click.Choice(_STATES), help="Only artifacts in this state.")
@click.option("--sort", type=click.Choice(_SORTS), help="Order. [default: -created_at, newest first]")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None, **wanted: str | None) -> None:
    """List what is published."""
    items = list(invocation.client().items("/artifacts", limit=limit, **wanted))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("id", "target path", "channel", "length", "sboms", "created", "state"),
            [
                (
                    item["id"],
                    item["target_path"],
                    item["channel"],
                    size(item["length"]),
                    len(item["sboms"]),
                    moment(item["created_at"]),
                    state_of(item),
                )
                for item in items
            ],
            empty="nothing is published yet",
        ),
    )


@artifact.command()
@click.argument("artifact_", metavar="ARTIFACT")
@server_options
def show(invocation: Invocation, artifact_: str) -> None:
    """Show one artifact with everything that is signed of it."""
    found = find_artifact(invocation.client(), artifact_)
    invocation.emit(found, lambda: _describe(found))


@artifact.command()
@click.argument("artifact_", metavar="ARTIFACT")
@click.option("--note", metavar="TEXT", help="Replace the note.")
@click.option("--label", "labels", multiple=True, callback=pairs, metavar="KEY=VALUE", help="Set a label; repeat.")
@click.option("--remove-label", "removed", multiple=True, metavar="KEY", help="Take a label away; repeat.")
@own_key_options
@server_options
def patch(
    invocation: Invocation,
    artifact_: str,
    note: str | None,
    labels: dict[str, str],
    removed: tuple[str, ...],
    keys: tuple[str, ...],
    passphrase_file: Path | None,
) -> int:
    """Change the note or the labels. The bytes of an artifact never change.

    Of a product that its team has claimed the change takes --key; while signatures are missing it waits as a draft, and
    the command ends with 7.
    """
    from cli.errors import UsageFault
    from cli.own_keys import finish_change

    if note is None and not labels and not removed:
        raise UsageFault("nothing to change", hint="give --note, --label or --remove-label")
    client = invocation.client()
    found = find_artifact(client, artifact_)
    # Labels are written as a whole, so the reading they are made from must still hold when they are written.
    current = client.get_tagged(f"/artifacts/{found['id']}")
    body: dict[str, Any] = {} if note is None else {"notes": note}
    if labels or removed:
        kept = {key: value for key, value in current.told["labels"].items() if key not in removed}
        body["labels"] = {**kept, **labels}
    changed = client.patch(f"/artifacts/{found['id']}", body, etag=current.etag)
    return finish_change(invocation, client, changed, (keys, passphrase_file), _describe)


@artifact.command("yank")
@click.argument("artifact_", metavar="ARTIFACT")
@click.option("--reason", required=True, metavar="TEXT", help="Why nobody should install it any more.")
@own_key_options
@server_options
def yank(
    invocation: Invocation, artifact_: str, reason: str, keys: tuple[str, ...], passphrase_file: Path | None
) -> int:
    """Say, signed, that an artifact is not to be installed any more. It stays downloadable for those who have it.

    Of a product that its team has claimed the change takes --key; while signatures are missing it waits as a draft, and
    the command ends with 7.
    """
    from cli.own_keys import finish_change

    client = invocation.client()
    found = find_artifact(client, artifact_)
    yanked = client.post(f"/artifacts/{found['id']}/yank", {"reason": reason})
    return finish_change(
        invocation,
        client,
        yanked,
        (keys, passphrase_file),
        lambda one: f"yanked {one['target_path']} ({one['id']})",
    )


@artifact.command("withdraw")
@click.argument("artifact_", metavar="ARTIFACT")
@click.option("--reason", required=True, metavar="TEXT", help="Why it is taken out.")
@own_key_options
@server_options
def withdraw(
    invocation: Invocation, artifact_: str, reason: str, keys: tuple[str, ...], passphrase_file: Path | None
) -> int:
    """Take an artifact out of the repository: nobody can download it any more, and its path is closed for good.

    Its record stays, and its bytes are kept aside on the server for 30 days. Devices that run it go on.

    Of a product that its team has claimed the change takes --key; while signatures are missing it waits as a draft, and
    the command ends with 7.
    """
    return _take_out(invocation, artifact_, "withdraw", reason, (keys, passphrase_file))


@artifact.command("revoke")
@click.argument("artifact_", metavar="ARTIFACT")
@click.option("--reason", required=True, metavar="TEXT", help="Why devices must leave it.")
@own_key_options
@server_options
def revoke(
    invocation: Invocation, artifact_: str, reason: str, keys: tuple[str, ...], passphrase_file: Path | None
) -> int:
    """Withdraw an artifact and make every device that runs it go back to what it ran before, at its next poll.

    Of a product that its team has claimed the change takes --key; while signatures are missing it waits as a draft, and
    the command ends with 7.
    """
    return _take_out(invocation, artifact_, "revoke", reason, (keys, passphrase_file))


artifact.add_command(verify)


def state_of(item: dict[str, Any]) -> str:
    """One word: active, yanked, withdrawn or revoked; the gravest that holds."""
    if item["withdrawn"]:
        return "revoked" if item["withdrawn"]["revoked"] else "withdrawn"
    return "yanked" if item["yanked"] else "active"


def _take_out(
    invocation: Invocation, artifact_: str, verb: str, reason: str, own: tuple[tuple[str, ...], Path | None]
) -> int:
    from cli.own_keys import finish_change

    client = invocation.client()
    found = find_artifact(client, artifact_)
    gone = client.post(f"/artifacts/{found['id']}/{verb}", {"reason": reason})
    return finish_change(
        invocation, client, gone, own, lambda one: f"{state_of(one)} {one['target_path']} ({one['id']})"
    )


def _describe(item: dict[str, Any]) -> str:
    yanked, withdrawn = item["yanked"], item["withdrawn"]
    return fields(
        [
            ("id", item["id"]),
            ("target path", item["target_path"]),
            ("sha256", item["sha256"]),
            ("length", f"{size(item['length'])} ({item['length']} bytes)"),
            ("serial", item["serial"]),
            ("channel", item["channel"]),
            ("published", f"{moment(item['created_at'])} by {item['publisher']['name']}"),
            ("security", item["security"]),
            ("note", item["notes"]),
            ("labels", item["labels"]),
            ("yanked", f"{moment(yanked['at'])}: {yanked['reason']}" if yanked else None),
            *(
                [(state_of(item), f"{moment(withdrawn['at'])} by {withdrawn['by']['name']}: {withdrawn['reason']}")]
                if withdrawn
                else []
            ),
            *(
                ("sbom", f"{sbom['id']}  {sbom['format']} {sbom['spec_version']}, {sbom['components']} components")
                for sbom in item["sboms"]
            ),
            *(("attestation", f"{one['id']}  {attestation_in_words(one)}") for one in item["attestations"]),
        ]
    )
