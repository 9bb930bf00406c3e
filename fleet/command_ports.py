"""What commands need from outside; ``store`` fulfils it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from evidence.model import AuditEvent
from fleet.command import Bundle, Command, Kind, Moved
from fleet.model import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A device that needs a reboot, or has one scheduled. ``why`` is its own word, empty when it needs none."""

    device: Device
    why: str
    scheduled: Command | None


class CommandRows(Protocol):
    """Commands at rest. Every method is one transaction, events in it; ``org`` is the slug."""

    def add(self, choose: Callable[[Sequence[Command]], tuple[Command, Sequence[Moved]]], event: AuditEvent) -> Command:
        """Ask ``choose`` with the open commands of the event's subject, which nobody changes meanwhile, for the
        command to add and what that does to others; no event is written when it answers one of those."""

    def command(self, org: str, command_id: str) -> Command:
        """Raises UnknownCommand."""

    def change(self, org: str, command_id: str, change: Callable[[Command], Moved]) -> Command:
        """Keep what ``change`` makes of it; raises UnknownCommand, and what ``change`` raises: nothing is kept then."""

    def open_of(self, org: str, device: str) -> Sequence[Command]:
        """Open commands of a device, the oldest first."""

    def of_device(self, org: str, device: str, kind: Kind, *, after: str | None, limit: int) -> Sequence[Command]:
        """Commands of a device of a kind, the newest first, behind the one of the id ``after``."""

    def count_of_device(self, org: str, device: str, kind: Kind) -> int:
        """How many there are."""

    def overdue(self, org: str, now: datetime, *, limit: int) -> Sequence[Command]:
        """Open commands whose time is over."""

    def pending(self, org: str, *, after: str | None, limit: int) -> Sequence[Pending]:
        """Devices that need a reboot or have one scheduled, in order of id, behind the device ``after``."""

    def count_pending(self, org: str) -> int:
        """How many there are."""

    def keep_bundle(self, bundle: Bundle, change: Callable[[Command], Moved], *, most: int) -> None:
        """Keep what ``change`` makes of the bundle's command, and the bundle with it.

        Raises UnknownCommand, LogQuotaReached (all bundles of the organisation would have more than ``most`` bytes)
        and what ``change`` raises; nothing is kept then.
        """

    def bundles(self, org: str, commands: Sequence[str]) -> Mapping[str, Bundle]:
        """Those of these commands' bundles that are kept."""

    def bytes_kept(self, org: str) -> int:
        """Of all bundles of the organisation."""

    def forget_bundles(self, org: str, now: datetime, *, limit: int) -> Sequence[str]:
        """Forget bundles that are to be kept no longer; the names of their files."""

    def forget_bundle(self, org: str, command_id: str, event: AuditEvent) -> Bundle | None:
        """Forget one; None, and no event, when there is none."""

    def known_files(self, org: str, names: Sequence[str]) -> frozenset[str]:
        """Which of these files are those of bundles that are kept."""


class Staged(Protocol):
    """A bundle on its way in."""

    def write(self, piece: bytes) -> None:
        """Take a piece; raises LogsTooLarge."""

    @property
    def sha256(self) -> str:
        """Of what came, lower-case hex."""

    @property
    def length(self) -> int:
        """Of what came, bytes."""

    def keep(self, name: str) -> None:
        """Give it its name, durably."""


class BundleFiles(Protocol):
    """The bytes of bundles, each organisation's for itself."""

    def stage(self, org: str, *, limit: int) -> AbstractContextManager[Staged]:
        """Begin to take one in; what was not kept when the block ends is gone."""

    def fetch(self, org: str, name: str) -> Path | None:
        """Where the bytes are, here; None when they are nowhere."""

    def remove(self, org: str, name: str) -> None:
        """Remove one, if it is there."""

    def left_over(self, org: str, now: datetime) -> Sequence[str]:
        """Files older than a day, which may have no bundle any more; what broke off in staging is removed."""
