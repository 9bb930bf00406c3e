"""A fleet of simulated devices: enrolled a few at once, then polled on time by a few threads."""

from __future__ import annotations

import heapq
import math
import random
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.config import AgentConfig
from agent.enrol import Enrolment, enroll
from agent.errors import AgentError, EnrolmentBusy
from agent.home import Home
from agent.link import Facts
from agent.simulation.device import SimulatedDevice
from agent.simulation.profiles import Profile, assigned, nature_of
from agent.simulation.tally import Tally

ENROL_AT_ONCE: Final = 8  # a key and a certificate are work on both sides, and both wait for their disks
MOST_THREADS: Final = 256  # devices that sleep in a simulated call or install hold one each
AT_WORK: Final = 16  # threads that do not sleep; more would wait for each other, and that be taken for a slow server
KEPT_CONNECTIONS: Final = 20_000  # devices; each takes 0.12 MiB here and 0.09 MiB of the server while connected
OTHER_FILES: Final = 200  # of this process, beside the two connections of each device
TOLD_EVERY_SECONDS: Final = 5.0
_JITTER: Final = 0.1  # of the interval, as the agent's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What to simulate. Spans are seconds; ``profiles`` are percents by name."""

    url: str
    token: str = field(repr=False)
    folder: Path
    devices: int
    duration: float
    interval: float
    seed: int
    platform: str
    profiles: Mapping[str, int]
    products: Sequence[str] = ()
    allow_http: bool = False
    keep: bool = False

    def name_of(self, number: int) -> str:
        """The name of a device, the same in every run with this seed."""
        return f"sim-{self.seed}-{number:05}"


def kept(devices: int, files: float) -> tuple[bool, bool]:
    """Whether so many devices keep their channels to the device port between polls, and whether also their connections
    to the repository, in a process that may have so many files open."""
    # The channels first: a handshake of mutual TLS costs as much CPU as a poll.
    left = min(KEPT_CONNECTIONS, files - OTHER_FILES) - devices
    return left >= 0, left >= 0 and devices <= files - OTHER_FILES - devices


