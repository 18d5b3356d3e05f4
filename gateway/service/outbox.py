"""Writes that must happen: tried now, and if Redis does not answer, again until it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice

from gateway.core.events import Alert
from gateway.core.movements import Finished
from gateway.core.ports import Sink
from gateway.errors import StoreUnavailable

Write = Callable[[], Awaitable[Finished]]
FIRST_RETRY_S = 0.1
MAX_RETRY_S = 2.0
AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A write that must happen, the job that it is of, and what is called once it has."""

    tenant: str
    job_id: str
    write: Write
    done: Callable[[], None]


class Outbox:
    """Keeps idempotent ledger writes until the store confirms them; bounded by its users' own bound.

    In no order: each is of a job of its own. In a cluster one node may be away and the others not, so a write that is
    not confirmed goes behind those that wait.

    A process that dies with a full outbox loses nothing: its jobs are SENDING without a heartbeat, which the sweep
    turns into UNKNOWN, or ACCEPTED, which the tracker settles again.
    """

    def __init__(self, sink: Sink, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sink = sink
        self._sleep = sleep
        self._waiting: dict[_Kept, None] = {}
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def write(self, tenant: str, job_id: str, write: Write) -> Finished:
        """Write now what became of a job.

        Raises:
            StoreUnavailable: The store did not confirm; the write is kept and tried again.
        """
        try:
            return await write()
        except StoreUnavailable:
            self.keep(tenant, job_id, write)
            raise

    def keep(self, tenant: str, job_id: str, write: Write, done: Callable[[], None] = lambda: None) -> None:
        """Have a write about a job tried until the store confirms it; then call ``done``, which frees what it held."""
        self._waiting[_Kept(tenant, job_id, write, done)] = None
        self._empty.clear()
        self._wake.set()

    async def run(self) -> None:
        """Try the kept writes until cancelled; waits longer while the store stays away, up to 2 s."""
        while True:
            await self._wake.wait()
            delay_s = FIRST_RETRY_S
            while self._waiting:
                if await self._round():
                    delay_s = FIRST_RETRY_S
                else:
                    await self._sleep(delay_s)
                    delay_s = min(delay_s * 2, MAX_RETRY_S)
            self._wake.clear()
            self._empty.set()

    async def _round(self) -> bool:
        """Try those that wait longest; tell whether any of them need not be tried again."""
        some = list(islice(self._waiting, AT_ONCE))
        over = await asyncio.gather(*(self._try(kept) for kept in some))
        for kept, is_over in zip(some, over, strict=True):
            del self._waiting[kept]
            if is_over:
                kept.done()
            else:
                self._waiting[kept] = None
        return any(over)

    async def _try(self, kept: _Kept) -> bool:
        try:
            await kept.write()
        except StoreUnavailable:
            return False
        except Exception as exc:  # noqa: BLE001 one bad write must not hold up the others
            self._sink(Alert.failure("outbox.dropped", exc, tenant=kept.tenant, job_id=kept.job_id))
        return True

    async def drained(self) -> None:
        """Wait until nothing is kept."""
        await self._empty.wait()
