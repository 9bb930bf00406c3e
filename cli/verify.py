"""Checking an artifact with a stock TUF client, from a root that did not come from the server unasked."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli.errors import Unreachable, UsageFault, VerificationFailed

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import Updater

_MAX_ROOT: Final = 512_000  # bytes; what stock clients read at most
_MAX_ROOTS: Final = 256  # rotations a stock client follows at most
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
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


def trusted_root(*, root: Path | None, sha256: str | None, home: Path | None, metadata_url: str) -> TrustedRoot:
    """The root to start from: a file, the home on this machine, or whatever has the digest the caller knows.

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
        path = home / "root.json"
        if not path.is_file():
            path = _newest_root(home)
        found = TrustedRoot(path.read_bytes(), str(path))
    elif sha256 is not None:
        return _root_with_digest(sha256, metadata_url)
    else:
        raise UsageFault(
            "no trusted root: name one by --root, WAVEGATE_ROOT, --home or --root-sha256",
            hint="`publish init` printed its path and sha256; a root the server hands out unasked proves nothing",
        )
    if sha256 is not None and found.sha256 != sha256:
        raise VerificationFailed(f"{found.origin} has sha256 {found.sha256}, expected {sha256}")
    return found


def verified(path: str, *, file: Path | None, root: TrustedRoot, metadata_url: str, targets_url: str) -> dict[str, Any]:
    """Check one artifact and the SBOMs signed beside it.

    Everything is fetched into a temporary folder that is gone afterwards. With ``file`` the artifact's own bytes are
    not fetched: the file is compared with what is signed.

    Returns:
        ``target_path``, ``root_version``, ``root_sha256``, ``yanked`` (the reason or None) and ``verified``: a list
        of ``kind`` (artifact, sbom), ``target_path``, ``sha256``, ``length``.

    Raises:
        VerificationFailed: A signature, length or digest does not hold, metadata is expired, or nothing is signed
            under ``path``.
        Unreachable: The repository could not be fetched at all.
    """
    from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, RepositoryError
    from tuf.ngclient import Updater

    with tempfile.TemporaryDirectory(prefix="wavegate-verify-") as folder:
        try:
            updater = Updater(
                metadata_dir=f"{folder}/metadata",
                metadata_base_url=metadata_url,
                target_dir=f"{folder}/targets",
                target_base_url=targets_url,
                bootstrap=root.content,
            )
            updater.refresh()
            target = _signed(updater, path)
            custom = _custom(target)
            parts = [("artifact", target)]
            parts.extend(("sbom", _sbom(updater, sbom)) for sbom in custom.get("sboms", ()))
            for kind, part in parts:
                if kind == "artifact" and file is not None:
                    with file.open("rb") as stream:
                        part.verify_length_and_hashes(stream)
                else:
                    _fetch(updater, part, f"{folder}/fetched")
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
        "verified": [
            {"kind": kind, "target_path": part.path, "sha256": part.hashes["sha256"], "length": part.length}
            for kind, part in parts
        ],
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


def _sbom(updater: Updater, told: dict[str, Any]) -> TargetFile:
    """The SBOM's own signed record; it must say what the artifact's record says of it."""
    target = _signed(updater, str(told["path"]))
    if target.hashes["sha256"] != told["sha256"]:
        raise VerificationFailed(
            f"{target.path}: signed with sha256 {target.hashes['sha256']}, its artifact names {told['sha256']}"
        )
    return target


def _fetch(updater: Updater, target: TargetFile, place: str) -> None:
    """Fetch and check one target, and keep nothing: an artifact may be larger than what the next one leaves free."""
    updater.download_target(target, place)
    Path(place).unlink()


def _custom(target: TargetFile) -> dict[str, Any]:
    custom = target.unrecognized_fields.get("custom")
    return custom if isinstance(custom, dict) else {}


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


def _root_with_digest(sha256: str, metadata_url: str) -> TrustedRoot:
    """Fetch the root whose digest the caller knows; the server only says where it is, the digest says what it is."""
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
