"""The two commands of the device's owner: install a file, and say whether what runs is well."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agent.state import Release

INSTALL: Final = "install"
ROLLBACK: Final = "rollback"
HEALTH: Final = "health"
TAIL: Final = 500  # characters of a command's output that a report carries
FILE_PLACEHOLDER: Final = "{file}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended; ``detail`` is one line for people, empty when it went well."""

    ok: bool
    detail: str = ""
    timed_out: bool = False


class Hooks(Protocol):
    """Installs and judges. Both may be called again for the same release after a power cut."""

    def install(self, release: Release, file: Path, action: str) -> Outcome:
        """Make ``file`` what runs; ``action`` is ``install`` or ``rollback``."""

    def healthy(self, release: Release, file: Path) -> Outcome:
        """Whether what runs now is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandHooks:
    """Runs commands without a shell, in a process group of their own, killed as a whole at the timeout.

    ``{file}`` in a command becomes the file's path; the environment has WAVEGATE_FILE, _FILE_NAME, _ACTION, _PRODUCT,
    _VERSION, _SHA256, _PLATFORM and _ROLLOUT. No install command: the verified file in the store is all there is to
    it. No health command: what installed is well. What a command prints goes to ``log``, which each run begins anew.
    """

    install_command: str
    health_command: str
    install_timeout_seconds: float
    health_timeout_seconds: float
    platform: str
    log: Path

    def install(self, release: Release, file: Path, action: str) -> Outcome:
        """As ``Hooks``; exit code 0 is success."""
        return self._run(self.install_command, self.install_timeout_seconds, release, file, action)

    def healthy(self, release: Release, file: Path) -> Outcome:
        """As ``Hooks``; exit code 0 is well."""
        return self._run(self.health_command, self.health_timeout_seconds, release, file, HEALTH)

    def _run(self, command: str, seconds: float, release: Release, file: Path, action: str) -> Outcome:
        if not command:
            return Outcome(True)
        arguments = [part.replace(FILE_PLACEHOLDER, str(file)) for part in shlex.split(command)]
        name = f"the {HEALTH if action == HEALTH else INSTALL} command"
        return run_command(arguments, seconds, name=name, log=self.log, more=self._environment(release, file, action))

    def _environment(self, release: Release, file: Path, action: str) -> Mapping[str, str]:
        return {
            "WAVEGATE_FILE": str(file),
            "WAVEGATE_FILE_NAME": release.path.rpartition("/")[2],
            "WAVEGATE_ACTION": action,
            "WAVEGATE_PRODUCT": release.product,
            "WAVEGATE_VERSION": release.version,
            "WAVEGATE_SHA256": release.sha256,
            "WAVEGATE_PLATFORM": self.platform,
            "WAVEGATE_ROLLOUT": release.rollout,
        }


def run_command(arguments: Sequence[str], seconds: float, *, name: str, log: Path, more: Mapping[str, str]) -> Outcome:
    """Run a command without a shell, in a process group of its own, killed as a whole at the timeout.

    ``name`` is what it is called in the outcome, ``log`` where its output goes, ``more`` is added to the environment.
    """
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **more},
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(False, f"{name} cannot be run: {error.strerror}")
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            return Outcome(False, f"{name} did not end within {seconds:g} s; {_tail(log)}", timed_out=True)
        except BaseException:
            _kill(process)  # an agent that is ended now will begin this step again; two must never run at once
            raise
    if code != 0:
        return Outcome(False, f"{name} ended with {code}; {_tail(log)}")
    return Outcome(True)


def _tail(log: Path) -> str:
    with log.open("rb") as output:
        output.seek(max(0, log.stat().st_size - 4 * TAIL))
        text = output.read().decode(errors="replace")
    shown = "".join(c if c.isprintable() else " " for c in text).strip()
    return shown[-TAIL:] or "it printed nothing"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
