"""The ledger's length: entries older than ``ledger_ttl`` are folded into each tenant's opening balance."""

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


class Foldable(Protocol):
    """Ledgers whose oldest entries can be folded. Raises `StoreUnavailable`."""

    async def tenants(self) -> Sequence[str]:
        """List every tenant that is or was."""

    async def fold(self, tenant: str, *, keep_s: int, limit: int) -> int:
        """Fold entries older than that, at most so many; return how many were. Running it twice changes nothing."""


class Trimmer:
    """Folds old entries, hourly; of many processes, one at a time does."""

    def __init__(
        self,
        ledgers: Foldable,
        sweeper: Sweeper,
        rules: Rules,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledgers = ledgers
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

    async def trim(self) -> int:
        """Fold what is too old, of every tenant; return how many entries. Raises `StoreUnavailable`."""
        folded = 0
        for tenant in await self._ledgers.tenants():
            count = FOLD
            while count == FOLD:
                count = await self._ledgers.fold(tenant, keep_s=self._rules.policy.ledger_ttl_s, limit=FOLD)
                folded += count
        return folded
