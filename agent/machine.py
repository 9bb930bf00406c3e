"""What of the device itself a command touches: its logs, its reboot, and what it says of either."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from agent.bundle import Bundle, Wanted, room
from agent.config import AgentConfig
from agent.home import Home
from agent.hooks import Outcome, run_command

REBOOT_SECONDS: Final = 60.0  # for the command to ask for a reboot, not for the reboot
MAX_WHY: Final = 500  # characters

_BOOT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Machine(Protocol):
    """The device."""

    def boot_id(self) -> str:
        """What this run of the system is called; empty when that is not known."""

    def reboot_pending(self) -> str:
        """Why a reboot is due, one line for people; empty when none is."""

    def can_reboot(self) -> bool:
        """Whether there is a command for it."""

    def reboot(self) -> Outcome:
        """Ask for a reboot; it may come at any moment from now on."""

    def bundle(self, most_bytes: int) -> Bundle:
        """Its logs, in no more than so many bytes."""


class HostMachine:
    """``Machine`` as the configuration describes it."""

    def __init__(self, home: Home, config: AgentConfig, clock: Callable[[], datetime]) -> None:
        self._home = home
        self._config = config
        self._clock = clock

    def boot_id(self) -> str:
        """As ``Machine``."""
        found = _first_line(Path(self._config.boot_id_file))
        return found if _BOOT_ID.fullmatch(found) else ""

    def reboot_pending(self) -> str:
        """As ``Machine``."""
        file = self._config.reboot_required_file
        if not file or not Path(file).exists():
            return ""
        return _first_line(Path(file))[:MAX_WHY] or f"{file} is there"

    def can_reboot(self) -> bool:
        """As ``Machine``."""
        return bool(self._config.reboot_command.strip())

    def reboot(self) -> Outcome:
        """As ``Machine``."""
        try:
            arguments = shlex.split(self._config.reboot_command)
        except ValueError as error:
            return Outcome(False, f"the reboot command cannot be read: {error}")
        more = {"WAVEGATE_ACTION": "reboot"}
        return run_command(arguments, REBOOT_SECONDS, name="the reboot command", log=self._home.reboot_log, more=more)

    def bundle(self, most_bytes: int) -> Bundle:
        """As ``Machine``."""
        wanted = Wanted(
            patterns=self._config.log_paths,
            most_bytes=min(self._config.log_bytes, room(most_bytes, self._config.log_files)),
            most_files=self._config.log_files,
            age=timedelta(days=self._config.log_days),
        )
        return Bundle(self._home, wanted, self._clock())


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            line = file.readline(4 * MAX_WHY)
    except OSError:
        return ""
    return "".join(c for c in line if c.isprintable()).strip()
