"""A bundle of logs: a tar archive, compressed, that is made while it is read and never lies on the disk.

Only regular files are taken. What a pattern spells out is the owner's word and may lead through symbolic links; below
that none is followed, neither to a file nor to a folder, whoever may write there. The agent's own home is left out but
for what is named here, and so are its key and certificate under whatever other name they are linked.
Source: docs/adr/0157-log-bundles.md
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Final

from agent.home import Home

PIECE: Final = 48 * 1024  # bytes; with what gRPC adds, well below the 64 KiB of a message
MOST_SEEN: Final = 20_000  # entries of folders that are looked at; a pattern must not walk a whole disk
MOST_TOLD: Final = 200  # of what was passed over
OWN_BYTES: Final = 256 * 1024  # of each of the agent's own files
A_MEMBER: Final = 4 * 1024  # bytes that a file's headers and padding take at most
THE_REST: Final = 128 * 1024  # bytes for the list of files
_WILD: Final = frozenset("*?[")
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which files, and how much of them: absolute patterns (``**`` is folders of any depth), ``most_bytes`` of all
    before they are compressed, ``most_files``, and nothing that was last written longer ago than ``age``."""

    patterns: Sequence[str]
    most_bytes: int
    most_files: int
    age: timedelta


@dataclass(frozen=True, slots=True)
class Found:
    """A file by the folder it was found below: ``parts`` lead there, ``name`` is what the bundle calls it."""

    base: str
    parts: tuple[str, ...]
    name: str
    length: int
    written: float


