"""Read an SBOM as somebody sent it: which format, valid or not, and what it holds."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final

from sbom.cyclonedx_json import read_json
from sbom.cyclonedx_xml import read_xml
from sbom.errors import InvalidSbom, SbomTooLarge, UnsupportedSbom
from sbom.model import SbomFacts, SbomLimits

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_UTF_16_OR_32: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_LARGE: Final = 1024 * 1024  # bytes; below it a parse costs tens of megabytes at most
# Large documents are read one after another, so that many uploads at once cost the memory of one.
_ONE_LARGE_AT_A_TIME: Final = Lock()


def read_sbom(source: bytes | Path | BinaryIO, *, limits: SbomLimits | None = None) -> SbomFacts:
    """Validate an SBOM: CycloneDX 1.2 to 1.7, in JSON or XML, UTF-8.

    Whatever the bytes are, the answer is facts or one of the errors below; no entity is expanded, no address fetched
    and no other file opened. The JSON is judged by the normal schema of its own specification version.

    Args:
        source: The bytes, a file to open, or a binary stream, which is read to its end or one byte past the limit.
        limits: What may be read at all; the defaults of :class:`SbomLimits` unless given.

    Raises:
        InvalidSbom: Not JSON or XML, or not valid; ``details`` says where.
        UnsupportedSbom: SPDX, or a CycloneDX version that is not read.
        SbomTooLarge: Beyond ``limits``.
        OSError: ``source`` cannot be read.
    """
    limits = SbomLimits() if limits is None else limits
    data = _bytes_of(source, limits.length + 1)
    if len(data) > limits.length:
        raise SbomTooLarge(f"the SBOM is longer than {limits.length} bytes; split it")
    if len(data) < _LARGE:
        return _read(data, limits)
    with _ONE_LARGE_AT_A_TIME:
        return _read(data, limits)


def _read(data: bytes, limits: SbomLimits) -> SbomFacts:
    if data.startswith(_UTF_16_OR_32):
        raise InvalidSbom("the file begins with the mark of UTF-16 or UTF-32; save the SBOM as UTF-8")
    start = data.removeprefix(_BYTE_ORDER_MARK)[:1000].lstrip()
    if start.startswith(b"<"):
        return read_xml(data, limits)
    if start.startswith(b"SPDXVersion:"):
        raise UnsupportedSbom("this is an SPDX tag-value document; CycloneDX 1.2 to 1.7 is read, convert it first")
    if not start:
        raise InvalidSbom("the file is empty; a CycloneDX document in JSON or XML is expected")
    return read_json(data, limits)


def _bytes_of(source: bytes | Path | BinaryIO, at_most: int) -> bytes:
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
