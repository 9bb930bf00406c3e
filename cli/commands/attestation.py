"""`publish attestation`: what others say of an artifact, signed beside it."""

from __future__ import annotations

from pathlib import Path

import click

from cli.attestation_words import attestation_in_words
from cli.client import segment as as_segment
from cli.companions import attach_beside
from cli.download import hand_out, to_option
from cli.invocation import Invocation
from cli.lookup import find_artifact
from cli.options import own_key_options, server_options
from cli.text import size, table, visible


@click.group()
def attestation() -> None:
    """Attach, list and fetch attestations (in-toto in DSSE, Sigstore bundles)."""


@attestation.command()
@click.argument("artifact", metavar="ARTIFACT")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@own_key_options
@server_options
def attach(
    invocation: Invocation, artifact: str, file: Path, keys: tuple[str, ...], passphrase_file: Path | None
) -> int:
    """Sign FILE beside an artifact that is already published; the same FILE again is examined anew.

    Of a product that its team has claimed the change takes --key; while signatures are missing it waits as a draft, and
    the command ends with 7.
    """
    return attach_beside(
        invocation,
        artifact,
        file,
        "attestations",
        (keys, passphrase_file),
        lambda one: f"attached {one['target_path']} ({one['id']}), {visible(attestation_in_words(one))}",
    )


@attestation.command("list")
@click.argument("artifact", metavar="ARTIFACT")
@server_options
def list_(invocation: Invocation, artifact: str) -> None:
    """List the attestations of an artifact, and what the server found of each."""
    client = invocation.client()
    found = find_artifact(client, artifact)
    items = client.get(f"/artifacts/{found['id']}/attestations")["items"]
    invocation.emit(
        {"items": items},
        lambda: table(
            ("id", "target path", "kind", "found", "length"),
            [
                (item["id"], item["target_path"], item["kind"], attestation_in_words(item), size(item["length"]))
                for item in items
            ],
            empty="no attestation is attached",
        ),
    )


@attestation.command()
@click.argument("attestation_id", metavar="ATTESTATION")
@to_option
@server_options
def get(invocation: Invocation, attestation_id: str, to: Path | None) -> None:
    """Fetch an attestation (att_…), byte for byte as it was published."""
    hand_out(invocation, invocation.client().get_bytes(f"/attestations/{as_segment(attestation_id)}"), to)
