"""The fleet's pace in memory: `core.pacing.Pacing`."""

from __future__ import annotations

from typing import Final

from support.memory import Memory, gcra

from gateway.core.pacing import WINDOW_S, Asked, CallKind, Pressure, Share
from gateway.core.tenant import MICROSECONDS

LONGEST_S: Final = 120.0
_WINDOW_US: Final = round(WINDOW_S * MICROSECONDS)


class MemoryPacing:
    """See `Pacing`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._blocked_us: dict[CallKind, int] = {"jobs": 0, "polls": 0}
        self._everybodys_us = 0
        self._own_us: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._asked_before: dict[str, int] = {}
        self._since_us = 0

    async def block(self, kind: CallKind, wait_s: float) -> None:
        """See `Pacing.block`."""
        longest_us = self._memory.now_us + round(LONGEST_S * MICROSECONDS)
        ends_us = max(self._blocked_us[kind], self._memory.now_us + round(wait_s * MICROSECONDS))
        self._blocked_us[kind] = min(ends_us, longest_us)

    async def pressure(self) -> Pressure:
        """See `Pacing.pressure`."""
        now_us = self._memory.now_us
        blocked_s = {kind: max(0, at_us - now_us) / MICROSECONDS for kind, at_us in self._blocked_us.items()}
        asked = {
            tenant: Asked(self._asked.get(tenant, 0), self._asked_before.get(tenant, 0))
            for tenant in self._asked | self._asked_before
        }
        return Pressure(blocked_s, asked, max(0, now_us - self._since_us) / MICROSECONDS if asked else 0.0)

    async def take(self, tenant: str, share: Share) -> float:
        """See `Pacing.take`."""
        now_us = self._memory.now_us
        self._count(tenant, now_us)
        arrival_us, late_us = gcra(self._everybodys_us, now_us, share.interval_us, share.burst)
        own_us, own_late_us = gcra(self._own_us.get(tenant, 0), now_us, share.own_interval_us, share.own_burst)
        free = (share.burst * share.interval_us - (arrival_us - now_us)) // share.interval_us
        if late_us:
            return late_us / MICROSECONDS
        if own_late_us and free <= share.kept:
            return min(own_late_us, (1 + share.kept - free) * share.interval_us) / MICROSECONDS
        self._everybodys_us = arrival_us + share.interval_us
        if not own_late_us:
            self._own_us[tenant] = own_us + share.own_interval_us
        return 0.0

    def _count(self, tenant: str, now_us: int) -> None:
        """Note who asks; a window that is over becomes the one before, and one of long ago or of the future nothing."""
        age_us = now_us - self._since_us
        if not 0 <= age_us < _WINDOW_US:
            self._asked_before = self._asked if 0 <= age_us < 2 * _WINDOW_US else {}
            self._asked, self._since_us = {}, now_us
        self._asked[tenant] = self._asked.get(tenant, 0) + 1
