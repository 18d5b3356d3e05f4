"""The places in which results are fetched: few, since each result may be large, and the oldest job has the next one."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A job that waits for a place; `turn` tells whether it got one."""

    created_ms: int
    turn: asyncio.Future[bool]


class Fetching:
    """Gives out the places of one process.

    Few jobs wait for one here, always those that were submitted first: the vendor forgets their results first. All
    others wait in the due queue. Were they to wait here, a slow host would leave no room for polls of running jobs.

    Args:
        places: Results that are fetched at once.
        waiting: Jobs that wait here at most.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self._free = places
        self._most = waiting
        self._waiting: list[_Waiting] = []

    @asynccontextmanager
    async def place(self, created_ms: int) -> AsyncIterator[bool]:
        """Have a place while the block runs; False: there is none, and older jobs wait for the next ones."""
        given = await self._enter(created_ms)
        try:
            yield given
        finally:
            if given:
                self._leave()

    async def _enter(self, created_ms: int) -> bool:
        if self._free:
            self._free -= 1
            return True
        mine = _Waiting(created_ms, asyncio.get_running_loop().create_future())
        insort(self._waiting, mine, key=lambda one: one.created_ms)
        if len(self._waiting) > self._most:
            _tell(self._waiting.pop(), given=False)
        try:
            return await mine.turn
        except asyncio.CancelledError:
            self._waiting = [one for one in self._waiting if one is not mine]
            if not mine.turn.cancelled() and mine.turn.result():
                self._leave()
            raise

    def _leave(self) -> None:
        """Pass a place on."""
        while self._waiting:
            if _tell(self._waiting.pop(0), given=True):
                return
        self._free += 1


def _tell(one: _Waiting, *, given: bool) -> bool:
    """Tell a job whether it has a place; False where it was cut off, and hears nothing any more."""
    if one.turn.done():
        return False
    one.turn.set_result(given)
    return True