@dataclass(slots=True)
class Bundle:
    """Iterate it once for the bytes, in pieces; ``sha256``, ``length`` and ``files`` stand when it is at its end."""

    home: Home
    wanted: Wanted
    now: datetime
    sha256: str = ""
    length: int = 0
    files: int = 0
    _passed: list[dict[str, object]] = field(default_factory=list)
    _taken: list[dict[str, object]] = field(default_factory=list)
    _seen: int = 0

    def __iter__(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for piece in _in_pieces(self._compressed()):
            digest.update(piece)
            self.length += len(piece)
            yield piece
        self.sha256, self.files = digest.hexdigest(), len(self._taken)

    def _compressed(self) -> Iterator[bytes]:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        for content in self._archive():
            yield packer.compress(content)
        yield packer.flush()

    def _archive(self) -> Iterator[bytes]:
        for name, path in (("agent/state.json", self.home.state), ("agent/hook.log", self.home.hook_log)):
            try:
                with path.open("rb") as own_file:
                    yield from self._member(name, own_file, path.stat().st_size, OWN_BYTES)
            except OSError:
                continue  # nothing was installed yet
        left = self.wanted.most_bytes
        own = _identities(self.home)
        for found in self._chosen():
            try:
                file = _opened(found)
            except OSError as error:
                self._pass(found.name, error.strerror or "it cannot be read")
                continue
            with file:
                is_now = os.fstat(file.fileno())
                if (is_now.st_dev, is_now.st_ino) in own:
                    self._pass(found.name, "it is the agent's identity")
                elif left <= 0:
                    self._pass(found.name, "the bundle is full")
                else:
                    taken = min(left, is_now.st_size)
                    yield from self._member(found.name, file, is_now.st_size, taken, is_now.st_mtime)
                    left -= taken
        made = {"made_at": self.now.isoformat(), "files": self._taken, "passed_over": self._passed}
        content = json.dumps(made, indent=1).encode()
        yield from self._member("manifest.json", io.BytesIO(content), len(content), len(content))
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _member(
        self, name: str, file: BinaryIO, length: int, most: int, written: float | None = None
    ) -> Iterator[bytes]:
        """The last ``most`` bytes of a file as one of the archive."""
        info = tarfile.TarInfo(name)
        info.size = left = min(length, most)
        info.mtime = self.now.timestamp() if written is None else written
        info.mode = 0o600
        file.seek(length - left)
        yield info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        short = 0
        while left:
            content = file.read(min(PIECE, left))
            if not content:  # it was cut off meanwhile; its length has been told
                short, content = left, bytes(min(PIECE, left))
            left -= len(content)
            yield content
        if rest := info.size % tarfile.BLOCKSIZE:
            yield bytes(tarfile.BLOCKSIZE - rest)
        told: dict[str, object] = {"name": name.encode(errors="replace").decode(), "length": info.size}
        if info.size < length:
            told["last_bytes_of"] = length
        if short:
            told["became_shorter"] = True
        self._taken.append(told)

    def _chosen(self) -> list[Found]:
        """What is taken, the newest first."""
        found: dict[str, Found] = {}
        for pattern in self.wanted.patterns:
            for one in self._matching(pattern):
                found.setdefault(one.name, one)
        oldest = (self.now - self.wanted.age).timestamp()
        newest = sorted(found.values(), key=lambda one: (-one.written, one.name))
        for one in newest[self.wanted.most_files :]:
            self._pass(one.name, f"{self.wanted.most_files} newer files are taken")
        taken = []
        for one in newest[: self.wanted.most_files]:
            if one.written < oldest:
                self._pass(one.name, f"it was last written more than {self.wanted.age} ago")
            else:
                taken.append(one)
        return taken

    def _matching(self, pattern: str) -> Iterator[Found]:
        base, parts = _split(pattern)
        home = os.path.realpath(self.home.folder)
        try:
            folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._pass(pattern, error.strerror or "its folder cannot be read")
            return
        try:
            for below, facts in self._walk(folder, parts, ()):
                name = os.path.join(base, *below).lstrip("/")
                real = os.path.join(os.path.realpath(base), *below)
                if real == home or real.startswith(home + os.sep):
                    self._pass(name, "it is the agent's own")
                elif stat.S_ISREG(facts.st_mode):
                    yield Found(base, below, name, facts.st_size, facts.st_mtime)
                else:
                    self._pass(name, "it is a symbolic link" if stat.S_ISLNK(facts.st_mode) else "it is no file")
        finally:
            os.close(folder)

    def _walk(
        self, folder: int, parts: Sequence[str], below: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self._walk(folder, rest or ("*",), below)
        for name in sorted(os.listdir(folder)):
            self._seen += 1
            if self._seen > MOST_SEEN:
                return
            if not _fits(name, "*" if part == "**" else part):
                continue
            try:
                facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if part != "**" and not rest:
                    if not stat.S_ISDIR(facts.st_mode):
                        yield (*below, name), facts
                elif stat.S_ISDIR(facts.st_mode):
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                    try:
                        yield from self._walk(inner, parts if part == "**" else rest, (*below, name))
                    finally:
                        os.close(inner)
            except OSError as error:
                self._pass("/".join((*below, name)), error.strerror or "it cannot be read")

    def _pass(self, name: str, why: str) -> None:
        if len(self._passed) < MOST_TOLD:
            self._passed.append({"name": name.encode(errors="replace").decode(), "why": why})


_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def room(most_bytes: int, most_files: int) -> int:
    """How many bytes of files fit into a bundle of so many, even if they do not become smaller."""
    return max(0, most_bytes - THE_REST - 2 * OWN_BYTES - most_files * A_MEMBER)


def _in_pieces(contents: Iterable[bytes]) -> Iterator[bytes]:
    ready = bytearray()
    for content in contents:
        ready += content
        while len(ready) >= PIECE:
            yield bytes(ready[:PIECE])
            del ready[:PIECE]
    if ready:
        yield bytes(ready)


def _opened(found: Found) -> BinaryIO:
    """Open a file by the way it was found: whoever put a link in its place since does not lead us elsewhere."""
    folder = os.open(found.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in found.parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A pipe in its place would be waited for without O_NONBLOCK.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.fdopen(os.open(found.parts[-1], flags, dir_fd=folder), "rb")
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "it is no file any more")
    return file


def _split(pattern: str) -> tuple[str, tuple[str, ...]]:
    """The folder that a pattern spells out, and what is to be matched below it."""
    parts = Path(pattern).parts
    fixed = next((place for place, part in enumerate(parts) if _WILD & set(part)), len(parts) - 1)
    return str(Path(*parts[:fixed])), parts[fixed:]


def _fits(name: str, part: str) -> bool:
    # As a shell does it: what begins with a dot is asked for by a dot.
    return fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))


def _identities(home: Home) -> frozenset[tuple[int, int]]:
    """What the files of the identity are to the disk, under whatever name."""
    try:
        found = [path.stat() for path in home.identity.iterdir()]
    except OSError:
        return frozenset()
    return frozenset((one.st_dev, one.st_ino) for one in found)
