"""The repair of the webhooks' queue: whoever owes something is in it, whichever process died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from gateway.core.ports import Due, Sweeper
from gateway.core.queue import DueEntry
from gateway.errors import StoreUnavailable
from gateway.service.deliveries import Deliveries

REPAIR_S: Final = 10.0
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class OwingRepair:
    """Sees to it that tenants are served as soon as they owe something; of many processes, one at a time does."""

    def __init__(
        self,
        *,
        sweeper: Sweeper,
        deliveries: Deliveries,
        due: Due,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sweeper = sweeper
        self._deliveries = deliveries
        self._due = due
        self._sleep = sleep

    async def run(self) -> None:
        """Repair until cancelled."""
        while True:
            with suppress(StoreUnavailable):  # the next turn comes
                if await self._sweeper.turn("webhooks", ttl_s=REPAIR_S):
                    await self.repair()
            await self._sleep(REPAIR_S)

    async def repair(self) -> None:
        """Put every tenant into the queue for when it owes something next, unless it is served sooner already."""
        async for tenants in self._sweeper.owing():
            entries = [
                DueEntry(tenant, "", next_in_s)
                for tenant in tenants
                if (next_in_s := await self._next(tenant)) is not None
            ]
            await self._due.schedule(entries, only_sooner=True)

    async def _next(self, tenant: str) -> float | None:
        return (await self._deliveries.take(tenant, limit=0, each=0, under_way=_NONE, lease_s=0)).next_in_s
