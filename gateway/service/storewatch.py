"""Whether the store can be relied on: it answers, it is fit, it is the ledger, and it has not gone back in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Final, Protocol

from gateway.core.events import Alert
from gateway.core.ports import Sink
from gateway.errors import StoreUnavailable

LOOK_S: Final = 1.0
WHOLE_LOOK: Final = 5
"""Each so many looks, and at the first after an outage, everything is looked at, not the mark alone."""
SILENT: Final = "Redis does not answer"
NO_LEDGER: Final = "ledger:epoch is missing: a new, flushed or wrong Redis; run `gateway apply`"
TO_DO: Final = "what is gone is gone here only: run `gateway reconcile`"
_NAMED: Final = 10


class Watched(Protocol):
    """What is looked at. Raises `StoreUnavailable`."""

    async def epoch(self) -> str | None:
        """Read the mark of the ledger's dataset; None where there is none."""

    async def problems(self) -> Sequence[str]:
        """Say why the store may not be trusted with money; nothing where it may."""

    async def positions(self) -> Mapping[str, int]:
        """Read the number of each tenant's last ledger entry."""

    async def note_rewound(self, detail: str) -> None:
        """Keep in the store that it went back, for `gateway check`."""


class StoreWatch:
    """Looks every second, and tells readiness.

    A ledger only grows: where a tenant's last entry has a lower number than before, some are lost: an older one was
    restored, or a failover lost what was not replicated. That is told loudly, but requests are still taken: to refuse
    everything after a failover that lost a second would cost more than it saves.

    Args:
        store: What is looked at.
        tell: Told why the store can't be relied on; empty when it can.
        sink: Gets an alert for each new reason, one when there is none any more, and one for each time that the ledger
            went back.
        sleep: Waits that many seconds.
        now_s: Tells the time of a clock that nobody sets, in seconds.
    """

    def __init__(
        self,
        store: Watched,
        tell: Callable[[str], None],
        sink: Sink,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._tell = tell
        self._sink = sink
        self._sleep = sleep
        self._now_s = now_s
        self._said = ""
        self._away_since_s = 0.0
        self._looks = 0
        self._epoch: str | None = None
        self._positions: Mapping[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._say(await self.look())
            await self._sleep(LOOK_S)

    async def look(self) -> str:
        """Look once; return why the store can't be relied on."""
        try:
            reason = await self._reason()
        except StoreUnavailable as exc:
            reason = f"{SILENT}: {exc}"
        self._looks = 0 if reason else self._looks + 1
        return reason

    async def _reason(self) -> str:
        epoch = await self._store.epoch()
        if epoch is None:
            return NO_LEDGER
        if self._looks % WHOLE_LOOK == 0:
            await self._compare(epoch)
            if problems := await self._store.problems():
                return "; ".join(problems)
        return ""

    async def _compare(self, epoch: str) -> None:
        """Compare with what this process has seen before, which it then forgets: each loss is told once."""
        positions = await self._store.positions()
        lost = sorted(tenant for tenant, seen in self._positions.items() if positions.get(tenant, 0) < seen)
        found = ""
        if self._epoch not in {None, epoch}:
            found = f"ledger {epoch[:8]} is in the place of {str(self._epoch)[:8]}"
        elif lost:
            others = f" and {len(lost) - _NAMED} others" if len(lost) > _NAMED else ""
            found = f"the ledger went back, of {', '.join(lost[:_NAMED])}{others}"
        if found:
            self._sink(Alert(event="store.rewound", detail=f"{found}; {TO_DO}"))
            await self._store.note_rewound(found)
        self._epoch, self._positions = epoch, positions

    def _say(self, reason: str) -> None:
        self._tell(reason)
        kind = SILENT if reason.startswith(SILENT) else reason  # how it is silent changes from look to look
        if kind and kind != self._said:
            self._away_since_s = self._away_since_s if self._said else self._now_s()
            self._sink(Alert(event="store.not_ready", detail=reason))
        elif self._said and not kind:
            away_s = self._now_s() - self._away_since_s
            self._sink(Alert(event="store.ready", detail=f"Redis can be relied on again, after {away_s:.0f} s"))
        self._said = kind
