"""How many polls may be under way: as many as configured, until the vendor answers 429."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_PAUSE_S = 60.0


class Throttle:
    """Additive increase, multiplicative decrease (as TCP, RFC 5681), with a pause at each 429.

    Every process learns from the refusals of its own polls.

    Args:
        most: Polls under way at most.
        clock: Monotonic seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._window = float(most)
        self._until = 0.0
        self._pauses = 0

    @property
    def window(self) -> int:
        """How many polls may be under way."""
        return int(self._window)

    def pause_s(self) -> float:
        """Return the seconds for which no poll may be made; 0 when they may."""
        return max(0.0, self._until - self._clock())

    def refused(self, retry_after_s: float) -> float:
        """Take a 429: pause as the vendor says, longer each time in a row; then go on with half as many polls.

        Refusals of polls that were under way when the pause began don't count again. Returns the seconds to pause.
        """
        if self.pause_s() == 0:
            self._window = max(1.0, self._window / 2)
            self._pauses += 1
        pause_s = max(retry_after_s, min(2.0**self._pauses, MAX_PAUSE_S))
        self._until = max(self._until, self._clock() + pause_s)
        return self.pause_s()

    def accepted(self) -> None:
        """Take an answer: when as many as now were borne, one more may be under way."""
        if self._window < self._most and self.pause_s() == 0:
            self._pauses = 0
            self._window = min(self._window + 1 / self._window, float(self._most))
