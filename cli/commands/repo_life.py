"""`publish repo gc` and `bundle`: asked of the server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from cli.invocation import Invocation
from cli.options import server_options
from cli.text import fields, size


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be taken away.")
@server_options
def gc(invocation: Invocation, dry_run: bool) -> None:
    """Take away metadata and bytes that no client can ask for any more.

    The server does this every night. What the ten newest states, or those of the last seven days, or an active
    rollout name stays; root versions stay for ever; withdrawn bytes stay for thirty days.
    """
    told = invocation.client().post("/repository/gc", {"dry_run": dry_run})
    verb = "would take away" if dry_run else "took away"
    invocation.emit(
        told,
        lambda: (
            f"{verb} {len(told['metadata'])} metadata files, {len(told['blobs'])} blobs and "
            f"{len(told['quarantined'])} withdrawn blobs: {size(told['freed_bytes'])}"
        ),
    )


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@server_options
def bundle(invocation: Invocation, out: Path) -> None:
    """Write what an installer gives to clients into the folder OUT.

    That is root.json, map.json (TAP 4) and fingerprint.txt. The server says what its root is: compare the fingerprint
    with what you were told by another way before you hand the folder on. `wavegate-agent enroll --root OUT` takes it.
    """
    from cli.errors import UsageFault, VerificationFailed

    told = invocation.client().get("/repository/bundle")
    files = {name: told["files"][name] for name in ("root.json", "map.json", "fingerprint.txt")}
    found = hashlib.sha256(files["root.json"].encode()).hexdigest()
    if found != told["root_sha256"]:
        raise VerificationFailed(f"the server's root has sha256 {found}, it says {told['root_sha256']}")
    if out.exists() and any(out.iterdir()):
        raise UsageFault(f"{out} is not empty; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_bytes(text.encode())
    answer = {
        "folder": str(out),
        "root_sha256": found,
        "root_version": told["root_version"],
        "metadata_url": told["metadata_url"],
        "targets_url": told["targets_url"],
        "files": sorted(files),
    }
    invocation.emit(answer, lambda: fields(list(answer.items())))
