"""Words on their way to the due queue: gathered for a moment, so that nobody waits for it and many share a trip."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.core.ports import Due
from gateway.core.queue import DueEntry
from gateway.errors import StoreUnavailable

FLUSH_S = 0.1


class Watchlist:
    """Tells the due queue soon. What it loses when its process dies, the sweep of active jobs puts right.

    Args:
        due: The queue.
        sleep: Waits that many seconds.
        monotonic: Seconds; a job is not due later for having waited here.
    """

    def __init__(
        self,
        due: Due,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._due = due
        self._sleep = sleep
        self._monotonic = monotonic
        self._later: dict[tuple[str, str], tuple[DueEntry, float]] = {}
        self._ended: dict[tuple[str, str], DueEntry] = {}
        self._wake = asyncio.Event()

    def add(self, entry: DueEntry) -> None:
        """Have a job polled; a later word on the same job replaces an earlier one."""
        self._later[entry.tenant, entry.job_id] = entry, self._monotonic()
        self._wake.set()

    def drop(self, entry: DueEntry) -> None:
        """Have a job polled no more: it has ended."""
        self._ended[entry.tenant, entry.job_id] = entry
        self._wake.set()

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await self._wake.wait()
            await self._sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what was said; kept for the next time where the store does not answer."""
        self._wake.clear()
        later, self._later = self._later, {}
        ended, self._ended = self._ended, {}
        try:
            if later:
                now_s = self._monotonic()
                await self._due.schedule([_waited(entry, now_s - since_s) for entry, since_s in later.values()])
            if ended:
                await self._due.remove(list(ended.values()))
        except StoreUnavailable:
            self._later = later | self._later
            self._ended = ended | self._ended
            self._wake.set()


def _waited(entry: DueEntry, seconds: float) -> DueEntry:
    return replace(entry, due_in_s=max(0.0, entry.due_in_s - seconds)) if entry.due_in_s > 0 else entry