class Fleet:
    """The devices of one simulation. ``stop`` ends whatever is under way, ``say`` tells a person one line."""

    def __init__(self, orders: Orders, tally: Tally, stop: threading.Event, say: Callable[[str], None]) -> None:
        self._orders = orders
        self._tally = tally
        self._stop = stop
        self._say = say
        self._profiles = assigned(orders.devices, orders.profiles, random.Random(orders.seed))
        self._devices: dict[int, SimulatedDevice] = {}
        self._told_at = 0.0
        self._first_came_at = math.inf
        self._end = 0.0  # by time.monotonic(); nobody sleeps before the time has begun
        self._turns = threading.Semaphore(AT_WORK)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._keeps_channels, self._keeps_connections = kept(
            orders.devices, math.inf if most == resource.RLIM_INFINITY else most
        )

    @property
    def ids(self) -> list[str]:
        """Of the devices that are enrolled, in the order of their numbers."""
        return [device.id for _, device in sorted(self._devices.items())]

    @property
    def profiles(self) -> Mapping[str, int]:
        """How many devices have which profile, those with none left out."""
        return {p.value: count for p in Profile if (count := self._profiles.count(p))}

    def enrol(self) -> None:
        """Give every device a key and a certificate, and have it poll at once, as the agent does.

        So it has its connections, and what the repository holds, when the time begins: thousands that come for the
        first time in the same minute are no fleet. A device that is refused is counted as an error, and the others
        go on.

        Raises:
            AgentError: The very first is refused, so all would be.
        """
        self._enrol(0)
        self._first_came_at = time.monotonic()
        failed = 0
        with ThreadPoolExecutor(ENROL_AT_ONCE) as pool:
            for done in [pool.submit(self._enrol, number) for number in range(1, self._orders.devices)]:
                try:
                    done.result()
                except AgentError as error:
                    self._tally.error(error.code)
                    failed += 1
                    if failed == 1:
                        self._say(f"a device could not enrol: {error}")
                self._tell(lambda: f"enrolled {len(self._devices)} of {self._orders.devices}")
        self._say(f"enrolled {len(self._devices)} of {self._orders.devices}")

    def run(self) -> float:
        """Poll every device in its interval until the time is over, or somebody stops it; the seconds it took."""
        loud = [n for n in sorted(self._devices) if self._profiles[n] is not Profile.SILENT]
        self._settle(loud)
        self._say("the time begins")
        self._tally.begin()
        began = time.monotonic()
        self._end = began + self._orders.duration
        step = self._orders.interval / max(1, len(self._devices))
        due = [(began + place * step, number) for place, number in enumerate(loud)]  # spread, and a heap as it is
        lock = threading.Lock()
        jitter = random.Random(self._orders.seed)

        def work() -> None:
            while True:
                with lock:
                    if not due:
                        return  # each of the others is in somebody's hands
                    at, number = heapq.heappop(due)
                if at >= self._end or self._stop.wait(max(0.0, at - time.monotonic())):
                    return
                self._tally.behind(time.monotonic() - at)
                self._poll(number)
                pause = self._orders.interval * jitter.uniform(1 - _JITTER, 1 + _JITTER)
                with lock:
                    heapq.heappush(due, (max(at + pause, time.monotonic()), number))
                self._tell(self._tally.line)

        with ThreadPoolExecutor(max(1, min(MOST_THREADS, len(loud)))) as pool:
            for done in [pool.submit(work) for _ in range(min(MOST_THREADS, len(loud)))]:
                done.result()
        self._stop.wait(max(0.0, self._end - time.monotonic()))
        return time.monotonic() - began

    def close(self) -> None:
        """Hang up all; each home that is kept has its device's last state then."""
        for device in self._devices.values():
            device.close(leave_state=self._orders.keep)

    def summary(self) -> dict[str, Any]:
        """What the fleet is and did, as JSON values."""
        return {"devices": self._orders.devices, "profiles": dict(self.profiles), **self._tally.summary()}

    def _settle(self, loud: Sequence[int]) -> None:
        """Poll all once more, in their interval, if they enrolled for longer than that.

        Whoever was not heard of meanwhile is offline to the server, and its return is news: no part of the time.
        """
        began = time.monotonic()
        if not loud or began - self._first_came_at < self._orders.interval:
            return
        step = self._orders.interval / len(loud)

        def work(place: int, number: int) -> None:
            if not self._stop.wait(max(0.0, began + place * step - time.monotonic())):
                self._poll(number)
                self._tell(self._tally.line)

        self._say("all poll once more before the time begins")
        with ThreadPoolExecutor(AT_WORK) as pool:
            list(pool.map(work, range(len(loud)), loud))

    def _poll(self, number: int) -> None:
        device = self._devices[number]
        try:
            with self._turns:
                device.poll()
        except (AgentError, OSError) as error:
            self._tally.error(getattr(error, "code", "home_not_writable"))
        if not self._keeps_connections:
            device.hang_up(keep_channel=self._keeps_channels)

    def _sleep(self, seconds: float) -> None:
        """Within a poll, at most until the end of all: let another device work meanwhile."""
        if seconds > 0:
            self._turns.release()
            try:
                self._stop.wait(max(0.0, min(seconds, self._end - time.monotonic())))
            finally:
                self._turns.acquire()

    def _enrol(self, number: int) -> None:
        orders, name = self._orders, self._orders.name_of(number)
        home = Home(orders.folder / name)
        config = AgentConfig(
            platform=orders.platform,
            products=tuple(orders.products),
            interval_seconds=max(0.1, orders.interval),
            health_pause_seconds=0.0,
        )
        facts = Facts(
            agent_version="simulated", hostname=name, os_family="linux", os_name="simulated", platform=orders.platform
        )
        asked = Enrolment(url=orders.url, token=orders.token, name=name, allow_http=orders.allow_http)
        while not self._stop.is_set():
            try:
                identity = enroll(home, asked, config, facts, now=_now())
            except EnrolmentBusy as busy:
                self._say(f"the server lets nobody in for {busy.again_seconds:.0f} s")
                self._stop.wait(busy.again_seconds)
                continue
            nature = nature_of(
                self._profiles[number],
                random.Random(f"{orders.seed}:{number}"),
                interval=orders.interval,
                wait=self._sleep,
                clock=_now,
            )
            self._devices[number] = SimulatedDevice(
                home, identity, config, facts, nature, tally=self._tally, stopping=self._stop.is_set
            )
            self._tally.count("enrolled")
            if self._profiles[number] is not Profile.SILENT:
                self._poll(number)
            return

    def _tell(self, line: Callable[[], str]) -> None:
        now = time.monotonic()
        if now - self._told_at >= TOLD_EVERY_SECONDS:
            self._told_at = now
            self._say(line())


def _now() -> datetime:
    return datetime.now(UTC)
