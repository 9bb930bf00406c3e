"""Sending a large file in pieces: after a cut connection it goes on where the server stands."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cli.errors import ApiRefusal, Unreachable, UsageFault

if TYPE_CHECKING:
    from cli.client import Client

ABOVE: Final = 1024**3  # bytes; smaller files are sent in one request and, when that fails, from their start
PIECE: Final = 64 * 1024**2  # bytes of one request; of one that is cut what has arrived stays
FAILURES: Final = 8  # in a row without a byte of progress, until the person is asked
_CHUNK: Final = 128 * 1024
_LONGEST_WAIT: Final = 30.0  # seconds
_AGAIN: Final = frozenset({"upload_busy", "upload_offset_mismatch", "commit_failed"})


class Sending:
    """One file on its way. ``hashed`` bytes from its start are in ``digest``, each once however often it is sent."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], None]) -> None:
        self._file: Final = file
        self._advance: Final = advance
        self._mark: Final = _mark(file)
        self.length: Final = self._mark[0]
        self._digest: Final = hashlib.sha256()
        self._hashed = 0
        self._shown = 0

    def piece(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of one request."""
        self._show(offset)
        self._file.seek(offset)
        end = offset + length
        while offset < end:
            chunk = self._file.read(min(_CHUNK, end - offset))
            if not chunk:
                raise UsageFault("the file became shorter while it was sent; nothing was published")
            self._hash(offset, chunk)
            offset += len(chunk)
            yield chunk
            self._show(offset)

    def sha256(self) -> str:
        """Of the whole file; reads what was not sent by us. Raises UsageFault when the file has changed."""
        self._file.seek(self._hashed)
        while chunk := self._file.read(_CHUNK):
            self._hash(self._hashed, chunk)
        if _mark(self._file) != self._mark:
            raise UsageFault("the file changed while it was sent; nothing was published", hint="publish it again")
        return self._digest.hexdigest()

    def _hash(self, offset: int, chunk: bytes) -> None:
        if self._hashed < offset:  # the start was sent by a call before this one
            self._catch_up(offset)
        fresh = chunk[self._hashed - offset :]
        self._digest.update(fresh)
        self._hashed += len(fresh)

    def _catch_up(self, offset: int) -> None:
        place = self._file.tell()
        self._file.seek(self._hashed)
        while self._hashed < offset:
            chunk = self._file.read(min(_CHUNK, offset - self._hashed))
            if not chunk:
                break
            self._digest.update(chunk)
            self._hashed += len(chunk)
        self._file.seek(place)

    def _show(self, offset: int) -> None:
        self._advance(offset - self._shown)
        self._shown = offset


@dataclass(frozen=True, slots=True)
class Resumable:
    """How a large file is sent; ``notice`` tells a person, ``sleep`` waits seconds."""

    client: Client
    notice: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    piece: int = PIECE

    def send(self, file: BinaryIO, advance: Callable[[int], None], upload_id: str | None = None) -> dict[str, Any]:
        """Send a file, or the rest of one; returns what the API tells of the upload.

        Raises:
            Unreachable: No progress in several attempts; the hint names the upload to go on with.
            ApiRefusal: The server does not take it.
        """
        sending = Sending(file, advance)
        if upload_id is None:
            upload_id = str(self.client.post("/artifacts/uploads", {})["upload_id"])
        place = f"/artifacts/uploads/{upload_id}"
        offset = self._offset(place, upload_id)
        failures = 0
        while offset < sending.length:
            length = min(self.piece, sending.length - offset)
            try:
                offset = self.client.send_piece(place, sending.piece(offset, length), offset=offset, length=length)
                failures = 0
            except (Unreachable, ApiRefusal) as error:
                if isinstance(error, ApiRefusal) and error.code not in _AGAIN:
                    raise
                self.notice(f"{error}; going on where the upload stands")
                self.sleep(min(2.0**failures * 0.5, _LONGEST_WAIT))
                before, offset = offset, self._offset(place, upload_id)
                failures = 0 if offset > before else failures + 1
                if failures >= FAILURES:
                    raise Unreachable(
                        f"the upload stands at {offset} of {sending.length} bytes and goes no further: {error}",
                        hint=_hint(upload_id),
                    ) from error
        if offset > sending.length:
            raise UsageFault(f"the upload has {offset} bytes, the file {sending.length}: it is of another file")
        told: dict[str, Any] = self.client.post(f"{place}/complete", {"sha256": sending.sha256()})
        return told

    def _offset(self, place: str, upload_id: str) -> int:
        try:
            return int(self.client.get(place)["offset"])
        except Unreachable as error:
            raise Unreachable(str(error), hint=_hint(upload_id)) from error


def _hint(upload_id: str) -> str:
    return f"within a day the same command with --resume {upload_id} goes on from there"


def _mark(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns
