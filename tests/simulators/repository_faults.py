"""A disk and an index that stop or fail at a chosen step."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from evidence.model import AuditEvent
from repo_signing.model import ArtifactRecord
from repo_signing.repository import SignedRepository
from repo_signing.storage import LocalStorage
from tests.simulators.projection import ProjectionSimulator
from tests.simulators.repository import RepositoryHome

T = TypeVar("T")


class Crash(BaseException):
    """The process is dead. No code may catch it, and nothing works after it."""


class Faults:
    """Counts the steps of one run and interferes at step ``at`` (from 0; None: only counts).

    ``how`` is ``before`` or ``after`` (the process dies before or after the step), ``torn`` (it dies in the middle of a
    write; any other step it survives), or an OSError or other exception that the step raises once.
    """

    def __init__(self, at: int | None = None, how: str | Exception = "before") -> None:
        self.at = at
        self.how = how
        self.steps: list[str] = []
        self.is_dead = False

    def step(self, name: str, action: Callable[[], T], half: Callable[[], object] | None = None) -> T:
        if self.is_dead:
            raise Crash
        number = len(self.steps)
        self.steps.append(name)
        if number != self.at:
            return action()
        if isinstance(self.how, Exception):
            raise self.how
        if self.how == "torn":
            if half is None:
                return action()
            half()
        elif self.how == "after":
            action()
        self.is_dead = True
        raise Crash


class FaultyStorage(LocalStorage):
    """The real storage, each step under :class:`Faults`. It does not wait for the disk, and notes a double fsync."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._synced: set[int] = set()
        self.synced_twice = False

    def create(self, path: Path) -> int:
        descriptor = self._faults.step("create", lambda: super(FaultyStorage, self).create(path))
        self._synced.discard(descriptor)
        return descriptor

    def reopen(self, path: Path) -> int:
        descriptor = super().reopen(path)
        self._synced.discard(descriptor)
        return descriptor

    def write(self, descriptor: int, content: bytes | memoryview) -> None:
        half = bytes(content)[: len(content) // 2]
        self._faults.step(
            "write",
            lambda: super(FaultyStorage, self).write(descriptor, content),
            lambda: os.write(descriptor, half),
        )

    def sync(self, descriptor: int) -> None:
        self.synced_twice |= descriptor in self._synced
        self._synced.add(descriptor)
        self._faults.step("sync", lambda: None)

    def link(self, source: Path, name: Path) -> None:
        self._faults.step("link", lambda: super(FaultyStorage, self).link(source, name))

    def rename(self, source: Path, name: Path) -> None:
        self._faults.step("rename", lambda: super(FaultyStorage, self).rename(source, name))

    def remove(self, path: Path) -> None:
        self._faults.step("remove", lambda: super(FaultyStorage, self).remove(path))

    def make_folder(self, path: Path) -> None:
        self._faults.step("make_folder", lambda: super(FaultyStorage, self).make_folder(path))

    def sync_folder(self, path: Path) -> None:
        self._faults.step("sync_folder", lambda: None)

    def sync_file_system(self, descriptor: int) -> None:
        self._faults.step("sync_file_system", lambda: None)


class FaultyProjection:
    """An index whose transaction is one step: it is there whole or not at all."""

    def __init__(self, index: ProjectionSimulator, faults: Faults) -> None:
        self._index = index
        self._faults = faults

    def projected_serial(self) -> int:
        return self._index.projected_serial()

    def project(self, serial: int, artifacts: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        self._faults.step("project", lambda: self._index.project(serial, artifacts, events))

    def clear(self) -> None:
        self._faults.step("clear", self._index.clear)


def every_crash(
    home: RepositoryHome, folder: Path, action: Callable[[SignedRepository], object], *, stride: int = 1
) -> Iterator[RepositoryHome]:
    """Copies of ``home`` in which ``action`` died: before each of its steps, after the last, and in mid-write.

    With a ``stride`` only every so many steps, and each of the last twelve: those of a commit's end.
    """

    def run(at: int | None, how: str) -> tuple[Faults, RepositoryHome]:
        copied = folder / f"{at}-{how}"
        shutil.copytree(home.folder, copied, copy_function=os.link)
        case = RepositoryHome(copied, copy.deepcopy(home.projection), home.root, home.now)
        faults = Faults(at, how)
        with suppress(Crash):
            action(case.open(FaultyStorage(faults), FaultyProjection(case.projection, faults)))
        return faults, case

    counted, whole = run(None, "before")
    steps = counted.steps
    shutil.rmtree(whole.folder)
    assert steps, "an action without steps tests nothing"
    cases = [(at, "before") for at in range(len(steps))] + [(len(steps) - 1, "after")]
    cases += [(at, "torn") for at, step in enumerate(steps) if step == "write"]
    for at, how in cases:
        if at % stride and at < len(steps) - 12:
            continue
        faults, case = run(at, how)
        assert faults.is_dead
        yield case
        shutil.rmtree(case.folder)
