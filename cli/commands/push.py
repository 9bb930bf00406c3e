"""`publish push`: one artifact and its SBOMs from the disk into the signed repository."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.github import write_outputs, write_summary
from cli.invocation import Invocation
from cli.options import pairs, server_options, trusted_option
from cli.text import fields, size
from repo_signing.errors import RepositoryError
from repo_signing.paths import artifact_path, check_channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.client import Client

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--product", required=True, metavar="NAME", help="What devices run.")
@click.option("--version", required=True, metavar="V", help="Which version of it this is.")
@click.option("--platform", default="any", show_default=True, metavar="NAME", help="Which devices it is for.")
@click.option("--channel", default="stable", show_default=True, metavar="NAME", help="Line of the product.")
@click.option("--sbom", "sboms", multiple=True, type=_FILE, metavar="FILE", help="SBOM, CycloneDX or SPDX; repeat.")
@click.option(
    "--attest", "attested", multiple=True, type=_FILE, metavar="FILE", help="DSSE or Sigstore bundle; repeat."
)
@click.option("--note", default="", metavar="TEXT", help="What is new, for people.")
@click.option("--label", "labels", multiple=True, callback=pairs, metavar="KEY=VALUE", help="A label; repeat.")
@click.option("--security", is_flag=True, help="Mark it as a security update.")
@click.option("--file-name", metavar="NAME", help="Name devices see. [default: the file's own]")
@click.option("--sha256", metavar="HEX", help="Refuse to publish unless the server received these very bytes.")
@click.option(
    "--resume",
    "resumed",
    metavar="UPLOAD",
    flag_value="",
    is_flag=False,
    help="Send in pieces that survive a cut connection, as is done above 1 GiB; with UPLOAD go on with an earlier one.",
)
@click.option("--key", "keys", multiple=True, metavar="URI", help="Sign it yourself, as claimed products are; repeat.")
@click.option("--passphrase-file", type=_FILE, help="Opens the key. [default: the file passphrase beside it]")
@trusted_option
@server_options
def push(
    invocation: Invocation,
    file: Path,
    product: str,
    version: str,
    platform: str,
    channel: str,
    sboms: tuple[Path, ...],
    attested: tuple[Path, ...],
    note: str,
    labels: dict[str, str],
    security: bool,
    file_name: str | None,
    sha256: str | None,
    resumed: str | None,
    keys: tuple[str, ...],
    passphrase_file: Path | None,
    trusted: bool | None,
) -> int:
    """Publish FILE, signed together with its SBOMs and attestations.

    When the command ends with 0 the artifact is signed and every client can fetch it. Pushing the same bytes again
    changes nothing and answers the same; other bytes under the same name are refused (exit 5).

    A product that its team has claimed takes --key: the private key is used on this machine, the server gets the
    signature. While other signatures are missing the command ends with 7, and the draft waits for them.

    In a CI job without an API key the job's own identity is exchanged for a token of a few minutes, if an administrator
    trusts it (`publish trusted-publisher`). In a GitHub job the answer is also written to GITHUB_OUTPUT,
    and a summary to GITHUB_STEP_SUMMARY.
    """
    from cli.errors import TIMED_OUT

    # The server judges this, too; asking first spares the upload of a file that could never be named so.
    check_names(product, version, platform, channel, file_name or file.name)
    client = invocation.publishing_client(trusted, [product])
    staged_sboms = [_send(client, sbom, None, invocation) for sbom in sboms]
    staged_attestations = [_send(client, one, None, invocation) for one in attested]
    staged = _send(client, file, sha256, invocation, resumed)
    body = {
        "upload_id": staged["upload_id"],
        "product": product,
        "version": version,
        "platform": platform,
        "channel": channel,
        "file_name": file_name or file.name,
        "sboms": [one["upload_id"] for one in staged_sboms],
        "attestations": [one["upload_id"] for one in staged_attestations],
        "notes": note,
        "labels": labels,
        "security": security,
    }
    draft = None
    if keys:
        from cli.own_keys import sign_and_publish

        secret = None if passphrase_file is None else passphrase_file.read_text("utf-8").rstrip("\r\n")
        artifact, draft = sign_and_publish(client, body, file, (*sboms, *attested), keys, secret)
    else:
        artifact = client.post("/artifacts", body)
    answer = {name: artifact[name] for name in ("id", "target_path", "sha256", "length", "serial")}
    answer["sboms"] = [{name: sbom[name] for name in ("id", "target_path", "sha256")} for sbom in artifact["sboms"]]
    if attested:
        answer["attestations"] = [
            {name: one[name] for name in ("id", "target_path", "sha256", "state")} for one in artifact["attestations"]
        ]
    if draft is not None:
        answer["draft"] = draft
    write_outputs(answer)
    summary = [(name, answer[name]) for name in ("id", "sha256", "length", "serial")]
    title = "Published" if draft is None else f"Waits for signatures as {draft}:"
    write_summary(
        f"{title} {answer['target_path']}", [*summary, ("SBOMs", [one["target_path"] for one in answer["sboms"]])]
    )
    invocation.emit(
        answer,
        lambda: fields(
            [
                ("published" if draft is None else f"waits as {draft}", answer["target_path"]),
                ("id", answer["id"]),
                ("sha256", answer["sha256"]),
                ("length", size(answer["length"])),
                ("serial", answer["serial"]),
                *(("sbom", f"{sbom['target_path']} ({sbom['id']})") for sbom in answer["sboms"]),
                *(
                    ("attestation", f"{one['target_path']} ({one['id']}), {one['state']}")
                    for one in answer.get("attestations", ())
                ),
            ]
        ),
    )
    return 0 if draft is None else TIMED_OUT


def check_names(product: str, version: str, platform: str, channel: str, file_name: str) -> None:
    from cli.errors import UsageFault

    try:
        artifact_path(product, version, platform, file_name)
        check_channel(channel)
    except RepositoryError as error:
        hint = "--file-name gives it another name than its own" if "file name" in str(error) else None
        raise UsageFault(str(error), hint=hint) from error


def _send(
    client: Client, path: Path, expected_sha256: str | None, invocation: Invocation, resumed: str | None = None
) -> dict[str, Any]:
    from cli.client import Upload
    from cli.errors import UsageFault, VerificationFailed
    from cli.resume import ABOVE, Resumable

    if expected_sha256 is not None and len(expected_sha256) != 64:
        raise UsageFault(f"--sha256 takes 64 hex digits, found {len(expected_sha256)} characters")
    with path.open("rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        with progress(path.name, length) as advance:
            staged: dict[str, Any]
            if resumed is not None or length > ABOVE:
                staged = Resumable(client, invocation.note).send(file, advance, resumed or None)
            else:
                staged = client.upload("/artifacts/content", Upload(file, length, advance))
    if staged["length"] != length:
        raise VerificationFailed(
            f"{path}: sent {length} bytes, the server received {staged['length']}", hint="push again"
        )
    if expected_sha256 is not None and staged["sha256"] != expected_sha256.lower():
        raise VerificationFailed(
            f"{path}: the server received sha256 {staged['sha256']}, expected {expected_sha256.lower()}; "
            "nothing was published",
            hint="the file is not the one you built, or it changed on the way",
        )
    return staged


@contextmanager
def progress(name: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs; on anything but a terminal nothing at all."""
    import sys

    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=length)
        yield lambda count: progress.advance(task, count)
