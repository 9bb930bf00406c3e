"""Who is in a wave: a range of buckets that a device can compute for itself."""

from __future__ import annotations

import hashlib
from typing import Final

from rollout.model import BUCKETS, Wave, WavePlan

BUCKETS_PER_PERCENT: Final = BUCKETS // 100


def bucket(salt: str, device: str) -> int:
    """Place a device between 0 and 9,999, evenly and for good.

    Args:
        salt: The rollout's salt, 32 lower-case hex characters (16 bytes).
        device: The device id as its certificate names it.

    Shares nest (1 % is inside 10 %) because a wave is the range from 0 up to its percent.
    """
    digest = hashlib.sha256(bytes.fromhex(salt) + device.encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def reach(percent: float) -> int:
    """The bucket below which a device is inside a share of ``percent`` (0 to 100, in hundredths)."""
    return round(percent * BUCKETS_PER_PERCENT)


def reach_of(plan: WavePlan, wave: Wave) -> int:
    """The bucket below which a device is inside a wave; one by count that has not opened reaches nobody yet."""
    if plan.count is None:
        return reach(plan.percent)
    return wave.reach or 0


def starts_after(salt: str, device: str, spread_seconds: int) -> int:
    """How many seconds after its wave's opening a device starts: evenly from 0 to below ``spread_seconds``.

    Not of the bucket's digest: within a wave all buckets are low ones.
    """
    if spread_seconds <= 0:
        return 0
    digest = hashlib.sha256(bytes.fromhex(salt) + b"spread" + device.encode()).digest()
    return int.from_bytes(digest[:8], "big") % spread_seconds
