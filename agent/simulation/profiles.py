"""How a simulated device behaves: what its network, its installs and its clock do, all drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from agent.errors import BadConfig, RepositoryAway, ServerAway
from agent.hooks import INSTALL, Outcome
from agent.state import Release

NO_BATTERY: Final = datetime(1970, 1, 1, tzinfo=UTC)  # what a device without a clock of its own wakes up to
AHEAD: Final = timedelta(days=400)
DOWN_PERCENT: Final = 40  # of a flapping device's polls find no network
LOST_PERCENT: Final = 20  # of what it says in the others arrives, and the answer does not


class Profile(StrEnum):
    """The ways of simulated devices."""

    OK = "ok"  # nothing goes wrong
    SLOW = "slow"  # every call takes up to a second more, an install half an interval to two
    FAILING = "failing"  # every install fails: the install command, or the health command after it
    FLAPPING = "flapping"  # the network is away in some polls, and loses answers in others
    WRONG_CLOCK = "wrong-clock"  # the clock shows 1970, or is more than a year ahead
    SILENT = "silent"  # enrols, and is not heard of again


def assigned(devices: int, percents: Mapping[str, int], rng: random.Random) -> list[Profile]:
    """A profile for each of so many devices; who is not spoken for is ``ok``.

    Raises:
        BadConfig: A name that is none, or percents that are negative or more than 100 together.
    """
    drawn: list[Profile] = []
    spoken_for = 0
    for name, percent in percents.items():
        if name not in {profile.value for profile in Profile}:
            raise BadConfig(f"there is no profile {name!r}; there are {', '.join(Profile)}")
        spoken_for += percent
        if percent < 0 or spoken_for > 100:
            raise BadConfig("the percents of the profiles are 0 to 100, and not more than 100 together")
        # Up to where the shares so far reach, so that rounding never makes a device too many.
        drawn += [Profile(name)] * (round(devices * spoken_for / 100) - len(drawn))
    drawn += [Profile.OK] * (devices - len(drawn))
    rng.shuffle(drawn)
    return drawn


@dataclass
class Network:
    """What lies between a device and everybody else."""

    rng: random.Random
    wait: Callable[[float], object]
    down_percent: int = 0
    lost_percent: int = 0
    delay_seconds: float = 0.0
    is_down: bool = False

    def turn(self) -> None:
        """A new poll, maybe other weather."""
        self.is_down = self.rng.random() * 100 < self.down_percent

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Around a call of the server: raises ServerAway before it when down, behind it when the answer gets lost."""
        self.wait(self.rng.random() * self.delay_seconds)
        if self.is_down:
            raise ServerAway("simulated: no network")
        yield
        if self.rng.random() * 100 < self.lost_percent:
            raise ServerAway("simulated: the answer got lost")

    def fetching(self) -> None:
        """Before the repository is asked: raises RepositoryAway when down."""
        self.wait(self.rng.random() * self.delay_seconds)
        if self.is_down:
            raise RepositoryAway("simulated: no network")


@dataclass
class SimulatedHooks:
    """``Hooks`` that install to nowhere: the verified file in the device's store is all there is to it."""

    wait: Callable[[float], object]
    install_seconds: float = 0.0
    installs: bool = True
    is_well: bool = True

    def install(self, release: Release, file: Path, action: str) -> Outcome:  # noqa: ARG002
        """As ``Hooks``; what ran before can always be put back."""
        self.wait(self.install_seconds)
        if action == INSTALL and not self.installs:
            return Outcome(False, "simulated: the install command ended with 1")
        return Outcome(True)

    def healthy(self, release: Release, file: Path) -> Outcome:  # noqa: ARG002
        """As ``Hooks``."""
        return Outcome(True) if self.is_well else Outcome(False, "simulated: the health command ended with 1")


@dataclass(frozen=True)
class Nature:
    """One device's profile, made concrete."""

    network: Network
    hooks: SimulatedHooks
    clock: Callable[[], datetime]


def nature_of(
    profile: Profile,
    rng: random.Random,
    *,
    interval: float,
    wait: Callable[[float], object],
    clock: Callable[[], datetime],
) -> Nature:
    """What a profile means for a device; ``wait`` sleeps so many seconds, ``clock`` is right."""
    network, hooks = Network(rng, wait), SimulatedHooks(wait)
    if profile is Profile.SLOW:
        network.delay_seconds = 1.0
        hooks.install_seconds = rng.uniform(0.5, 2.0) * interval
    elif profile is Profile.FAILING:
        hooks.installs = rng.random() < 0.5
        hooks.is_well = False
    elif profile is Profile.FLAPPING:
        network.down_percent, network.lost_percent = DOWN_PERCENT, LOST_PERCENT
    elif profile is Profile.WRONG_CLOCK:
        off = NO_BATTERY - clock() if rng.random() < 0.5 else AHEAD
        return Nature(network, hooks, lambda: clock() + off)
    return Nature(network, hooks, clock)
