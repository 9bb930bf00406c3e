"""How many devices a wave is expected to reach, without a row per device."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Final

from rollout.cohort import bucket, reach
from rollout.model import BUCKETS, Rollout
from rollout.ports import Groups

EXACT_UP_TO: Final = 10_000  # devices of a group that are placed one by one, about 10 ms of hashing


def expected(rollout: Rollout, groups: Groups, *, number: int) -> int:
    """How many devices wave ``number`` reaches that no wave before it reached; see :func:`expected_all`."""
    return expected_all(rollout, groups, last=number)[number]


def unsure(rollout: Rollout, groups: Groups, *, number: int) -> int:
    """By how many devices :func:`expected` may be too high for wave ``number``: 0 where each was placed.

    In a large group who falls into a share is by chance: three standard deviations of it, so that in a thousand waves
    one is taken for larger than it is. Devices in two groups are not reckoned with.
    """
    plan = rollout.plan.waves[number - 1]
    size = groups.size(rollout.org, plan.group)
    if size <= EXACT_UP_TO:
        return 0
    before = max((wave.percent for wave in rollout.plan.waves[: number - 1] if wave.group == plan.group), default=0)
    share = (plan.percent - before) / 100
    return ceil(3 * sqrt(size * share * (1 - share)))


def expected_all(rollout: Rollout, groups: Groups, *, last: int | None = None) -> dict[int, int]:
    """Wave number to the devices it reaches that no wave before it reached, for waves 1 to ``last``.

    Exact for groups of up to 10,000 devices: each is placed by its bucket and counts in the first wave that reaches
    it, as its report will. For larger ones it is size times share, and a device in two groups is counted in both.
    """
    waves = rollout.plan.waves[:last]
    reached: dict[int, int] = {}
    small: dict[str, dict[str, int]] = {}
    sizes = {name: groups.size(rollout.org, name) for name in {wave.group for wave in waves}}
    placed: set[str] = set()
    share: dict[str, int] = {}
    for number, wave in enumerate(waves, start=1):
        before, share[wave.group] = share.get(wave.group, 0), reach(wave.percent)
        if sizes[wave.group] > EXACT_UP_TO:
            reached[number] = sizes[wave.group] * (share[wave.group] - before) // BUCKETS
            continue
        if wave.group not in small:
            members = groups.members(rollout.org, wave.group)
            small[wave.group] = {device: bucket(rollout.salt, device) for device in members}
        inside = {device for device, place in small[wave.group].items() if place < share[wave.group]}
        reached[number] = len(inside - placed)
        placed |= inside
    return reached
