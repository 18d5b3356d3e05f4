"""Jobs that the vendor denies (404): when that is believed, and what its request history says of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.core.adoption import EARLIER_S, History, HistoryRow
from gateway.core.job import Job
from gateway.core.ports import HistoryReader
from gateway.core.schedule import VENDOR_TTL_S
from gateway.errors import UpstreamError

COUNTED_FROM_S: Final = 60.0
"""A 404 in the first minute is the vendor's own haste: not counted."""
CONFIRM_S: Final = 20.0
"""A job that the vendor does not know must still be unknown after this long before anything is made of it."""
MANY: Final = 5
"""So many jobs denied in a minute, and more than half of all: the vendor's trouble, not theirs."""
_WINDOW_S: Final = 60.0
_READ_WITHIN_S: Final = 60.0
_FRESH_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the history said of a model since a moment; None: it could not be read. ``at_s`` by the monotonic clock."""

    history: History | None
    since_ms: int
    at_s: float


class Missing:
    """What one process sees of denied jobs.

    Args:
        history: The vendor's; one reading serves all jobs of a model for half a minute.
        clock: Monotonic seconds.
    """

    def __init__(self, history: HistoryReader, clock: Callable[[], float] = time.monotonic) -> None:
        self._history = history
        self._clock = clock
        self._denied: dict[str, bool] = {}
        self._denied_before: dict[str, bool] = {}
        self._turned_s = clock()
        self._readings: dict[tuple[str, str], _Reading] = {}
        self._reading = asyncio.Lock()

    def note(self, job: Job, *, denied: bool) -> None:
        """Take the vendor's word on a job: whether it knows it."""
        now_s = self._clock()
        if now_s - self._turned_s >= _WINDOW_S:
            fresh = now_s - self._turned_s < 2 * _WINDOW_S
            self._denied_before, self._denied, self._turned_s = self._denied if fresh else {}, {}, now_s
        self._denied[job.id] = denied

    def many(self) -> bool:
        """Tell whether the vendor denies so many jobs at once that it must be in trouble itself."""
        heard = self._denied_before | self._denied
        denied = sum(heard.values())
        return denied >= MANY and 2 * denied > len(heard)

    def must_wait(self, job: Job) -> bool:
        """Tell whether the history is being read for another job, and this one is to ask again later.

        It waits in the due queue: polls that wait for a history that is silent would leave no room for others.
        """
        return self._reading.locked() and self._fresh(job) is None

    async def row(self, job: Job, now_ms: int) -> HistoryRow | None:
        """Find a job in the vendor's history by its id; None where it is not there, or can't be read."""
        async with self._reading:
            found = await self._read(job, now_ms)
        rows = () if found is None else found.rows
        return next((row for row in rows if row.request_id == job.upstream_id), None)

    def _fresh(self, job: Job) -> _Reading | None:
        last = self._readings.get(_key(job))
        served = last is not None and last.since_ms <= _since_ms(job) and self._clock() - last.at_s < _FRESH_S
        return last if served else None

    async def _read(self, job: Job, now_ms: int) -> History | None:
        last = self._fresh(job)
        if last is not None:
            return last.history
        key = _key(job)
        since_ms = min(_since_ms(job), now_ms - round(2 * VENDOR_TTL_S * 1000))
        history = None
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                history = await self._history.history(job.model, since_ms=since_ms, now_ms=now_ms, upstream_key=key[1])
        except (UpstreamError, TimeoutError):
            pass  # it says nothing: as if it were not there
        now_s = self._clock()
        self._readings = {key: one for key, one in self._readings.items() if now_s - one.at_s < _FRESH_S}
        self._readings[key] = _Reading(history, since_ms, now_s)
        return history


def _key(job: Job) -> tuple[str, str]:
    return job.model, job.upstream_key or ""


def _since_ms(job: Job) -> int:
    return job.created_ms - round(EARLIER_S * 1000)
