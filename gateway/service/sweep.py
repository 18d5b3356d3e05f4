"""The sweep: beats for this process, gives up on dead ones' sends, and puts lost jobs back into the due queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from gateway.core.events import Alert
from gateway.core.ports import (
    Due,
    Ledger,
    Sink,
    Sweeper,
)
from gateway.core.queue import DueEntry
from gateway.core.schedule import FIRST_POLL_S, URGENT_AFTER_S
from gateway.errors import StoreUnavailable

BEAT_S = 3.0
BEAT_TTL_S = 9.0
ORPHANS_S = 3.0
REPAIR_S = 15.0
REPAIR_AFTER_S = 15.0
"""A younger job may be on its way: being sent, or a word of it in a watchlist."""


class Sweep:
    """Periodic work of every tracking process; of many processes, one at a time does each turn.

    A SENDING job whose process died is UNKNOWN within BEAT_TTL_S + ORPHANS_S + the trip: under 15 s.

    Args:
        clock: Unix seconds, Redis's.
    """

    def __init__(
        self,
        *,
        sweeper: Sweeper,
        ledger: Ledger,
        due: Due,
        sink: Sink,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sweeper = sweeper
        self._ledger = ledger
        self._due = due
        self._sink = sink
        self._clock = clock
        self._sleep = sleep

    async def beat(self, owner: str) -> None:
        """Say that this process lives, until cancelled."""
        while True:
            # Said again soon; a send that is doubted meanwhile is still accepted by its own process.
            with contextlib.suppress(StoreUnavailable):
                await self._sweeper.beat(owner, ttl_s=BEAT_TTL_S)
            await self._sleep(BEAT_S)

    async def run(self) -> None:
        """Sweep until cancelled."""
        await asyncio.gather(
            self._every(ORPHANS_S, "orphans", self.doubt_orphans), self._every(REPAIR_S, "repair", self.repair)
        )

    async def _every(self, period_s: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                if await self._sweeper.turn(name, ttl_s=period_s):
                    await work()
            except StoreUnavailable:
                pass  # the next turn comes
            except Exception as exc:  # noqa: BLE001 one tenant's surprise must not end the sweep of all
                self._sink(Alert.failure("sweep.failed", exc))
            await self._sleep(period_s)

    async def doubt_orphans(self) -> None:
        """Turn SENDING jobs of dead processes into UNKNOWN: their bytes may have left."""
        for orphan in await self._sweeper.orphans():
            reason = "the process that was sending it died"
            done = await self._ledger.doubt(orphan.tenant, orphan.job_id, reason)
            if done.changed:
                detail = f"{reason}; it is looked up in the vendor's history"
                self._sink(Alert(event="job.unknown", detail=detail, tenant=orphan.tenant, job_id=orphan.job_id))

    async def repair(self) -> None:
        """Put every active job that is in no due queue back into one, and those near the vendor's hour ahead.

        Of the latter, the one that was submitted first comes first.
        """
        found = 0
        async for jobs in self._sweeper.active():
            aged = [(job, self._clock() - job.created_ms / 1000) for job in jobs]
            wanted = [
                DueEntry(job.tenant, job.job_id, -age_s if age_s >= URGENT_AFTER_S else FIRST_POLL_S)
                for job, age_s in aged
                if abs(age_s) >= REPAIR_AFTER_S  # a clock that was set back leaves jobs of the future
            ]
            found += await self._due.schedule(wanted, only_new=True)
        if found:
            detail = f"{found} jobs were in no due queue and are tracked again"
            self._sink(Alert(event="tracker.repaired", detail=detail))
