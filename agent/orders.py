"""Commands that the server gave: each is written down before anything is done for it, and is carried out once.

===========  =================================================================================================
where        begun again after a power cut as
===========  =================================================================================================
held         a bundle is made and sent anew, five times at most; a reboot waits for its moment
rebooting    nothing is run again: another boot id says that it is done, the same one after a while that it is not
told         the result is said again until a check-in that had it was answered
===========  =================================================================================================

Ids of what ended are remembered, so that an answer that was late or sent twice does nothing again.
Source: docs/adr/0156-commands-are-answered-until-they-are-held.md
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol

from agent.bundle import Bundle
from agent.config import AgentConfig
from agent.errors import CallRefused, NotRecognised, ServerAway
from agent.hooks import Outcome
from agent.identity import load_credentials
from agent.home import Home
from agent.link import Order, UPLOADS
from agent.state import Held, Memory, OrderResult, Stage

LOGS: Final = "logs"
REBOOT: Final = "reboot"
MAX_UPLOADS: Final = 5
REBOOT_TAKES: Final = timedelta(minutes=15)  # from the command to another boot id; a big machine's firmware is slow

_LOG: Final = logging.getLogger(__name__)


class Machine(Protocol):
    """What of the device a command touches."""

    def boot_id(self) -> str:
        """What this run of the system is called; empty when that is not known."""

    def reboot(self) -> Outcome:
        """Run the reboot command; it may end before the system does."""

    def bundle(self, most_bytes: int) -> Bundle:
        """The configured logs, to be sent piece by piece."""


class Orders:
    """Takes commands up and carries them out; never in the middle of an install, for it is asked between steps."""

    def __init__(
        self,
        home: Home,
        config: AgentConfig,
        memory: Memory,
        link: UPLOADS,
        machine: Machine,
        clock: Callable[[], datetime],
        zone: tzinfo = UTC,
    ) -> None:
        self._home = home
        self._config = config
        self._memory = memory
        self._link = link
        self._machine = machine
        self._clock = clock
        self._zone = zone
