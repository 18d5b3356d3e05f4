"""Waiting for a job: until it has ended or time is up, or from one status to the next."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from gateway.core.job import JobView
from gateway.core.ports import Jobs, Notifications
from gateway.errors import StoreUnavailable


class Waiting:
    """Follows jobs for callers whose right to read them was checked when they came.

    A store that does not answer is waited for: what is known of the job stays.

    Args:
        limit: Callers waiting at once.
        clock: Seconds, from any start.
    """

    def __init__(
        self,
        notifications: Notifications,
        jobs: Jobs,
        *,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifications = notifications
        self._jobs = jobs
        self._limit = limit
        self._clock = clock
        self._draining = False

    def __len__(self) -> int:
        return len(self._notifications)

    @property
    def draining(self) -> bool:
        """Tell whether the process is about to end."""
        return self._draining

    @property
    def full(self) -> bool:
        """Tell whether one more caller should not wait here."""
        return self._draining or len(self) >= self._limit

    def drain(self) -> None:
        """Send everyone off at once with what is known of their jobs; nobody waits from now on."""
        self._draining = True
        self._notifications.wake_all()

    async def until_ended(self, job: JobView, within_s: float) -> JobView:
        """Return the job once it has ended, or as it stands after ``within_s`` seconds."""
        deadline = self._clock() + within_s
        async with self._notifications.watch(job.tenant, job.id) as watch:
            job = await self._read(job)
            while not job.state.terminal:
                woken = await watch.changed(deadline - self._clock())
                if self._draining:
                    break
                job = await self._read(job)
                if not woken:
                    break
        return job

    async def changes(self, job: JobView, *, beat_s: float) -> AsyncGenerator[JobView | None, None]:
        """Yield the job each time its status has changed, the last time when it has ended.

        None comes where nothing else has for ``beat_s`` seconds. Close the iterator when it is left early.
        """
        async with self._notifications.watch(job.tenant, job.id) as watch:
            beat_at = self._clock() + beat_s
            while not (job.state.terminal or self._draining):
                seen, job = job.status, await self._read(job)
                if job.status != seen:
                    yield job
                    beat_at = self._clock() + beat_s
                elif not await watch.changed(beat_at - self._clock()):
                    yield None
                    beat_at = self._clock() + beat_s

    async def _read(self, job: JobView) -> JobView:
        with suppress(StoreUnavailable):
            return await self._jobs.find(job.tenant, job.id) or job
        return job
