"""`publish sbom`: bills of material, signed beside their artifacts."""

from __future__ import annotations

from pathlib import Path

import click

from cli.client import segment as as_segment
from cli.companions import attach_beside
from cli.download import hand_out, to_option
from cli.invocation import Invocation
from cli.lookup import find_artifact
from cli.options import own_key_options, server_options
from cli.text import size, table


@click.group()
def sbom() -> None:
    """Attach, list and fetch SBOMs (CycloneDX or SPDX)."""


@sbom.command()
@click.argument("artifact", metavar="ARTIFACT")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@own_key_options
@server_options
def attach(
    invocation: Invocation, artifact: str, file: Path, keys: tuple[str, ...], passphrase_file: Path | None
) -> int:
    """Sign FILE beside an artifact that is already published.

    Of a product that its team has claimed the change takes --key; while signatures are missing it waits as a draft, and
    the command ends with 7.
    """
    return attach_beside(
        invocation,
        artifact,
        file,
        "sboms",
        (keys, passphrase_file),
        lambda one: f"attached {one['target_path']} ({one['id']})",
    )


@sbom.command("list")
@click.argument("artifact", metavar="ARTIFACT")
@server_options
def list_(invocation: Invocation, artifact: str) -> None:
    """List the SBOMs of an artifact."""
    client = invocation.client()
    found = find_artifact(client, artifact)
    items = client.get(f"/artifacts/{found['id']}/sboms")["items"]
    invocation.emit(
        {"items": items},
        lambda: table(
            ("id", "target path", "format", "components", "length"),
            [
                (
                    item["id"],
                    item["target_path"],
                    f"{item['format']} {item['spec_version']}",
                    item["components"],
                    size(item["length"]),
                )
                for item in items
            ],
            empty="no SBOM is attached",
        ),
    )


@sbom.command()
@click.argument("sbom_id", metavar="SBOM")
@to_option
@server_options
def get(invocation: Invocation, sbom_id: str, to: Path | None) -> None:
    """Fetch an SBOM (sbm_…), byte for byte as it was published."""
    hand_out(invocation, invocation.client().get_bytes(f"/sboms/{as_segment(sbom_id)}"), to)
