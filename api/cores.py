"""Threads that compute in Python, brought together on one core.

They cannot compute at once; on several cores they only wake each other for a lock that is taken again.

Source: docs/adr/0164-reads-keep-to-one-core.md
"""

from __future__ import annotations

import os
import random
import threading


class Cores:
    """Which cores a thread runs on. What it starts runs where it does: nothing that lasts is started together."""

    def __init__(self) -> None:
        self._all: frozenset[int] = frozenset()
        if hasattr(os, "sched_setaffinity"):  # on Linux
            self._all = frozenset(os.sched_getaffinity(0))
        self._one = frozenset(random.sample(sorted(self._all), 1)) if len(self._all) > 1 else self._all
        self._mine = threading.local()

    def together(self) -> None:
        """This thread runs on the core that is chosen for all who are together."""
        self._move(self._one)

    def apart(self) -> None:
        """This thread runs on whichever core is free."""
        self._move(self._all)

    def _move(self, cores: frozenset[int]) -> None:
        if cores is getattr(self._mine, "cores", self._all):
            return
        try:
            os.sched_setaffinity(0, cores)
        except OSError:  # cores were taken from this process; from now on it runs where it is let
            cores = self._one = self._all
        self._mine.cores = cores
