"""The gate to the vendor: what a POST of a tenant's passes, before it is admitted and before it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from gateway.core.breaker import BreakerName
from gateway.core.ports import Upstream
from gateway.errors import UpstreamHeldBack, UpstreamRefused
from gateway.service.account import Account
from gateway.service.pace import Pace

T = TypeVar("T")


class Gate:
    """Lets POSTs go to the vendor; what is known to fail is refused before anything is held or counted.

    Args:
        upstream: The vendor's hosts.
        account: The company's account there.
        pace: How much may be sent.
    """

    def __init__(self, upstream: Upstream, account: Account, pace: Pace) -> None:
        self._upstream = upstream
        self._account = account
        self._pace = pace

    def held_back(self, tenant: str, host: BreakerName = "inference") -> UpstreamHeldBack | None:
        """Return why nothing of a tenant can be sent to a host now; None where nothing is known against it.

        Asks nobody.
        """
        wait_s = self._upstream.wait_s(host)
        if wait_s > 0:
            return UpstreamHeldBack("upstream_unavailable", "the vendor does not answer for now", retry_after_s=wait_s)
        return self._account.held_back() or self._pace.held_back(tenant)

    async def run(self, tenant: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that starts a tenant's job.

        Raises:
            UpstreamError: As the call does; `UpstreamHeldBack` where it is not made.
        """
        return await self._paced(tenant, "inference", lambda: self._account.run(call))

    async def upload(self, tenant: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that takes a tenant's asset to the vendor, which tells nothing of credits.

        Raises as `run`.
        """
        return await self._paced(tenant, "storage", call)

    async def _paced(self, tenant: str, host: BreakerName, call: Callable[[], Awaitable[T]]) -> T:
        held_back = self.held_back(tenant, host)
        if held_back is not None:
            raise held_back
        await self._pace.take(tenant)
        try:
            return await call()
        except UpstreamRefused as refusal:
            if refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
                await self._pace.limited("jobs", refusal.retry_after_s or 0)
            raise
