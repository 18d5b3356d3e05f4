"""Writes that must happen: tried now, and if Redis does not answer, again until it does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from gateway.core.events import Alert
from gateway.core.movements import Finished
from gateway.core.ports import Sink
from gateway.errors import StoreUnavailable

Write = Callable[[], Awaitable[Finished]]
FIRST_RETRY_S = 0.1
MAX_RETRY_S = 2.0


class Outbox:
    """Keeps idempotent ledger writes until the store confirms them; in order, bounded by its users' own bound.

    A process that dies with a full outbox loses nothing: its jobs are SENDING without a heartbeat, which the sweep
    turns into UNKNOWN, or ACCEPTED, which the tracker settles again.
    """

    def __init__(self, sink: Sink, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sink = sink
        self._sleep = sleep
        self._waiting: deque[tuple[Write, Callable[[], None]]] = deque()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def write(self, write: Write) -> Finished:
        """Write now.

        Raises:
            StoreUnavailable: The store did not confirm; the write is kept and tried again.
        """
        try:
            return await write()
        except StoreUnavailable:
            self.keep(write)
            raise

    def keep(self, write: Write, done: Callable[[], None] = lambda: None) -> None:
        """Have a write tried until the store confirms it; then call ``done``, which frees what the write held."""
        self._waiting.append((write, done))
        self._empty.clear()
        self._wake.set()

    async def run(self) -> None:
        """Try the kept writes until cancelled; waits longer while the store stays away, up to 2 s."""
        while True:
            await self._wake.wait()
            delay_s = FIRST_RETRY_S
            while self._waiting:
                write, done = self._waiting[0]
                try:
                    await write()
                except StoreUnavailable:
                    await self._sleep(delay_s)
                    delay_s = min(delay_s * 2, MAX_RETRY_S)
                    continue
                except Exception as exc:  # noqa: BLE001 one bad write must not hold up the others
                    self._sink(Alert.failure("outbox.dropped", exc))
                self._waiting.popleft()
                done()
            self._wake.clear()
            self._empty.set()

    async def drained(self) -> None:
        """Wait until nothing is kept."""
        await self._empty.wait()
