"""Heartbeats written together: a call that says nothing new is answered first and stored within a second.

What is lost when the server is killed is the time of a call, and a host name or a line for people that changed with it;
the device says all of it again at its next call. What decides anything (platform, what runs, the end of a silence) is
stored before the answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from fleet.model import CheckIn, Device
from fleet.ports import Fleet
from fleet.rules import ONLINE_WITHIN

FLUSH_SECONDS: Final = 1.0
MOST: Final = 5_000  # held back; more than that are written at once, in a tenth of a second

log: Final = logging.getLogger(__name__)


def is_news(device: Device, what: CheckIn, online_within: timedelta = ONLINE_WITHIN) -> bool:
    """Whether a call changes what selectors look at, or ends a silence: it must then be stored before it is
    answered."""
    seen = device.last_seen_at
    return (
        seen is None
        or what.at - seen > min(ONLINE_WITHIN, online_within)
        or (what.platform or device.platform) != device.platform
        or {one.product: one for one in what.running} != device.running
    )


def is_the_same(device: Device, what: CheckIn) -> bool:
    """Whether a call that is no news says what is stored, but for its time."""
    told = (what.agent_version, what.hostname, what.os_family, what.os_name, what.state, what.reboot_pending)
    return told == (
        device.agent_version,
        device.hostname,
        device.os_family,
        device.os_name,
        device.state,
        device.reboot_pending,
    )


class Heartbeats:
    """Takes check-ins; a thread writes those that can wait. Times of these are kept to the second."""

    def __init__(self, fleet: Fleet, *, every: float = FLUSH_SECONDS, online_within: timedelta = ONLINE_WITHIN) -> None:
        self._fleet = fleet
        self._online_within = online_within
        self._every = every
        self._lock = threading.Lock()  # of what waits
        self._writing = threading.Lock()  # of a batch under way
        self._under_way: frozenset[str] = frozenset()
        self._waiting: dict[str, dict[str, CheckIn | datetime]] = {}  # by organisation and device; a time: just seen
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="wavegate-heartbeats", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits and end; a check-in after that is stored at once."""
        self._ended = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def take(self, device: Device, what: CheckIn) -> bool:
        """Store now what is news, else within a second; whether it was news. Raises what the fleet raises."""
        if self._ended or is_news(device, what, self._online_within):
            # An older call of the device, still waiting or being written, must not overwrite this one.
            if self._forget(device):
                with self._writing:
                    pass
                self._forget(device)  # a batch that failed waits again
            self._fleet.check_in(device.org, device.id, what)
            return True
        with self._lock:
            waiting = self._waiting.setdefault(device.org, {})
            at = what.at.replace(microsecond=0)  # devices that call within one second share a statement
            # While a batch holds the device, what was read of it may be about to change.
            is_seen = is_the_same(device, what) and device.id not in self._under_way
            waiting[device.id] = at if is_seen else replace(what, at=at)
            if len(waiting) >= MOST:
                self._wake.set()
        return False

    def flush(self) -> int:
        """Write what waits; how many devices that were. On an error all of it waits on, and the error is raised."""
        written = 0
        with self._writing:
            with self._lock:
                batches, self._waiting = {org: said for org, said in self._waiting.items() if said}, {}
                self._under_way = frozenset(device for said in batches.values() for device in said)
            try:
                while batches:
                    org = next(iter(batches))
                    said, seen = _sorted_out(batches[org])
                    written += self._fleet.check_in_many(org, said)
                    batches[org] = dict(seen)
                    written += self._fleet.seen_many(org, seen)
                    del batches[org]
            finally:
                with self._lock:
                    self._under_way = frozenset()
                    for org, left in batches.items():
                        self._waiting[org] = {**left, **self._waiting.get(org, {})}
        return written

    def _forget(self, device: Device) -> bool:
        """Drop what waits of a device; whether a batch under way holds it."""
        with self._lock:
            self._waiting.get(device.org, {}).pop(device.id, None)
            return device.id in self._under_way

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait(self._every)
            self._wake.clear()
            try:
                self.flush()
            except Exception:
                # The devices were answered; what they said waits for the next turn.
                log.exception("heartbeats could not be written; they wait")


def _sorted_out(waiting: Mapping[str, CheckIn | datetime]) -> tuple[dict[str, CheckIn], dict[str, datetime]]:
    said: dict[str, CheckIn] = {}
    seen: dict[str, datetime] = {}
    for device, what in waiting.items():
        if isinstance(what, datetime):
            seen[device] = what
        else:
            said[device] = what
    return said, seen
