"""The work that a process has in hand: bounded, owned by tasks of its own, finished before the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from gateway.errors import Refused

T = TypeVar("T")
OVERLOAD_RETRY_S = 1
DRAIN_RETRY_S = 1


class InFlight:
    """Runs each piece of work in a task that outlives its caller, and refuses more than it can bear.

    Args:
        limit: Pieces of work at once, kept writes included.
        backlog: Counts what else is waiting (the outbox).
    """

    def __init__(self, limit: int, backlog: Callable[[], int] = lambda: 0) -> None:
        self._limit = limit
        self._backlog = backlog
        self._tasks: set[asyncio.Task[Any]] = set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def share(self) -> float:
        """How much of the limit is taken."""
        return (len(self._tasks) + self._backlog()) / self._limit

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` to its end, whatever becomes of the caller.

        Raises:
            Refused: ``draining`` or ``overloaded``; the work was not begun.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise refusal
        return await asyncio.shield(self.own(work()))

    def refusal(self) -> Refused | None:
        """Return why no work would be begun now; None where it would be."""
        if self._draining:
            detail = "this instance is shutting down"
            return Refused("draining", detail, limited_by="gateway", retry_after_s=DRAIN_RETRY_S)
        if len(self._tasks) + self._backlog() >= self._limit:
            detail = "the gateway is at its limit"
            return Refused("overloaded", detail, limited_by="gateway", retry_after_s=OVERLOAD_RETRY_S)
        return None

    def own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work that was already admitted, in a task that `drain` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: a caller that is gone leaves it unread

    async def drain(self, then: Awaitable[None] | None = None) -> None:
        """Refuse new work and wait for what is in hand."""
        self._draining = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        if then is not None:
            await then
