"""The census: what stands in the store, counted for the gauges of this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from gateway.core.job import JobState
from gateway.core.ports import Gauges, Jobs, Sweeper
from gateway.core.queue import Standing
from gateway.core.quota import Window
from gateway.errors import StoreUnavailable

CENSUS_S = 15.0


class Census:
    """Counts running jobs and reads every tenant's budgets. Every process counts for itself, as each is scraped."""

    def __init__(
        self,
        *,
        sweeper: Sweeper,
        jobs: Jobs,
        gauges: Gauges,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sweeper = sweeper
        self._jobs = jobs
        self._gauges = gauges
        self._sleep = sleep

    async def run(self) -> None:
        """Count until cancelled; while the store does not answer, the last figures stay."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self.count()
            await self._sleep(CENSUS_S)

    async def count(self) -> None:
        """Count once. Raises `StoreUnavailable`."""
        standings: list[Standing] = []
        budgets: dict[str, list[Window]] = {}
        async for some in self._sweeper.standings():
            standings += some
            windows = await asyncio.gather(*(self._jobs.windows(standing.tenant) for standing in some))
            for standing, of_tenant in zip(some, windows, strict=True):
                budgets[standing.tenant] = [w for w in of_tenant if w.limit is not None or w.spent or w.held]
        sending, unknown = sum(s.sending for s in standings), sum(s.unknown for s in standings)
        accepted = max(0, sum(s.active for s in standings) - sending - unknown)
        self._gauges.set_jobs({JobState.SENDING: sending, JobState.ACCEPTED: accepted, JobState.UNKNOWN: unknown})
        self._gauges.set_budgets(budgets)
