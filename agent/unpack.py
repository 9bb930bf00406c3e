"""The first lines of ``wavegate-agent.pyz``, which carries this file as its ``__main__``: unpack, verify, hand over.

Compiled modules cannot be loaded out of a zip file, so everything lies unpacked in a cache folder that is named by the
digest of what must be in it. At every start each file is held against its digest before any of it is imported; a
folder that is damaged, incomplete or has a file too many is made anew. Only the standard library is used here, and
nothing is imported from where the caller stands.

Source: docs/adr/0142-the-agent-is-one-file.md
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final, NoReturn
from zipfile import ZipFile

CONTENTS: Final = "contents.json"
LIBRARY: Final = "lib/"
KEPT: Final = 2  # unpacked versions: this one and the one before, which an agent may still run while it is replaced
NOT_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
USAGE: Final = 2  # exit code


class CannotUnpack(Exception):
    """The message says what to do."""


def cache_root(environment: dict[str, str]) -> Path:
    """Where unpacked versions lie: ``WAVEGATE_AGENT_CACHE``, systemd's cache folder, else the usual place."""
    for name in ("WAVEGATE_AGENT_CACHE", "CACHE_DIRECTORY"):
        if environment.get(name):
            return Path(environment[name]).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/wavegate-agent")
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wavegate-agent"


def unpacked(archive: Path, root: Path) -> Path:
    """The verified folder of this archive's modules, made if it is not there.

    Raises:
        CannotUnpack: Another Python, a folder that others may write to, no room, or no right to write.
    """
    with ZipFile(archive) as zipped:
        described = zipped.read(CONTENTS)
        contents = json.loads(described)
        if contents["abi"] not in EXTENSION_SUFFIXES:
            raise CannotUnpack(
                f"{archive} is for Python with {contents['abi']} modules, this Python loads {EXTENSION_SUFFIXES[0]}; "
                "build one for this device: docs/devices.md"
            )
        folder = root / hashlib.sha256(described).hexdigest()
        _refuse_if_others_write(root)
        if not is_whole(folder, contents["files"]):
            try:
                _unpack(zipped, contents["files"], folder)
            except OSError as error:
                raise CannotUnpack(
                    f"cannot unpack into {root} ({error.strerror or error}); name a folder in WAVEGATE_AGENT_CACHE"
                ) from error
            if not is_whole(folder, contents["files"]):
                raise CannotUnpack(f"{folder} is not what was just written there; the disk or {archive} is damaged")
    return folder


def is_whole(folder: Path, files: dict[str, str]) -> bool:
    """Whether a folder holds these files (path to SHA-256) and no other, and nobody else may write there."""
    mine = {0, os.geteuid()}
    found = set()
    for place, folders, names in os.walk(folder):
        if any(os.path.islink(os.path.join(place, one)) for one in folders):
            return False
        for one in ("", *names):
            status = os.lstat(os.path.join(place, one))
            if status.st_uid not in mine or status.st_mode & NOT_BY_OTHERS:
                return False
        for name in names:
            path = Path(place, name)
            inside = path.relative_to(folder).as_posix()
            if path.is_symlink() or inside not in files:
                return False
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != files[inside]:
                    return False
            found.add(inside)
    return found == set(files)


def main(archive: Path) -> NoReturn:
    """Become ``wavegate-agent``."""
    try:
        folder = unpacked(archive, cache_root(dict(os.environ)))
    except CannotUnpack as error:
        sys.stderr.write(f"wavegate-agent: {error}\n")
        sys.exit(USAGE)
    sys.dont_write_bytecode = True  # a file too many and the folder would be made anew
    sys.path[:] = [str(folder), *(entry for entry in sys.path if _is_standard(entry))]
    from agent.main import main as agent

    agent()


def _is_standard(entry: str) -> bool:
    """Whether a folder of modules came with Python: what else is installed is not ours to be led by."""
    major, minor = sys.version_info[:2]
    return os.path.basename(entry) in {"lib-dynload", f"python{major}.{minor}", f"python{major}{minor}.zip"}


def _refuse_if_others_write(root: Path) -> None:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.stat()
    except OSError as error:
        raise CannotUnpack(f"{root} cannot be made ({error.strerror}); name it in WAVEGATE_AGENT_CACHE") from error
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & NOT_BY_OTHERS:
        raise CannotUnpack(f"others may write to {root}; name a folder of your own in WAVEGATE_AGENT_CACHE")


def _unpack(zipped: ZipFile, files: dict[str, str], folder: Path) -> None:
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    try:
        for inside in files:
            path = new / inside
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with zipped.open(LIBRARY + inside) as source, path.open("xb") as file:
                shutil.copyfileobj(source, file)
            path.chmod(0o644)
        for place, _, _ in os.walk(new):
            os.chmod(place, 0o755)
        _replace(folder, new, files)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    versions = [one for one in folder.parent.iterdir() if len(one.name) == len(folder.name)]
    for old in sorted(versions, key=lambda one: one.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _replace(folder: Path, new: Path, files: dict[str, str]) -> None:
    """Give the new folder its name. Not synced: what a power cut makes of it is found at the next start."""
    try:
        new.rename(folder)
    except OSError:
        if is_whole(folder, files):
            return  # another agent that started at the same moment was faster
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    main(Path(__file__).parent)
