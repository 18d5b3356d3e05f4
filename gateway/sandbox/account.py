"""The vendor's account: its balance, which falls as jobs complete, and its rate limit."""

from __future__ import annotations

import heapq
from decimal import Decimal

from gateway.sandbox.jobs import Job

_WINDOW_S = 60.0


class Account:
    """Keep the credits of the one account that the sandbox plays."""

    def __init__(self, balance: Decimal) -> None:
        self._balance = balance
        self._due: list[tuple[float, int, Decimal]] = []
        self._added = 0
        self._window_start = 0.0
        self._window_calls = 0

    def bill_at_end(self, job: Job) -> None:
        """Charge `job` at the moment it completes."""
        if job.billed:
            self._added += 1
            heapq.heappush(self._due, (job.ends_at, self._added, job.billed))

    def remaining(self, now: float) -> Decimal:
        """Return the credits left at `now` (epoch seconds)."""
        while self._due and self._due[0][0] <= now:
            self._balance -= heapq.heappop(self._due)[2]
        return self._balance

    def set_balance(self, balance: Decimal, now: float) -> None:
        """Set the credits left; jobs still running are charged on top."""
        self.remaining(now)
        self._balance = balance

    def take_slot(self, now: float, limit_rpm: int | None) -> float | None:
        """Count one call against the minute; return when the minute ends (epoch seconds) if it is used up."""
        if limit_rpm is None:
            return None
        start = now - now % _WINDOW_S
        if start != self._window_start:
            self._window_start, self._window_calls = start, 0
        if self._window_calls >= limit_rpm:
            return start + _WINDOW_S
        self._window_calls += 1
        return None
