"""Build ``wavegate-agent.pyz``: our modules that the agent imports, and what ``requirements-agent.lock`` names.

``python -m agent.pyz [--wheels FOLDER] [-o FILE]``; ``make agent`` calls it. Without ``--wheels`` the locked
distributions are taken as they are installed here, each file held against its distribution's record, so that no network
is needed; with it out of wheels, each held against the lock, also for another machine. Same sources, same bytes.

Source: docs/adr/0142-the-agent-is-one-file.md
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from agent.unpack import CONTENTS, LIBRARY

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements-agent.lock"
OUTPUT: Final = ROOT / "dist/wavegate-agent.pyz"
SHEBANG: Final = b"#!/usr/bin/env python3\n"
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can tell
FILE_MODE: Final = 0o644
START: Final = "agent.main"

_LOCKED: Final = re.compile(r"^([a-z0-9-]+)==([\w.!+]+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# What the machine that installed it added, what only compilers and type checkers read, and programs.
_LEFT_OUT: Final = re.compile(
    r"(^|/)(__pycache__|tests?)/|\.(pyi|pyx|pxd|h|c)$|/py\.typed$|^\.\./|\.data/|"
    r"\.dist-info/(RECORD|INSTALLER|REQUESTED|WHEEL|direct_url\.json|entry_points\.txt|top_level\.txt|uv_cache\.json)$"
)
# Each in a process of its own with one hash seed, since both leave traces in the compiled bytes.
_COMPILE: Final = """
import py_compile, sys
from pathlib import Path
root = Path(sys.argv[1])
for path in sorted(root.rglob("*.py")):
    inside = str(path.relative_to(root))
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH  # the agent holds the source against its digest itself
    py_compile.compile(str(path), dfile=inside, doraise=True, invalidation_mode=mode)
"""


class CannotBuild(Exception):
    """The message says what to do."""


def locked(lock: Path = LOCK) -> Mapping[str, tuple[str, frozenset[str]]]:
    """Distribution to version and the SHA-256 of the files that it may come in."""
    found: dict[str, tuple[str, set[str]]] = {}
    name = ""
    for line in lock.read_text().splitlines():
        if begins := _LOCKED.match(line):
            name = begins[1]
            found[name] = (begins[2], set())
        elif is_hash := _HASH.search(line):
            found[name][1].add(is_hash[1])
    return {name: (version, frozenset(hashes)) for name, (version, hashes) in found.items()}


def our_modules(root: Path = ROOT, start: str = START) -> Iterator[tuple[str, bytes]]:
    """Path and content of ``start`` and of everything of this tree that it imports, at whatever depth."""
    waiting, seen = [start], set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        path = _file_of(root, module)
        if path is None:
            continue
        content = path.read_bytes()
        yield path.relative_to(root).as_posix(), content
        if "." in module:
            waiting.append(module.rpartition(".")[0])
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]


def installed(lock: Mapping[str, tuple[str, frozenset[str]]]) -> Iterator[tuple[str, bytes]]:
    """The files of the locked distributions as they are installed beside this Python."""
    for name, (version, _) in lock.items():
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            raise CannotBuild(f"{name} {version} is not installed here; run: make setup") from error
        if distribution.version != version:
            raise CannotBuild(f"{name} is {distribution.version} here, the lock names {version}; run: make setup")
        for file in distribution.files or ():
            if _LEFT_OUT.search(file.as_posix()):
                continue
            content = Path(str(file.locate())).read_bytes()
            recorded = "" if file.hash is None else file.hash.value
            if base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode() != recorded:
                raise CannotBuild(f"{file} of {name} was changed since it was installed; run: make clean setup")
            yield file.as_posix(), content


def from_wheels(folder: Path, lock: Mapping[str, tuple[str, frozenset[str]]]) -> Iterator[tuple[str, bytes]]:
    """The files of the locked distributions out of wheels, which must be the lock's, one of each."""
    left = dict(lock)
    for wheel in sorted(folder.glob("*.whl")):
        name = wheel.name.split("-")[0].lower().replace("_", "-")
        if hashlib.sha256(wheel.read_bytes()).hexdigest() not in left.pop(name, ("", frozenset()))[1]:
            raise CannotBuild(f"{wheel.name} is not a file that {LOCK.name} names, or a second one of {name}")
        with ZipFile(wheel) as zipped:
            for entry in zipped.infolist():
                if not entry.is_dir() and not _LEFT_OUT.search(entry.filename):
                    yield entry.filename, zipped.read(entry)
    if left:
        raise CannotBuild(f"{folder} has no wheel of {', '.join(left)}")


