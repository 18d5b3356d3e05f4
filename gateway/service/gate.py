"""The gate to the vendor: what a call that may cost something passes, before it is admitted and before it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.core.ports import Upstream
from gateway.errors import UpstreamHeldBack
from gateway.service.account import Account

T = TypeVar("T")


class Gate:
    """Lets calls that start jobs go to the vendor; what is known to fail is refused before anything is held.

    Args:
        upstream: The vendor's hosts.
        account: The company's account there.
    """

    def __init__(self, upstream: Upstream, account: Account) -> None:
        self._upstream = upstream
        self._account = account

    def held_back(self) -> UpstreamHeldBack | None:
        """Return why no job can be sent now; None where one can. Asks nobody."""
        wait_s = self._upstream.wait_s("inference")
        if wait_s > 0:
            return UpstreamHeldBack("upstream_unavailable", "the vendor does not answer for now", retry_after_s=wait_s)
        return self._account.held_back()

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that starts a job.

        Raises:
            UpstreamError: As the call does; `UpstreamHeldBack` where it is not made.
        """
        return await self._account.run(call)
