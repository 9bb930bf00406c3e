"""Checking an artifact with a stock TUF client, from a root that did not come from the server unasked."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli.errors import Unreachable, UsageFault, VerificationFailed

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import Updater
    from tuf.ngclient.fetcher import FetcherInterface

    from sbom.attestation_trust import AttestationTrust

_MAX_ROOT: Final = 512_000  # bytes; what stock clients read at most
_MAX_ROOTS: Final = 256  # rotations a stock client follows at most
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SLUG: Final = re.compile(r"[a-z0-9-]{1,50}")
_ROOT_NAME: Final = re.compile(r"(\d+)\.root\.json")


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """The bytes of a root and where the trust in it comes from, in words."""

    content: bytes
    origin: str

    @property
    def sha256(self) -> str:
        """Lower-case hex digest of the bytes."""
        return hashlib.sha256(self.content).hexdigest()


def trusted_root(
    *,
    root: Path | None,
    sha256: str | None,
    home: Path | None,
    with_digest: Callable[[str], TrustedRoot],
    org: str | None = None,
) -> TrustedRoot:
    """The root to start from: a file, the home on this machine, or whatever has the digest the caller knows.

    ``with_digest`` finds the last of them; see :func:`fetched_root`. ``org`` says whose root of several in the home.

    Raises:
        UsageFault: Nothing trusted was named; there is no trust on first use.
        VerificationFailed: The root is not the one the digest names.
    """
    if sha256 is not None:
        sha256 = sha256.strip().lower()
        if not _SHA256.fullmatch(sha256):
            raise UsageFault(f"--root-sha256 takes 64 hex digits, found {sha256!r}")
    if root is not None:
        found = TrustedRoot(root.read_bytes(), str(root))
    elif home is not None:
        own = home / "orgs" / org / "root.json" if org is not None and _SLUG.fullmatch(org) else None
        path = own if own is not None and own.is_file() else home / "root.json"
        if not path.is_file():
            path = _newest_root(home)
        found = TrustedRoot(path.read_bytes(), str(path))
    elif sha256 is not None:
        return with_digest(sha256)
    else:
        raise UsageFault(
            "no trusted root: name one by --root, WAVEGATE_ROOT, --home or --root-sha256",
            hint="`publish init` printed its path and sha256; a root the server hands out unasked proves nothing",
        )
    if sha256 is not None and found.sha256 != sha256:
        raise VerificationFailed(f"{found.origin} has sha256 {found.sha256}, expected {sha256}")
    return found


def verified(
    path: str,
    *,
    file: Path | None,
    root: TrustedRoot,
    metadata_url: str,
    targets_url: str,
    fetcher: FetcherInterface | None = None,
    trust: AttestationTrust | None = None,
) -> dict[str, Any]:
    """Check one artifact, the SBOMs and the attestations signed beside it.

    Everything is fetched into a temporary folder that is gone afterwards. With ``file`` the artifact's own bytes are
    not fetched: the file is compared with what is signed. ``fetcher`` fetches in place of python-tuf's own. With
    ``trust`` attestations are verified here, anew; otherwise their state is what the server found and signed.

    Returns:
        ``target_path``, ``root_version``, ``root_sha256``, ``yanked`` (the reason or None); ``publisher``,
        ``published_at`` and ``serial`` as signed; ``chain``, see :func:`cli.verify_chain.chain_to`; ``verified``: a
        list of ``kind`` (artifact, sbom, attestation), ``target_path``, ``sha256``, ``length``; ``sboms`` and
        ``attestations`` as signed, the latter with ``examined_by`` (``server`` or ``you``).

    Raises:
        VerificationFailed: A signature, length or digest does not hold, metadata is expired, or nothing is signed
            under ``path``.
        Unreachable: The repository could not be fetched at all.
    """
    from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, RepositoryError
    from tuf.ngclient import Updater

    from cli.verify_chain import chain_to
    from cli.verify_record import record_of

    with tempfile.TemporaryDirectory(prefix="wavegate-verify-") as folder:
        try:
            updater = Updater(
                metadata_dir=f"{folder}/metadata",
                metadata_base_url=metadata_url,
                target_dir=f"{folder}/targets",
                target_base_url=targets_url,
                bootstrap=root.content,
                fetcher=fetcher,
            )
            updater.refresh()
            target = _signed(updater, path)
            custom = record_of(target, Path(folder) / "metadata", metadata_url, fetcher)
            parts = [("artifact", target)]
            parts.extend(("sbom", _beside(updater, sbom)) for sbom in custom.get("sboms", ()))
            attested = [(told, _beside(updater, told)) for told in custom.get("attestations", ())]
            attestations = [_examined(updater, told, part, target, folder, trust) for told, part in attested]
            for kind, part in parts:
                if kind == "artifact" and file is not None:
                    with file.open("rb") as stream:
                        part.verify_length_and_hashes(stream)
                else:
                    _fetch(updater, part, f"{folder}/fetched")
            parts.extend(("attestation", part) for _, part in attested)
            chain = chain_to(path, Path(folder) / "metadata")
            version = _root_version(Path(folder))
        except DownloadHTTPError as error:
            if error.status_code >= 500:
                raise Unreachable(f"{metadata_url} could not be fetched: {error}") from error
            raise VerificationFailed(f"{path}: what is signed is not there to fetch: {error}") from error
        except (RepositoryError, DownloadLengthMismatchError) as error:
            raise VerificationFailed(f"{path}: {error}") from error
        except DownloadError as error:
            raise Unreachable(f"{metadata_url} could not be fetched: {error}") from error
    yanked = custom.get("yanked")
    return {
        "target_path": path,
        "root_version": version,
        "root_sha256": root.sha256,
        "yanked": yanked.get("reason", "") if isinstance(yanked, dict) else None,
        "publisher": custom.get("publisher"),
        "published_at": custom.get("created_at"),
        "serial": custom.get("serial"),
        "chain": chain,
        "verified": [
            {"kind": kind, "target_path": part.path, "sha256": part.hashes["sha256"], "length": part.length}
            for kind, part in parts
        ],
        "sboms": custom.get("sboms", []),
        "attestations": attestations,
    }


def _signed(updater: Updater, path: str) -> TargetFile:
    target = updater.get_targetinfo(path)
    if target is None:
        raise VerificationFailed(
            f"nothing is signed under {path!r}", hint="`publish artifact list` shows the target paths"
        )
    if "sha256" not in target.hashes:
        raise VerificationFailed(f"{path!r} is signed without a sha256")
    return target


def _beside(updater: Updater, told: dict[str, Any]) -> TargetFile:
    """The own signed record of an SBOM or attestation; it must say what the artifact's record says of it."""
    target = _signed(updater, str(told["path"]))
    if target.hashes["sha256"] != told["sha256"]:
        raise VerificationFailed(
            f"{target.path}: signed with sha256 {target.hashes['sha256']}, its artifact names {told['sha256']}"
        )
    return target


