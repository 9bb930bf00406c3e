"""`publish push-batch`: many artifacts of a manifest, signed in one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.commands.push import check_names, progress
from cli.github import write_outputs, write_summary
from cli.invocation import Invocation
from cli.options import server_options, trusted_option
from cli.text import fields, table

if TYPE_CHECKING:
    from cli.client import Client
    from cli.manifest import Listed

_SMALL: Final = 256 * 1024  # bytes; smaller files travel together
_TOGETHER: Final = 16 * 1024 * 1024  # bytes of one request
_MOST_TOGETHER: Final = 1000  # files of one request
_SHOWN: Final = 20  # refusals in a table


@click.command("push-batch")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--partial", is_flag=True, help="Sign the others when some are refused; else all are signed or none is.")
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Uploads at once.")
@trusted_option
@server_options
def push_batch(invocation: Invocation, manifest: Path, partial: bool, jobs: int, trusted: bool | None) -> int:
    """Publish all artifacts of MANIFEST (JSON, YAML or CSV), up to 10,000, in one commit.

    Each has `file`, `product` and `version`, and may have `platform`, `channel`, `file_name`, `sboms`, `attestations`,
    `notes`, `labels`, `security` and `sha256`. Files are named from the manifest's folder. An object of `defaults` and
    `artifacts` saves repeating.

    The same call again changes nothing and answers the same. Exit 5 when something was refused.
    """
    from cli.errors import CONFLICT
    from cli.manifest import read_manifest

    listed = read_manifest(manifest)
    for one in listed:
        check_names(one.product, one.version, one.platform, one.channel, one.name)
    client = invocation.publishing_client(trusted, sorted({one.product for one in listed}))
    files = list(dict.fromkeys(file for one in listed for file in (one.file, *one.sboms, *one.attestations)))
    sent = _Sender(client, invocation).send(files, jobs)
    answer = client.post("/artifacts/batch", {"items": _items(listed, sent), "partial": partial})
    answer["items"] = [{"file": str(one.file), **item} for one, item in zip(listed, answer["items"], strict=True)]
    counts = {name: answer[name] for name in ("serial", "created", "existing", "refused")}
    write_outputs(counts)
    write_summary(f"Published {len(listed)} artifacts", list(counts.items()))
    invocation.emit(answer, lambda: _told(answer))
    return CONFLICT if answer["refused"] else 0


class _Sender:
    """Brings files to the server: small ones together, large ones each by itself, several requests at once."""

    def __init__(self, client: Client, invocation: Invocation) -> None:
        self._client = client
        self._invocation = invocation

    def send(self, files: list[Path], jobs: int) -> dict[Path, dict[str, Any]]:
        """Returns what the server tells of each file. A file that several artifacts name is sent once."""
        sizes = {file: file.stat().st_size for file in files}
        found: dict[Path, dict[str, Any]] = {}
        with progress(f"{len(files)} files", sum(sizes.values())) as advance, ThreadPoolExecutor(jobs) as pool:
            groups = list(_grouped(files, sizes))
            for group, told in zip(groups, pool.map(lambda one: self._send(one, sizes, advance), groups), strict=True):
                for file, upload in zip(group, told, strict=True):
                    found[file] = upload
        return found

    def _send(self, group: list[Path], sizes: dict[Path, int], advance: Callable[[int], None]) -> list[dict[str, Any]]:
        from cli.client import Upload
        from cli.resume import ABOVE, Resumable

        if sizes[group[0]] <= _SMALL:
            frames = b"".join(_framed(file, sizes[file]) for file in group)
            told: list[dict[str, Any]] = self._client.put_bytes("/artifacts/contents", frames)["items"]
            advance(sum(sizes[file] for file in group))
            return told
        (file,) = group
        with file.open("rb", buffering=0) as stream:
            if sizes[file] > ABOVE:
                return [Resumable(self._client, self._invocation.note).send(stream, advance)]
            return [self._client.upload("/artifacts/content", Upload(stream, sizes[file], advance))]


def _framed(file: Path, size: int) -> bytes:
    from cli.errors import UsageFault

    content = file.read_bytes()
    if len(content) != size:
        raise UsageFault(f"{file} changed while it was sent; nothing was published", hint="publish it again")
    return len(content).to_bytes(8, "big") + content


def _grouped(files: list[Path], sizes: dict[Path, int]) -> Iterator[list[Path]]:
    group: list[Path] = []
    length = 0
    for file in files:
        if sizes[file] > _SMALL:
            yield [file]
            continue
        if len(group) == _MOST_TOGETHER or length + sizes[file] > _TOGETHER:
            yield group
            group, length = [], 0
        group.append(file)
        length += sizes[file]
    if group:
        yield group


def _items(listed: list[Listed], sent: dict[Path, dict[str, Any]]) -> list[dict[str, Any]]:
    from cli.errors import VerificationFailed

    items = []
    for one in listed:
        upload = sent[one.file]
        if one.sha256 and upload["sha256"] != one.sha256.lower():
            raise VerificationFailed(
                f"{one.file}: the server received sha256 {upload['sha256']}, the manifest says {one.sha256}; "
                "nothing was published",
                hint="the file is not the one that was listed",
            )
        items.append(
            {
                "upload_id": upload["upload_id"],
                "product": one.product,
                "version": one.version,
                "platform": one.platform,
                "channel": one.channel,
                "file_name": one.name,
                "sboms": [sent[sbom]["upload_id"] for sbom in one.sboms],
                "attestations": [sent[attestation]["upload_id"] for attestation in one.attestations],
                "notes": one.notes,
                "labels": one.labels,
                "security": one.security,
            }
        )
    return items


def _told(answer: dict[str, Any]) -> str:
    head = fields([(name, answer[name]) for name in ("created", "existing", "refused", "serial")])
    refused = [
        (item["file"], item["error"]["code"], item["error"]["message"])
        for item in answer["items"]
        if item["status"] == "refused"
    ]
    return f"{head}\n\n{table(('file', 'code', 'why'), refused[:_SHOWN])}" if refused else head
