"""What a backup is written to and read from: a folder, or one ``.tar`` file. Names are relative, with ``/``."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

from keys.files import make_private_folder, sync_folder, write_private
from repo_signing.errors import BackupRefused

_CHUNK: Final = 1024 * 1024  # bytes
_TAR: Final = ".tar"


class Sink(Protocol):
    """Takes files in; nothing counts before :meth:`finish`."""

    def add(self, name: str, content: bytes | Path) -> None:
        """Take one file in."""

    def finish(self) -> None:
        """Make everything durable and give it its name."""

    def abandon(self) -> None:
        """Leave nothing behind."""


def sink_for(destination: Path) -> Sink:
    """A tar file for a name that ends so, else a folder. Raises BackupRefused when something is there already."""
    if destination.is_symlink() or destination.exists():
        raise BackupRefused(f"{destination} is there already; a backup is never written over, choose another name")
    if not destination.absolute().parent.is_dir():
        raise BackupRefused(f"{destination.absolute().parent} is no folder; make it first")
    return TarSink(destination) if destination.suffix == _TAR else FolderSink(destination)


class FolderSink:
    """Writes into a folder beside its final name, for its owner alone."""

    def __init__(self, destination: Path) -> None:
        self._destination: Final = destination
        self._folder: Final = _beside(destination)
        make_private_folder(self._folder)
        self._folders = {self._folder}

    def add(self, name: str, content: bytes | Path) -> None:
        path = self._folder / name
        make_private_folder(path.parent)
        parent = path.parent
        while parent != self._folder:
            self._folders.add(parent)
            parent = parent.parent
        if isinstance(content, bytes):
            write_private(path, content)
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as written, content.open("rb") as source:
            shutil.copyfileobj(source, written, _CHUNK)
            written.flush()
            os.fsync(written.fileno())

    def finish(self) -> None:
        for folder in self._folders:
            sync_folder(folder)
        os.rename(self._folder, self._destination)
        sync_folder(self._destination.absolute().parent)

    def abandon(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class TarSink:
    """Writes one tar file beside its final name, for its owner alone."""

    def __init__(self, destination: Path) -> None:
        self._destination: Final = destination
        self._path: Final = _beside(destination)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file: Final = os.fdopen(descriptor, "wb")
        self._tar: Final = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name: str, content: bytes | Path) -> None:
        member = tarfile.TarInfo(name)
        member.mode = 0o600
        if isinstance(content, bytes):
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
            return
        with content.open("rb") as source:
            member.size = os.fstat(source.fileno()).st_size
            self._tar.addfile(member, source)

    def finish(self) -> None:
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._path, self._destination)
        sync_folder(self._destination.absolute().parent)

    def abandon(self) -> None:
        with suppress(OSError, ValueError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink()


def members(source: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Every regular file of a backup with a stream of its bytes, good until the next one is asked for.

    Raises BackupRefused when there is no backup, or something in it is no plain file with a relative name.
    """
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise BackupRefused(f"{path} is no regular file; this is no backup of ours")
            if path.is_file():
                with path.open("rb") as stream:
                    yield path.relative_to(source).as_posix(), stream
        return
    try:
        with closing(tarfile.open(source, "r:")) as tar:
            for member in tar:
                if not member.isfile() or _leads_out(member.name):
                    raise BackupRefused(f"{source} holds {member.name[:200]!r}, which is no regular file below it")
                extracted = tar.extractfile(member)
                assert extracted is not None, "regular files have content"
                with extracted:
                    yield member.name, cast("BinaryIO", extracted)
    except (OSError, tarfile.TarError) as error:
        raise BackupRefused(f"{source} cannot be read as a backup: {error}") from error


def _leads_out(name: str) -> bool:
    return name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/"))


def _beside(destination: Path) -> Path:
    return destination.absolute().parent / f".{destination.name}.{secrets.token_hex(4)}.partial"
