"""A disk that loses power: which states of a folder can be found when it comes back.

What was fsynced stays: content of a file by ``fsync`` of the file, names in a folder by ``fsync`` of the folder. Of
everything else the disk may have kept any of it: of the names made, moved and removed in a folder since it was last
synced any first part (file systems that keep order) or any choice (those that do not); of content not synced all, half
or nothing. Folders are independent of each other.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repo_signing.storage import LocalStorage

Tree = Mapping[str, bytes]

_MOST_CHOICES = 1_100  # of one folder; all of them for up to ten changes


@dataclass
class _File:
    content: bytes = b""
    synced: bytes | None = None  # what the disk has for certain


@dataclass(frozen=True)
class _Change:
    """One change of the names in a folder: ``name`` now is ``file``, or nothing; ``gone`` its name before."""

    name: str
    file: _File | None
    gone: str | None = None
    makes_folder: bool = False


@dataclass
class _Folder:
    names: dict[str, _File] = field(default_factory=dict)  # as on the disk for certain
    pending: list[_Change] = field(default_factory=list)


class PowerStorage(LocalStorage):
    """The real storage, which remembers what the disk has for certain and what it may have.

    ``on_step`` is called before each step and after the last by whoever wants to look at :meth:`states` then.
    """

    def __init__(self, top: Path, on_step: Callable[[], None]) -> None:
        self._top = top
        self._on_step = on_step
        self._folders: dict[Path, _Folder] = {}
        self._descriptors: dict[int, _File] = {}
        for folder in [top, *(path for path in top.rglob("*") if path.is_dir())]:
            names = {path.name: _File(c := path.read_bytes(), c) for path in folder.iterdir() if path.is_file()}
            self._folders[folder] = _Folder(names)

    def create(self, path: Path) -> int:
        self._on_step()
        descriptor = super().create(path)
        self._descriptors[descriptor] = made = _File()
        self._folders[path.parent].pending.append(_Change(path.name, made))
        return descriptor

    def write(self, descriptor: int, content: bytes | memoryview) -> None:
        self._on_step()
        super().write(descriptor, content)
        self._descriptors[descriptor].content += bytes(content)

    def sync(self, descriptor: int) -> None:
        self._on_step()
        file = self._descriptors[descriptor]
        file.synced = file.content

    def link(self, source: Path, name: Path) -> None:
        self._on_step()
        super().link(source, name)
        self._folders[name.parent].pending.append(_Change(name.name, self._now(source)))

    def rename(self, source: Path, name: Path) -> None:
        self._on_step()
        file = self._now(source)
        super().rename(source, name)
        self._folders[name.parent].pending.append(_Change(name.name, file, gone=source.name))

    def remove(self, path: Path) -> None:
        self._on_step()
        super().remove(path)
        self._folders[path.parent].pending.append(_Change(path.name, None))

    def make_folder(self, path: Path) -> None:
        self._on_step()
        super().make_folder(path)
        self._folders[path] = _Folder()
        self._folders[path.parent].pending.append(_Change(path.name, None, makes_folder=True))

    def sync_folder(self, path: Path) -> None:
        self._on_step()
        folder = self._folders[path]
        folder.names = _applied(folder.names, folder.pending)
        folder.pending = []

    def states(self, most: int = 40) -> Iterator[Tree]:
        """Trees, by path below the top, that may be found if the power goes now; at most so many, drawn the same way
        each time."""
        folders = list(self._folders)
        ways = [list(_kept(self._folders[folder].pending)) for folder in folders]
        unsure = [file for folder in folders for file in _unsynced(self._folders[folder])]
        choices = list(itertools.islice(itertools.product(*ways), 4096))
        contents = ("all", "half", "none") if unsure else ("all",)
        every = list(itertools.product(choices, contents))
        picked = every if len(every) <= most else [every[0], every[-1], *random.Random(0).sample(every, most - 2)]
        for kept, how in picked:
            yield self._tree(folders, kept, how)

    def _tree(self, folders: Sequence[Path], kept: Sequence[Sequence[_Change]], how: str) -> Tree:
        made = {
            folder: _applied(self._folders[folder].names, changes)
            for folder, changes in zip(folders, kept, strict=True)
        }
        lost = {
            folder / change.name
            for folder, changes in zip(folders, kept, strict=True)
            for change in self._folders[folder].pending
            if change.makes_folder and change not in changes
        }
        return {
            str((folder / name).relative_to(self._top)): _content(file, how)
            for folder, names in made.items()
            if folder not in lost
            for name, file in names.items()
        }

    def _now(self, path: Path) -> _File:
        folder = self._folders[path.parent]
        return _applied(folder.names, folder.pending)[path.name]


def materialise(tree: Tree, top: Path, template: Path) -> None:
    """Make ``top`` hold the tree; the folders are those of ``template``, and its files are linked where they agree."""
    for folder in [template, *(path for path in template.rglob("*") if path.is_dir())]:
        (top / folder.relative_to(template)).mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path, same = top / name, template / name
        path.parent.mkdir(exist_ok=True)
        if same.is_file() and same.name != "timestamp.json" and same.read_bytes() == content:
            os.link(same, path)
        else:
            path.write_bytes(content)


def remade(top: Path) -> None:
    """Empty a folder for the next state."""
    shutil.rmtree(top, ignore_errors=True)


def _applied(names: Mapping[str, _File], changes: Sequence[_Change]) -> dict[str, _File]:
    after = dict(names)
    for change in changes:
        if change.gone is not None:
            after.pop(change.gone, None)
        if change.file is not None:
            after[change.name] = change.file
        elif not change.makes_folder:
            after.pop(change.name, None)
    return after


def _kept(pending: Sequence[_Change]) -> Iterator[Sequence[_Change]]:
    """Every choice among the changes that the disk may have kept, those that keep their order first."""
    count = len(pending)
    seen: set[tuple[int, ...]] = set()
    prefixes = (tuple(range(length)) for length in range(count + 1))
    without = (tuple(n for n in range(count) if n != left_out) for left_out in range(count))
    any_of_them = (numbers for length in range(count + 1) for numbers in itertools.combinations(range(count), length))
    for numbers in itertools.islice(itertools.chain(prefixes, without, any_of_them), _MOST_CHOICES):
        if numbers not in seen:
            seen.add(numbers)
            yield [pending[number] for number in numbers]


def _unsynced(folder: _Folder) -> list[_File]:
    return [change.file for change in folder.pending if change.file is not None and change.file.synced is None]


def _content(file: _File, how: str) -> bytes:
    if file.synced == file.content or how == "all":
        return file.content
    certain = file.synced or b""
    return certain if how == "none" else file.content[: max(len(certain), len(file.content) // 2)]
