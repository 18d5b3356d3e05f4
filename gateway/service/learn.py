"""Learning from jobs that ended: what to hold for the next ones of the model, and how long to expect them to take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from gateway.core.job import Job
from gateway.core.ports import Experience
from gateway.core.schedule import MAX_INTERVAL_S
from gateway.errors import StoreUnavailable
from gateway.service.rules import Rules

READ_S = 5.0
_UNSEEN_MS = 2 * MAX_INTERVAL_S * 1000


class Learner:
    """Notes what jobs teach, for all processes, and has the rules of this one go by it."""

    def __init__(
        self, experience: Experience, rules: Rules, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._experience = experience
        self._rules = rules
        self._sleep = sleep

    async def note(self, before: Job, after: Job) -> None:
        """Take a job that COMPLETED, as it was when the vendor last said that it ran, and as it ended.

        An estimated cost teaches nothing, nor does the duration of a job that nobody looked at for a while, or of a
        sync call. What the store does not take is lost: the next job teaches as much.
        """
        cost = None if after.estimated else after.cost
        duration_ms = _duration_ms(before, after)
        if cost is None and duration_ms is None:
            return
        with contextlib.suppress(StoreUnavailable):
            await self._experience.add(after.model, cost=cost, duration_ms=duration_ms)

    async def run(self) -> None:
        """Refresh the rules until cancelled; while the store does not answer, what was learned stays."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self.refresh()
            await self._sleep(READ_S)

    async def refresh(self) -> None:
        """Read what all processes have noted. Raises `StoreUnavailable`."""
        self._rules.learn(await self._experience.read())


def _duration_ms(before: Job, after: Job) -> int | None:
    """Return how long a job took, where its end was seen soon after it came."""
    if after.kind == "sync" or before.confirmed_ms is None or after.finished_ms is None:
        return None
    seen = after.finished_ms - before.confirmed_ms <= _UNSEEN_MS
    return after.finished_ms - after.created_ms if seen else None
