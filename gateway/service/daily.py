"""The daily reconciliation: at ``policy.reconcile_at`` one process compares the last days."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.core.events import Alert, Reconciled
from gateway.core.ports import Sink, Sweeper
from gateway.errors import GatewayError, InvalidRequest, StoreUnavailable
from gateway.service.reconcile import Reconciler, Reconciliation
from gateway.service.rules import Rules

LOOK_S: Final = 60.0
DAYS: Final = 3
"""Compared each day: a row that came late, or a day that was missed, is seen the day after."""
TRIES: Final = 8
PAUSE_S: Final = 900.0
_DAY_S: Final = 86_400.0


class DailyReconciliation:
    """Compares once a day, and tells of it; changes nothing.

    Args:
        clock: Unix seconds, Redis's.
    """

    def __init__(
        self,
        *,
        reconciler: Reconciler,
        sweeper: Sweeper,
        rules: Rules,
        sink: Sink,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reconciler = reconciler
        self._sweeper = sweeper
        self._rules = rules
        self._sink = sink
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Look until cancelled whether it is time."""
        while True:
            await self.look()
            await self._sleep(LOOK_S)

    async def look(self) -> None:
        """Compare if it is time and no process of the fleet has begun to, today."""
        now, at = datetime.fromtimestamp(self._clock(), UTC), self._rules.policy.reconcile_at
        if at is None or now.time() < at:
            return
        try:
            if not await self._sweeper.turn(f"reconcile:{now:%Y-%m-%d}", ttl_s=2 * _DAY_S):
                return
        except StoreUnavailable:
            return  # looked at again in a minute
        await self._compare(now)

    async def _compare(self, now: datetime) -> None:
        """Compare the days before today; where one side can't be read for now, try again for some hours."""
        why = ""
        for _ in range(TRIES):
            try:
                found = await self._reconciler.compare(
                    now.date() - timedelta(days=DAYS), now.date() - timedelta(days=1)
                )
            except InvalidRequest as exc:  # entries of these days were folded: they won't come back
                why = exc.detail
                break
            except GatewayError as exc:
                why = type(exc).__name__
                await self._sleep(PAUSE_S)
                continue
            self._tell(found)
            return
        detail = f"ledger and vendor's history could not be compared ({why}); run `gateway reconcile`"
        self._sink(Alert(event="reconcile.failed", detail=detail))

    def _tell(self, found: Reconciliation) -> None:
        counts = found.counts()
        self._sink(
            Reconciled(
                first=f"{found.first}",
                last=f"{found.last}",
                matched=counts["matched"],
                differs=counts["differs"],
                only_ours=counts["only_ours"],
                only_theirs=counts["only_theirs"],
                running=counts["running"],
                drift=found.drift,
            )
        )
        if not found.agrees:
            detail = (
                f"ledger and vendor differ: `gateway reconcile --from {found.first} --to {found.last}` lists the rows"
            )
            self._sink(Alert(event="reconcile.drift", detail=detail))
