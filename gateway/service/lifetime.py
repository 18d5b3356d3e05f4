"""Work that runs as long as the process, and what is finished before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.core.events import Alert
from gateway.core.ports import Sink
from gateway.service.inflight import InFlight
from gateway.service.outbox import Outbox
from gateway.service.watchlist import Watchlist

CANCEL_AGAIN_S = 0.2
RESTART_S = 1.0
FLUSH_WITHIN_S = 2.0
LEAST_S = 1.0

Work = Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def running(work: Sequence[Work], sink: Sink) -> AsyncIterator[None]:
    """Run endless work beside the block, and end it with the block; work that fails is begun again."""
    tasks = {asyncio.create_task(_kept_up(piece, sink)) for piece in work}
    try:
        yield
    finally:
        while tasks:
            for task in tasks:
                task.cancel()
            # Again, since redis-py now and then loses a cancellation that comes while it reads a reply.
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)


class Drain:
    """How long the end of the process may yet take: all parts of it together, so that nobody has to kill it.

    Args:
        within_s: Seconds from `begin` on.
        clock: Monotonic seconds.
    """

    def __init__(self, within_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._within_s = within_s
        self._clock = clock
        self._ends_s: float | None = None

    def begin(self) -> None:
        """Count from now on, unless that has begun."""
        if self._ends_s is None:
            self._ends_s = self._clock() + self._within_s

    def left_s(self) -> float:
        """Return the seconds that are left; a second at least, which is enough for what goes well."""
        self.begin()
        return max(LEAST_S, (self._ends_s or 0.0) - self._clock())


async def _kept_up(work: Work, sink: Sink) -> None:
    """Run endless work: without heartbeats, sweeps or the outbox, the process would make promises that nobody keeps."""
    while True:
        try:
            await work()
        except Exception as exc:  # noqa: BLE001 whatever it is, without this work the process is worth nothing
            sink(Alert.failure("background.failed", exc))
        await asyncio.sleep(RESTART_S)


async def finish(
    in_flight: InFlight, outbox: Outbox, watchlists: Sequence[Watchlist], within_s: float, sink: Sink
) -> None:
    """Finish what is in hand: work, kept writes, words for the due queues; what takes longer is left to others.

    Kept writes are tried all the while, so that a call which does not end in time holds none of them up.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s), running([outbox.run], sink):
            await in_flight.drain()
            await outbox.drained()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_WITHIN_S):
            for watchlist in watchlists:
                await watchlist.flush()
