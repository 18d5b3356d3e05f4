from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.service.fetching import Fetching


@dataclass(slots=True)
class Host:
    """A host of results, each of which comes when it is let go; whoever has a place is told of by its age."""

    fetching: Fetching
    fetched: list[int] = field(default_factory=list)
    away: list[int] = field(default_factory=list)
    go: dict[int, asyncio.Event] = field(default_factory=dict)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    async def ask(self, created_ms: int) -> None:
        """Have a job ask for a place, and wait until it has one, waits or is sent away."""
        self.go[created_ms] = asyncio.Event()
        self.tasks[created_ms] = asyncio.create_task(self._fetch(created_ms))
        await self.rest()

    async def end(self, created_ms: int) -> None:
        """Let a result come."""
        self.go[created_ms].set()
        await self.rest()

    async def rest(self) -> None:
        """Let every task go on until all wait."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _fetch(self, created_ms: int) -> None:
        async with self.fetching.place(created_ms) as given:
            (self.fetched if given else self.away).append(created_ms)
            if given:
                await self.go[created_ms].wait()


@asynccontextmanager
async def host(places: int, waiting: int) -> AsyncIterator[Host]:
    """Give a host; what still runs ends with the test."""
    made = Host(Fetching(places, waiting))
    try:
        yield made
    finally:
        for task in made.tasks.values():
            task.cancel()
        await asyncio.gather(*made.tasks.values(), return_exceptions=True)


async def test_the_oldest_goes_first_and_the_youngest_is_sent_away() -> None:
    """The vendor forgets the oldest result first: it has the next place, and nobody younger keeps it from waiting."""
    async with host(places=1, waiting=2) as made:
        for created_ms in (50, 40, 30, 45, 20):
            await made.ask(created_ms)
        assert (made.fetched, made.away) == ([50], [45, 40])
        for created_ms in (50, 20, 30):
            await made.end(created_ms)
        assert made.fetched == [50, 20, 30]
        await made.ask(60)
        assert made.fetched[-1] == 60


async def test_a_poll_that_is_cut_off_leaves_its_place_to_others() -> None:
    """Neither one that fetches, nor one that waits, nor one that was just given a place takes it along."""
    async with host(places=1, waiting=3) as made:
        for created_ms in (10, 20, 30, 40):
            await made.ask(created_ms)
        made.tasks[20].cancel()
        made.tasks[10].cancel()
        await asyncio.sleep(0)  # 10 has let go, so that 30 has been given the place, and has not heard of it
        made.tasks[30].cancel()
        await made.rest()
        assert made.fetched == [10, 40]
        await made.end(40)
        await made.ask(50)
        assert made.fetched == [10, 40, 50]
