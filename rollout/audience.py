"""How many devices a wave is expected to reach, without a row per device, and how far a wave by count must reach."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Final

from rollout import cohort
from rollout.cohort import bucket, reach_of
from rollout.documents import opened, widest_reach
from rollout.model import BUCKETS, Rollout
from rollout.ports import Groups

EXACT_UP_TO: Final = 10_000  # devices of a group that are placed one by one, about 10 ms of hashing
LeftOut = tuple[frozenset[str], frozenset[str]]  # devices (ids) and groups (names) that are not to take the release
NOBODY: Final[LeftOut] = (frozenset(), frozenset())


def expected(rollout: Rollout, groups: Groups, *, number: int, left_out: LeftOut = NOBODY) -> int:
    """How many devices wave ``number`` reaches that no wave before it reached; see :func:`expected_all`."""
    return expected_all(rollout, groups, last=number, left_out=left_out)[number]


def unsure(rollout: Rollout, groups: Groups, *, number: int) -> int:
    """By how many devices :func:`expected` may be too high for wave ``number``: 0 where each was placed.

    In a large group who falls into a share is by chance: three standard deviations of it, so that in a thousand waves
    one is taken for larger than it is. Devices in two groups are not reckoned with.
    """
    plan = rollout.plan.waves[number - 1]
    size = groups.size(rollout.org, plan.group)
    if size <= EXACT_UP_TO:
        return 0
    same = [one for one, wave in enumerate(rollout.plan.waves[:number], start=1) if wave.group == plan.group]
    before = max((share(rollout, one, size) for one in same[:-1]), default=0)
    part = max(0, share(rollout, number, size) - before) / BUCKETS
    return ceil(3 * sqrt(size * part * (1 - part)))


def expected_all(
    rollout: Rollout, groups: Groups, *, last: int | None = None, left_out: LeftOut = NOBODY
) -> dict[int, int]:
    """Wave number to the devices it reaches that no wave before it reached, for waves 1 to ``last``.

    Exact for groups of up to 10,000 devices: each is placed by its bucket and counts in the first wave that reaches
    it, as its report will; those left out count nowhere. For larger ones it is size times share, a device in two
    groups is counted in both, and only a group that is left out as a whole is not counted. A wave by count that has
    not opened is taken to reach that many.
    """
    waves = rollout.plan.waves[:last]
    reached: dict[int, int] = {}
    small: dict[str, dict[str, int]] = {}
    sizes = {name: groups.size(rollout.org, name) for name in {wave.group for wave in waves}}
    placed = devices_left_out(rollout.org, groups, left_out)
    reach: dict[str, int] = {}
    for number, wave in enumerate(waves, start=1):
        if wave.group in left_out[1]:
            reached[number] = 0
            continue
        before = reach.get(wave.group, 0)
        if sizes[wave.group] > EXACT_UP_TO:
            reach[wave.group] = max(before, share(rollout, number, sizes[wave.group]))
            reached[number] = sizes[wave.group] * (reach[wave.group] - before) // BUCKETS
            continue
        if wave.group not in small:
            members = groups.members(rollout.org, wave.group)
            small[wave.group] = {device: bucket(rollout.salt, device) for device in members}
        places = small[wave.group]
        reach[wave.group] = max(before, share(rollout, number, sizes[wave.group], sorted(places.values())))
        inside = {device for device, place in places.items() if place < reach[wave.group]}
        reached[number] = len(inside - placed)
        placed |= inside
    return reached


def reach_by_count(rollout: Rollout, groups: Groups, *, number: int) -> int | None:
    """The range of buckets with which wave ``number`` opens now; None for a wave in percent.

    At least what the group's waves before it reach, so that cohorts only grow. Exact for groups of up to 10,000
    devices but for two in one bucket; the devices of today decide, who joins later falls into the range or not.
    """
    plan = rollout.plan.waves[number - 1]
    if plan.count is None:
        return None
    size = groups.size(rollout.org, plan.group)
    members = groups.members(rollout.org, plan.group) if size <= EXACT_UP_TO else ()
    places = sorted(bucket(rollout.salt, device) for device in members)
    has_opened = any(
        one.group == plan.group and opened(wave) for one, wave in zip(rollout.plan.waves, rollout.waves, strict=True)
    )
    return max(widest_reach(rollout, plan.group) if has_opened else 0, _reach(plan.count, size, places))


def share(rollout: Rollout, number: int, size: int, places: list[int] | None = None) -> int:
    """The bucket below which wave ``number`` reaches; for one by count that has not opened, what it would be now.

    ``size`` is that of its group, ``places`` the buckets of a small group's devices, ascending.
    """
    plan, wave = rollout.plan.waves[number - 1], rollout.waves[number - 1]
    if plan.count is None:
        return cohort.reach(plan.percent)
    return reach_of(plan, wave) if opened(wave) else _reach(plan.count, size, places or [])


def _reach(count: int, size: int, places: list[int]) -> int:
    """``places`` are the buckets of a group small enough to be looked at, ascending; empty for a large one."""
    if size > EXACT_UP_TO:
        return min(BUCKETS, -(-count * BUCKETS // size))
    return places[min(count, len(places)) - 1] + 1 if places else 0


def devices_left_out(org: str, groups: Groups, left_out: LeftOut) -> set[str]:
    """The devices left out one by one, and those of the groups left out that are small enough to be looked at."""
    devices = set(left_out[0])
    for group in left_out[1]:
        if groups.size(org, group) <= EXACT_UP_TO:
            devices |= set(groups.members(org, group))
    return devices
