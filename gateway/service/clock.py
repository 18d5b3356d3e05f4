"""Time: the store's, in a process that can't trust its own, and the time that a suspended machine did not see pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_COUNTS_SUSPENSION: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux CLOCK_MONOTONIC and the time for which the machine was suspended (clock_gettime(2)); elsewhere the former
counts that itself, or nothing does."""


def since_boot_s() -> float:
    """Return seconds that only ever go forward, suspended or not."""
    return time.clock_gettime(_COUNTS_SUSPENSION)


class StoreClock:
    """Redis's clock: as last heard, plus what has passed since by this process's monotonic clock.

    Ages of jobs are differences of Redis's own times, so that a replica whose clock is off by an hour polls like any
    other. Before Redis was heard for the first time, it is this process's clock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._ahead_s = wall() - monotonic()

    def hear(self, now_ms: int) -> None:
        """Take what Redis said just now, Unix milliseconds."""
        self._ahead_s = now_ms / 1000 - self._monotonic()

    def __call__(self) -> float:
        """Return the time, Unix seconds."""
        return self._monotonic() + self._ahead_s
