"""Who is in a wave: a range of buckets that a device can compute for itself."""

from __future__ import annotations

import hashlib
from typing import Final

from rollout.model import BUCKETS

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


def reach(percent: int) -> int:
    """The bucket below which a device is inside a share of ``percent`` (0 to 100)."""
    return percent * BUCKETS_PER_PERCENT
