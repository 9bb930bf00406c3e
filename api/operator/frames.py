"""Many small files in one body: each behind its length, 8 bytes big-endian. No names: what they are is said later."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, Final

from repo_signing.errors import InvalidRecord, UploadCutShort, UploadTooLarge

_HEAD: Final = 8  # bytes


def frames(stream: BinaryIO, *, longest: int, most: int) -> Iterator[BinaryIO]:
    """Read the files of a body one after the other; one at a time is in memory.

    Raises:
        UploadTooLarge: One has more than ``longest`` bytes.
        UploadCutShort: The body ends within a file.
        InvalidRecord: More than ``most`` files.
    """
    count = 0
    while head := _read(stream, _HEAD):
        count += 1
        if count > most:
            raise InvalidRecord(f"the body has more than {most} files, the most taken at once")
        length = int.from_bytes(head, "big")
        if len(head) == _HEAD and length > longest:
            raise UploadTooLarge(f"file {count} has {length} bytes, at most {longest} are taken here; send it alone")
        content = _read(stream, length) if len(head) == _HEAD else b""
        if len(head) < _HEAD or len(content) < length:
            raise UploadCutShort(f"the body ended within file {count}; send it again")
        yield io.BytesIO(content)


def _read(stream: BinaryIO, length: int) -> bytes:
    pieces = []
    while length and (piece := stream.read(length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