def build(output: Path, distributions: Iterable[tuple[str, bytes]], version: str) -> None:
    """Write the file; the old one stands until the new one is whole."""
    described = f"Metadata-Version: 2.1\nName: wavegate\nVersion: {version}\n".encode()
    files = dict(distributions) | dict(our_modules())
    files |= {f"wavegate-{version}.dist-info/METADATA": described, "LICENSE": (ROOT / "LICENSE").read_bytes()}
    abi = _abi(files)
    if abi.startswith(f".{sys.implementation.cache_tag}-"):
        files |= _compiled(files)  # bytecode is for a version of Python, not for a platform
    files = dict(sorted(files.items()))
    contents = {"abi": abi, "files": {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}}
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(SHEBANG)
            with ZipFile(file, "w") as zipped:
                _put(zipped, "__main__.py", (ROOT / "agent/unpack.py").read_bytes())
                _put(zipped, CONTENTS, json.dumps(contents, indent=0, sort_keys=True).encode())
                for path, content in files.items():
                    _put(zipped, LIBRARY + path, content)
        temporary.chmod(0o755)
        temporary.rename(output)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    """The command."""
    arguments = argparse.ArgumentParser(prog="make agent", description="Build wavegate-agent.pyz.")
    arguments.add_argument("--wheels", type=Path, help="take the distributions out of the wheels in this folder")
    arguments.add_argument("-o", "--output", type=Path, default=OUTPUT)
    asked = arguments.parse_args()
    lock = locked()
    try:
        files = installed(lock) if asked.wheels is None else from_wheels(asked.wheels, lock)
        build(asked.output, files, metadata.version("wavegate"))
    except CannotBuild as error:
        sys.stderr.write(f"make agent: {error}\n")
        sys.exit(1)
    sys.stdout.write(f"{asked.output}: {asked.output.stat().st_size} bytes\n")


def _file_of(root: Path, module: str) -> Path | None:
    place = root.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _abi(files: Iterable[str]) -> str:
    """The ending of the modules that only one version of Python, on one platform, loads."""
    endings = {path.rpartition("/")[2].partition(".")[2] for path in files if path.endswith(".so")}
    found = sorted("." + ending for ending in endings if ending.startswith("cpython-"))
    if len(found) != 1:
        raise CannotBuild(f"compiled modules of one Python on one platform expected, found {found or 'none'}")
    return found[0]


def _compiled(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Bytecode for every module, so that a start does not compile what cannot be kept."""
    with tempfile.TemporaryDirectory() as place:
        for path, content in files.items():
            if path.endswith(".py"):
                target = Path(place, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        subprocess.run([sys.executable, "-s", "-S", "-c", _COMPILE, place], env={"PYTHONHASHSEED": "0"}, check=True)
        return {p.relative_to(place).as_posix(): p.read_bytes() for p in Path(place).rglob("*.pyc")}


def _put(zipped: ZipFile, path: str, content: bytes) -> None:
    entry = ZipInfo(path, EPOCH)
    entry.compress_type, entry.create_system = ZIP_DEFLATED, 3
    entry.external_attr = FILE_MODE << 16
    zipped.writestr(entry, content)


if __name__ == "__main__":
    main()
