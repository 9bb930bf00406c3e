"""`publish artifact verify`: who signed what, checked by a stock TUF client."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.attestation_words import attestation_in_words
from cli.invocation import Invocation
from cli.lookup import find_artifact
from cli.options import server_options
from cli.text import moment, size, table, visible

if TYPE_CHECKING:
    from cli.mirror_folder import MirrorFolder

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("artifact_", metavar="ARTIFACT|FILE")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--root",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="WAVEGATE_ROOT",
    metavar="FILE",
    help="The root.json you trust. [default: WAVEGATE_ROOT, then the home's]",
)
@click.option("--root-sha256", metavar="HEX", help="SHA-256 the root must have, as you were told it by other means.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="WAVEGATE_HOME",
    metavar="FOLDER",
    help="Trust the root of the server home on this machine.",
)
@click.option("--org", metavar="SLUG", help="Organisation; lets you verify a target path without a credential.")
@click.option(
    "--offline", type=_FOLDER, metavar="FOLDER", help="Read a mirror made by `publish repo sync`; no network is used."
)
@click.option(
    "--attestation-keys",
    type=_FOLDER,
    metavar="FOLDER",
    help="Verify attestations with these public keys and sigstore.toml, instead of telling what the server found.",
)
@click.option(
    "--require-attestation", is_flag=True, help="Exit 8 unless a verified attestation is about this very artifact."
)
@server_options
def verify(
    invocation: Invocation,
    artifact_: str,
    file: Path | None,
    root: Path | None,
    root_sha256: str | None,
    home: Path | None,
    org: str | None,
    offline: Path | None,
    attestation_keys: Path | None,
    require_attestation: bool,
) -> None:
    """Check an artifact, its SBOMs and attestations as a device would; show who signed what, from the root down.

    Give an artifact (id or target path) to fetch it, an artifact and FILE to compare them, or FILE alone: it is then
    found by its digest.

    The check is a stock TUF client's, in an empty folder, from a root you trust: --root, WAVEGATE_ROOT, --home, or
    --root-sha256 alone. The server is never asked whom to trust. Exit 8 when anything does not add up. Whether an
    attestation is verified is told, and refuses nothing without --require-attestation.
    """
    from cli.errors import VerificationFailed
    from cli.verify import TrustedRoot, fetched_root, trusted_root, verified

    named: str | Path = artifact_
    if file is None and not artifact_.startswith("art_") and Path(artifact_).is_file():
        named = file = Path(artifact_)
    mirror: MirrorFolder | None = None
    if offline is not None:
        from cli.mirror_folder import MirrorFolder

        mirror = MirrorFolder(offline)
        path, place = _found_in(mirror, named), mirror.place()
    else:
        path, place = locate(invocation.client(), named, org)

    def with_digest(sha256: str) -> TrustedRoot:
        if mirror is not None:
            return TrustedRoot(mirror.root_bytes(sha256), str(offline))
        return fetched_root(sha256, place["metadata_url"])

    trust = None
    if attestation_keys is not None:
        from sbom.attestation_trust import read_trust

        trust = read_trust(attestation_keys)
    trusted = trusted_root(root=root, sha256=root_sha256, home=home, with_digest=with_digest, org=org)
    report = verified(path, file=file, root=trusted, fetcher=mirror, trust=trust, **place)
    proven = any(one["state"] == "verified" and one["subject_matches"] for one in report["attestations"])
    if require_attestation and not proven:
        raise VerificationFailed(
            f"{path}: none of its {len(report['attestations'])} attestations is verified and about this artifact"
        )
    invocation.emit(report, lambda: _in_words(report))


def locate(client: Any, named: str | Path, org: str | None) -> tuple[str, dict[str, str]]:
    """Target path of what is meant, and the URLs of its signed repository; a target path with ``org`` needs no login.

    Args:
        client: For the server.
        named: An id, a target path, or a file that is looked up by its digest.
        org: Spares asking the server where the repository is.
    """
    if org is not None:
        base = f"{client.base_url}/tuf/{org}"
        place = {"metadata_url": f"{base}/metadata/", "targets_url": f"{base}/targets/"}
    else:
        repository = client.get("/repository")
        place = {name: repository[name] for name in ("metadata_url", "targets_url")}
    if isinstance(named, Path):
        digest = _sha256(named)
        items = client.items("/artifacts", limit=None, sha256=digest)
        return _only([one["target_path"] for one in items if not one["withdrawn"]], named, digest), place
    if "/" in named:
        return named, place
    return find_artifact(client, named)["target_path"], place


def _found_in(mirror: MirrorFolder, named: str | Path) -> str:
    from cli.errors import VerificationFailed

    if isinstance(named, Path):
        digest = _sha256(named)
        return _only(mirror.paths_of(sha256=digest), named, digest)
    if "/" in named:
        return named
    for path in mirror.paths_of(artifact_id=named):
        return path
    raise VerificationFailed(f"the mirror has no artifact {named!r}")


def _only(paths: list[str], file: Path, digest: str) -> str:
    from cli.errors import UsageFault, VerificationFailed

    if not paths:
        raise VerificationFailed(f"nothing is signed with the sha256 of {file}: {digest}")
    if len(paths) > 1:
        raise UsageFault(
            f"{file} is published as {', '.join(sorted(paths)[:5])}", hint="say which: give the target path, then FILE"
        )
    return paths[0]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _in_words(report: dict[str, Any]) -> str:
    publisher = report["publisher"] or {}
    lines = [
        f"verified {report['target_path']}",
        *(
            f"  {part['kind']:<11}  {part['target_path']}  sha256 {part['sha256']}  {size(part['length'])}"
            for part in report["verified"]
        ),
        f"  trusted root sha256 {report['root_sha256']}, now at root version {report['root_version']}",
    ]
    if publisher:
        lines.append(
            f"  published {moment(report['published_at'])} by {visible(str(publisher.get('name')))} "
            f"({visible(str(publisher.get('id')))}), record of serial {report['serial']}"
        )
    if report["yanked"]:
        lines.append(f"  warning: yanked: {visible(report['yanked'])}")
    chain = table(
        ("role", "delegated by", "version", "expires", "needs", "signed by keys"),
        [
            (
                link["role"],
                link["delegated_by"],
                link["version"],
                moment(link["expires"]),
                link["threshold"],
                ", ".join(f"{keyid[:16]}…" for keyid in link["signed_by"]),
            )
            for link in report["chain"]
        ],
    )
    found = [
        f"{one['path'].rpartition('/')[2]}: {visible(attestation_in_words(one))} (examined by "
        f"{'you' if one['examined_by'] == 'you' else 'the server'})"
        for one in report["attestations"]
    ]
    return "\n".join([*lines, "", chain, *(["", *found] if found else [])])