def _examined(
    updater: Updater,
    told: dict[str, Any],
    target: TargetFile,
    artifact: TargetFile,
    folder: str,
    trust: AttestationTrust | None,
) -> dict[str, Any]:
    """What is known of an attestation: the server's findings as they are signed, or with ``trust`` our own."""
    place = Path(folder) / "attestation"
    if trust is None:
        _fetch(updater, target, str(place))
        return {"verified_by": [], **told, "examined_by": "server"}
    from sbom.attestation import read_attestation

    updater.download_target(target, str(place))
    facts = read_attestation(
        place,
        artifact_sha256=artifact.hashes["sha256"],
        keys=trust.keys,
        sigstore_policy=trust.sigstore_policy,
    )
    place.unlink()
    by = [{name: value for name, value in asdict(one).items() if value is not None} for one in facts.verified_by]
    found: dict[str, Any] = {
        **{name: told[name] for name in ("id", "path", "length", "sha256") if name in told},
        "kind": facts.kind,
        "media_type": facts.media_type,
        "state": facts.state,
        "subject_matches": facts.subject_matches,
        "verified_by": by,
        "examined_by": "you",
    }
    more = {"reason": facts.reason, "predicate_type": facts.predicate_type}
    if facts.provenance is not None:
        more |= {"builder": facts.provenance.builder_id, "source": facts.provenance.source}
        more |= {"source_digest": facts.provenance.source_digest}
    return found | {name: value for name, value in more.items() if value is not None}


def _fetch(updater: Updater, target: TargetFile, place: str) -> None:
    """Fetch and check one target, and keep nothing: an artifact may be larger than what the next one leaves free."""
    updater.download_target(target, place)
    Path(place).unlink()


def _root_version(folder: Path) -> int:
    newest: int = json.loads((folder / "metadata" / "root.json").read_bytes())["signed"]["version"]
    return newest


def _newest_root(home: Path) -> Path:
    roots: dict[Path, list[tuple[int, Path]]] = {}
    for path in home.glob("orgs/*/repository/metadata/*.root.json"):
        if match := _ROOT_NAME.fullmatch(path.name):
            roots.setdefault(path.parent, []).append((int(match[1]), path))
    if len(roots) != 1:
        raise UsageFault(
            f"{home} holds {len(roots)} signed repositories, expected one", hint="name the root itself with --root"
        )
    return max(next(iter(roots.values())))[1]


def fetched_root(sha256: str, metadata_url: str) -> TrustedRoot:
    """Fetch the root whose digest the caller knows; the server only says where it is, the digest says what it is.

    Raises:
        VerificationFailed: The server has none with that digest.
        Unreachable: It cannot be asked.
    """
    import urllib3

    pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=10.0, read=30.0))
    for version in range(1, _MAX_ROOTS + 1):
        address = f"{metadata_url.rstrip('/')}/{version}.root.json"
        try:
            answer = pool.request("GET", address, redirect=False, preload_content=False)
            content = answer.read(_MAX_ROOT + 1)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{address} could not be fetched: {type(error).__name__}") from error
        if answer.status != 200:
            break
        if hashlib.sha256(content).hexdigest() == sha256:
            return TrustedRoot(content, address)
    raise VerificationFailed(f"{metadata_url} has no root with sha256 {sha256}")
