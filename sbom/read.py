"""Read an SBOM as somebody sent it: which format, valid or not, and what it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final

from sbom.cyclonedx_json import read_json
from sbom.cyclonedx_xml import read_xml
from sbom.errors import InvalidSbom, SbomTooLarge
from sbom.faults import kind_of
from sbom.model import SbomFacts, SbomLimits
from sbom.spdx3_json import read_spdx3
from sbom.spdx_json import read_spdx
from sbom.spdx_tag_value import read_tag_value
from sbom.strict_json import parse_strict

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_UTF_16_OR_32: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_LARGE: Final = 1024 * 1024  # bytes; below it a parse costs tens of megabytes at most
# Large documents are read one after another, so that many uploads at once cost the memory of one.
_ONE_LARGE_AT_A_TIME: Final = Lock()


def read_sbom(source: bytes | Path | BinaryIO, *, limits: SbomLimits | None = None) -> SbomFacts:
    """Validate an SBOM, UTF-8: CycloneDX 1.2 to 1.7 in JSON or XML, SPDX 2.2 and 2.3 in JSON or as tags and values,
    SPDX 3.0.1 in JSON-LD.

    Whatever the bytes are, the answer is facts or one of the errors below; no entity is expanded, no address fetched
    and no other file opened. CycloneDX in JSON is judged by the normal schema of its own specification version; what of
    SPDX is checked stands in docs/adr/0012-attestations-and-spdx.md.

    Args:
        source: The bytes, a file to open, or a binary stream, which is read to its end or one byte past the limit.
        limits: What may be read at all; the defaults of :class:`SbomLimits` unless given.

    Raises:
        InvalidSbom: Not JSON or XML, or not valid; ``details`` says where.
        UnsupportedSbom: A version or a serialisation that is not read.
        SbomTooLarge: Beyond ``limits``.
        OSError: ``source`` cannot be read.
    """
    limits = SbomLimits() if limits is None else limits
    data = bytes_of(source, limits.length + 1)
    if len(data) > limits.length:
        raise SbomTooLarge(f"the SBOM is longer than {limits.length} bytes; split it")
    if len(data) < _LARGE:
        return _read(data, limits)
    with _ONE_LARGE_AT_A_TIME:
        return _read(data, limits)


def _read(data: bytes, limits: SbomLimits) -> SbomFacts:
    if data.startswith(_UTF_16_OR_32):
        raise InvalidSbom("the file begins with the mark of UTF-16 or UTF-32; save the SBOM as UTF-8")
    bare = data.removeprefix(_BYTE_ORDER_MARK)
    start = bare[:1000].lstrip()
    if start.startswith(b"<"):
        return read_xml(data, limits)
    if not start:
        raise InvalidSbom("the file is empty; an SBOM of CycloneDX or SPDX is expected")
    facts = read_tag_value(bare, limits) if _is_tag_value(start) else _read_json(bare, limits)
    if bare is data:
        return facts
    mark = "the file begins with a byte order mark, which many readers refuse"
    return replace(facts, warnings=(mark, *facts.warnings))


def _read_json(data: bytes, limits: SbomLimits) -> SbomFacts:
    document = parse_strict(data, limits)
    if not isinstance(document, dict):
        raise InvalidSbom(f"the JSON is a {kind_of(document)}, an object with bomFormat or spdxVersion is expected")
    if "bomFormat" not in document:
        if "spdxVersion" in document:
            return read_spdx(document, limits, syntax="spdx-json")
        if "@context" in document:
            return read_spdx3(document, limits)
    return read_json(document, limits)


def _is_tag_value(start: bytes) -> bool:
    # Comments may stand before the first tag.
    while start.startswith(b"#"):
        start = start.partition(b"\n")[2].lstrip()
    return start.startswith(b"SPDXVersion:")


def bytes_of(source: bytes | Path | BinaryIO, at_most: int) -> bytes:
    """The bytes of a source; of a file or stream no more than ``at_most``. Raises OSError if it cannot be read."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return _read_up_to(stream, at_most)
    return _read_up_to(source, at_most)


def _read_up_to(stream: BinaryIO, at_most: int) -> bytes:
    # A raw stream may answer with less than asked before its end.
    pieces = []
    while at_most > 0 and (piece := stream.read(at_most)):
        pieces.append(piece)
        at_most -= len(piece)
    return b"".join(pieces)
