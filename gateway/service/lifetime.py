"""Work that runs as long as the process, and what is finished before it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.core.events import Alert
from gateway.core.ports import Sink
from gateway.errors import StoreUnavailable
from gateway.service.inflight import InFlight
from gateway.service.outbox import Outbox
from gateway.service.watchlist import Watchlist

CANCEL_AGAIN_S = 0.2
STORE_CHECK_S = 1.0
NO_LEDGER = "ledger:epoch is missing: a new, flushed or wrong Redis; run `gateway apply`"

Work = Coroutine[Any, Any, None]


@asynccontextmanager
async def running(work: Sequence[Work]) -> AsyncIterator[None]:
    """Run endless work beside the block, and end it with the block."""
    tasks = {asyncio.create_task(piece) for piece in work}
    try:
        yield
    finally:
        while tasks:
            for task in tasks:
                task.cancel()
            # Again, since redis-py now and then loses a cancellation that comes while it reads a reply.
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)


async def finish(in_flight: InFlight, outbox: Outbox, watchlists: Sequence[Watchlist], within_s: float) -> None:
    """Finish what is in hand: work, kept writes, words for the due queues; what takes longer is left to others."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await in_flight.drain()
            async with running([outbox.run()]):
                await outbox.drained()
            for watchlist in watchlists:
                await watchlist.flush()


async def watch_store(
    epoch: Callable[[], Awaitable[str | None]],
    tell: Callable[[str], None],
    sink: Sink,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Look every second whether the store answers and is the ledger.

    Args:
        epoch: Reads the ledger's mark; raises `StoreUnavailable`.
        tell: Told why the store can't be relied on; empty when it can.
        sink: Gets an alert for each new reason.
        sleep: Waits that many seconds.
    """
    was = ""
    while True:
        try:
            now = "" if await epoch() else NO_LEDGER
        except StoreUnavailable as exc:
            now = f"Redis does not answer: {exc}"
        tell(now)
        if now and now != was:
            sink(Alert(event="store.not_ready", detail=now))
        was = now
        await sleep(STORE_CHECK_S)
