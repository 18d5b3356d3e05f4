"""The pace towards the vendor: all processes stop together when it says so, and no tenant takes another's share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from gateway.core.pacing import CallKind, Pacing, Pressure, share
from gateway.errors import StoreUnavailable, UpstreamHeldBack
from gateway.service.rules import Rules

REFRESH_S: Final = 0.5
STORE_RETRY_S: Final = 2.0


class Pace:
    """What one process knows of the fleet's pace; it asks again every half second.

    Args:
        pacing: What the fleet shares.
        rules: Give ``upstream_rpm``.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        pacing: Pacing,
        rules: Rules,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pacing = pacing
        self._rules = rules
        self._clock = clock
        self._sleep = sleep
        self._pressure = Pressure()
        self._blocked_until_s: dict[CallKind, float] = {"jobs": 0.0, "polls": 0.0}
        self._full_until_s: dict[str, float] = {}

    async def run(self) -> None:
        """Refresh until cancelled; while the store does not answer, what was known stays."""
        while True:
            with suppress(StoreUnavailable):
                await self.refresh()
            await self._sleep(REFRESH_S)

    async def refresh(self) -> None:
        """Read once how the fleet stands. Raises `StoreUnavailable`."""
        self._pressure = pressure = await self._pacing.pressure()
        for kind, wait_s in pressure.blocked_s.items():
            self._hold(kind, wait_s)
        now_s = self._clock()
        self._full_until_s = {tenant: at_s for tenant, at_s in self._full_until_s.items() if at_s > now_s}

    def wait_s(self, kind: CallKind) -> float:
        """Return the seconds for which the vendor takes no calls of a kind; 0 when it does.

        Where it refused polls, it takes no jobs either. A refused job stops no polls: else those who start jobs could
        keep results from being fetched.
        """
        until_s = self._blocked_until_s["polls"]
        if kind == "jobs":
            until_s = max(until_s, self._blocked_until_s["jobs"])
        return max(0.0, until_s - self._clock())

    async def limited(self, kind: CallKind, wait_s: float) -> None:
        """Take a 429: hold back calls of that kind in this process at once, and in the others by their next look."""
        self._hold(kind, wait_s)
        with suppress(StoreUnavailable):  # the others will hear it from the vendor themselves
            await self._pacing.block(kind, wait_s)

    def held_back(self, tenant: str) -> UpstreamHeldBack | None:
        """Return why a tenant's job would not be sent now; None where nothing is known against it. Asks nobody."""
        wait_s = self.wait_s("jobs")
        if wait_s > 0:
            detail = "the vendor's limit for the company's account is reached"
            return UpstreamHeldBack("upstream_rate_limited", detail, retry_after_s=wait_s)
        full_s = self._full_until_s.get(tenant, 0.0) - self._clock()
        return _full(full_s) if full_s > 0 else None

    async def take(self, tenant: str) -> None:
        """Take a place for a tenant's job or upload; a trip to the store where ``upstream_rpm`` is set, else nothing.

        Raises:
            UpstreamHeldBack: There is none within its share, or the store did not answer.
        """
        limit = self._rules.policy.upstream_rpm
        if limit is None:
            return
        try:
            wait_s = await self._pacing.take(tenant, share(limit, self._pressure))
        except StoreUnavailable:
            detail = "the gateway's store can't be reached"
            raise UpstreamHeldBack(
                "store_unavailable", detail, retry_after_s=STORE_RETRY_S, limited_by="gateway"
            ) from None
        if wait_s > 0:
            self._full_until_s[tenant] = self._clock() + wait_s
            raise _full(wait_s)

    def _hold(self, kind: CallKind, wait_s: float) -> None:
        self._blocked_until_s[kind] = max(self._blocked_until_s[kind], self._clock() + wait_s)


def _full(wait_s: float) -> UpstreamHeldBack:
    detail = "this tenant's share of the requests that the gateway sends to the vendor a minute is used up"
    return UpstreamHeldBack("upstream_rate_limited", detail, retry_after_s=wait_s, limited_by="gateway")
