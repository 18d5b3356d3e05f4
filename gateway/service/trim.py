"""What grows with every job and no expiry ends: old ledger entries are folded, and lapsed jobs leave the index."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from gateway.core.ports import Sweeper
from gateway.errors import StoreUnavailable
from gateway.service.rules import Rules

TRIM_S: Final = 3600.0
FOLD: Final = 200
"""Entries a script: a few milliseconds of the server's time."""
LOOK: Final = 500
"""Jobs a script: about half a millisecond."""
LEDGER_MOST: Final = 10_000_000
"""Entries of one tenant, some 2 GB: what 55,000 jobs a day leave in the default ``ledger_ttl``. A tenant whose
every submit is refused at the default limit comes to it after six days, so that a daily reconciliation still has its
three days."""


class Foldable(Protocol):
    """Ledgers whose oldest entries can be folded. Raises `StoreUnavailable`."""

    async def tenants(self) -> Sequence[str]:
        """List every tenant that is or was."""

    async def fold(self, tenant: str, *, keep_s: int, keep: int, limit: int) -> int:
        """Fold entries older than that, and the oldest of more than ``keep``, at most ``limit`` of them.

        Returns:
            How many were. Running it twice changes nothing.
        """


class Index(Protocol):
    """Every tenant's jobs by time. Raises `StoreUnavailable`."""

    async def lapse(self, tenant: str, *, keep_s: int, limit: int, since_ms: int | None = None) -> int | None:
        """Forget jobs older than that, and those refused at once whose record went in the last day.

        Looks at ``limit`` jobs at most.

        Returns:
            From when on to look further; None where there are no more. Running it twice changes nothing.
        """


class Trimmer:
    """Trims hourly; of many processes, one at a time does."""

    def __init__(
        self,
        ledgers: Foldable,
        index: Index,
        sweeper: Sweeper,
        rules: Rules,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledgers = ledgers
        self._index = index
        self._sweeper = sweeper
        self._rules = rules
        self._sleep = sleep

    async def run(self) -> None:
        """Trim until cancelled."""
        while True:
            with suppress(StoreUnavailable):  # the next turn comes
                if await self._sweeper.turn("trim", ttl_s=TRIM_S):
                    await self.trim()
            await self._sleep(TRIM_S)

    async def trim(self) -> None:
        """Trim what every tenant has. Raises `StoreUnavailable`."""
        for tenant in await self._ledgers.tenants():
            await self._fold(tenant)
            await self._lapse(tenant)

    async def _fold(self, tenant: str) -> None:
        keep_s, count = self._rules.policy.ledger_ttl_s, FOLD
        while count == FOLD:
            count = await self._ledgers.fold(tenant, keep_s=keep_s, keep=LEDGER_MOST, limit=FOLD)

    async def _lapse(self, tenant: str) -> None:
        keep_s = self._rules.policy.job_ttl_s
        since_ms = await self._index.lapse(tenant, keep_s=keep_s, limit=LOOK)
        while since_ms is not None:
            since_ms = await self._index.lapse(tenant, keep_s=keep_s, limit=LOOK, since_ms=since_ms)
