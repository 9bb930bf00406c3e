"""Target paths: python-tuf refuses nothing, so their grammar is held here; and the names that may be served.

Every path is lower-case ASCII, so two paths that differ only in case or in Unicode form cannot both exist.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from repo_signing.errors import InvalidRecord, InvalidTargetPath

MAX_PATH_BYTES: Final = 400
RESERVED: Final = frozenset({"decisions", "brakes", "revocations"})  # first segments that no product may have

_SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
# What stands beside an artifact carries its name and one of these endings.
_COMPANION: Final = re.compile(r".+\.(?:sbom|att)\.[0-9]+\..+")
_METADATA_NAME: Final = re.compile(r"timestamp\.json|[1-9][0-9]{0,15}\.[a-z0-9][a-z0-9._+-]{0,119}\.json")
_VERSIONED_NAME: Final = re.compile(r"([1-9][0-9]{0,15})\.([a-z0-9][a-z0-9._+-]{0,119})\.json")
# Most clients ask for dir/HASH.name, tough for HASH.dir/name.
_HASHED_FOLDER: Final = re.compile(r"([0-9a-f]{64})\.([a-z0-9][a-z0-9._+-]{0,99})")
_HASHED_NAME: Final = re.compile(r"([0-9a-f]{64})\.[a-z0-9][a-z0-9._+-]{0,199}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

# The same for web servers that hand out the folder by themselves: plain syntax that Perl's expressions share, to be
# matched whole, the first that fits. The group `sha256` names the blob, `ab` its folder.
VERSIONED_PATTERN: Final = r"[1-9][0-9]{0,15}\.[a-z0-9][a-z0-9._+-]{0,119}\.json"
TARGET_PATTERNS: Final = (
    r"(?:[a-z0-9][a-z0-9._+-]{0,99}/){2,3}(?P<sha256>(?P<ab>[0-9a-f]{2})[0-9a-f]{62})\.[a-z0-9][a-z0-9._+-]{0,199}",
    r"(?P<sha256>(?P<ab>[0-9a-f]{2})[0-9a-f]{62})\.(?:[a-z0-9][a-z0-9._+-]{0,99}/){2,3}[a-z0-9][a-z0-9._+-]{0,199}",
)


class ArtifactPath(NamedTuple):
    """The four segments of an artifact's target path."""

    product: str
    version: str
    platform: str
    file_name: str


def artifact_path(product: str, version: str, platform: str, file_name: str) -> str:
    """Join the target path ``product/version/platform/file_name`` of an artifact.

    Raises:
        InvalidTargetPath: A segment is outside the grammar ``[a-z0-9][a-z0-9._+-]{0,99}``, the whole is longer than
            400 bytes, ``product`` is reserved, or ``file_name`` looks like an SBOM's or attestation's.
    """
    named = {"product": product, "version": version, "platform": platform, "file name": file_name}
    for what, segment in named.items():
        _check_segment(what, segment)
    if product in RESERVED:
        raise InvalidTargetPath(f"the product name {product!r} is reserved; choose another")
    if _COMPANION.fullmatch(file_name) is not None:
        raise InvalidTargetPath(
            f"the file name {file_name!r} ends like an SBOM or attestation of another file; rename the file"
        )
    path = f"{product}/{version}/{platform}/{file_name}"
    if len(path) > MAX_PATH_BYTES:
        raise InvalidTargetPath(f"the target path has {len(path)} bytes, at most {MAX_PATH_BYTES} are possible")
    return path


def split_artifact_path(path: str) -> ArtifactPath:
    """Take an artifact's target path apart; raises InvalidTargetPath when it is none."""
    segments = path.split("/")
    if len(segments) != 4:
        raise InvalidTargetPath(f"{path!r} is no artifact's path; expected product/version/platform/file-name")
    parts = ArtifactPath(*segments)
    artifact_path(*parts)
    return parts


def check_document_path(path: str) -> None:
    """Raise InvalidTargetPath unless ``path`` is ``decisions/<segment>/<segment>`` or ``brakes/…``."""
    segments = path.split("/")
    if len(segments) != 3 or segments[0] not in ("decisions", "brakes"):
        raise InvalidTargetPath(f"{path!r} is no document's path; expected decisions/<product>/<name> or brakes/…")
    for segment in segments[1:]:
        _check_segment("segment", segment)


def check_channel(channel: str) -> None:
    """Raise InvalidRecord unless a channel's name is a segment: devices and rollouts compare it letter by letter."""
    if _SEGMENT.fullmatch(channel) is None:
        raise InvalidRecord(f"the channel is {channel[:120]!r}; expected a name like 'stable' or 'beta-2'")


def sbom_path(artifact: str, number: int, form: str) -> str:
    """Where the SBOM number ``number`` (from 0) of an artifact stands; ``form`` is e.g. ``cyclonedx-json``."""
    _check_segment("SBOM format", form)
    return f"{artifact}.sbom.{number}.{form}"


def attestation_path(artifact: str, number: int, kind: str) -> str:
    """Where the attestation number ``number`` (from 0) of an artifact stands; ``kind`` is e.g. ``dsse``."""
    _check_segment("attestation kind", kind)
    return f"{artifact}.att.{number}.{kind}"


def versioned_name(name: str) -> tuple[int, str] | None:
    """Version and role of the metadata file ``<version>.<role>.json``; None for any other name."""
    match = _VERSIONED_NAME.fullmatch(name)
    return None if match is None else (int(match[1]), match[2])


def is_metadata_name(name: str) -> bool:
    """Say whether ``name`` may name a served metadata file: no separator, no dots but the known ones."""
    return _METADATA_NAME.fullmatch(name) is not None


def served_sha256(path: str) -> str | None:
    """The SHA-256 in a served name ``<dir>/<sha256>.<name>`` or ``<sha256>.<dir>/<name>``; None for any other text."""
    *folders, last = path.split("/")
    match = _HASHED_NAME.fullmatch(last)
    if match is None and (ahead := _HASHED_FOLDER.fullmatch(folders[0] if folders else "")) is not None:
        folders[0] = ahead[2]
        match = _HASHED_NAME.fullmatch(f"{ahead[1]}.{last}")
    if match is None or len(folders) not in (2, 3):
        return None
    if any(_SEGMENT.fullmatch(folder) is None for folder in folders):
        return None
    return match[1]


def is_sha256(text: str) -> bool:
    """Say whether ``text`` is 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None


def _check_segment(what: str, segment: str) -> None:
    if _SEGMENT.fullmatch(segment) is None:
        shown = segment if len(segment) <= 120 else f"{segment[:120]}…"
        raise InvalidTargetPath(
            f"the {what} is {shown!r}: expected 1 to 100 of a-z 0-9 . _ + -, "
            "starting with a letter or digit; capitals are not possible"
        )
