"""The vendor's hosts, each behind a circuit breaker, and what of a call tells whether a host is up."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from gateway.core.breaker import BreakerName, BreakerPolicy
from gateway.core.ports import Sink
from gateway.errors import UpstreamAmbiguous, UpstreamHeldBack, UpstreamRefused, UpstreamUnsent
from gateway.service.breaker import NamedBreaker
from gateway.upstream.call import Call

POLICY: Final = BreakerPolicy()
_HOSTS: Final[tuple[BreakerName, ...]] = ("inference", "storage", "history")
_DOWN: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


class Hosts:
    """The breakers of the hosts.

    Args:
        sink: Told of each change.
        clock: Monotonic seconds.
        connections: Of the pool; while as many calls are under way, waiting in vain for one says nothing of a host.
    """

    def __init__(self, sink: Sink, clock: Callable[[], float], *, connections: int) -> None:
        self._breakers = {name: NamedBreaker(name, POLICY, sink, clock) for name in _HOSTS}
        self._connections = connections
        self._under_way = 0

    def wait_s(self, host: BreakerName) -> float:
        """Return the seconds for which no call may go to a host; 0 when one may."""
        return self._breakers[host].wait_s()

    def begin(self, host: BreakerName) -> int:
        """Note that a call goes to a host; return what `report` needs. `ended` must follow.

        Raises:
            UpstreamHeldBack: Its breaker is open.
        """
        ticket = self._breakers[host].enter()
        if ticket is None:
            detail = "the vendor does not answer for now"
            raise UpstreamHeldBack("upstream_unavailable", detail, retry_after_s=self.wait_s(host))
        self._under_way += 1
        return ticket

    def report(self, call: Call, ticket: int, failure: BaseException | None) -> None:
        """Take how a call went, as soon as that tells something."""
        full = self._under_way >= self._connections
        up = shows_up(call.operation, failure, pool_full=full)
        self._breakers[call.host].report(ticket, up=up, reason="it answers" if up else str(failure))

    def ended(self) -> None:
        """Note that a call gave its connection back."""
        self._under_way -= 1


def shows_up(operation: str, failure: BaseException | None, *, pool_full: bool = False) -> bool | None:
    """Tell whether how a call went shows its host to be up, or down; None: neither.

    Down: it can't be reached, is silent for too long, or answers 502, 503 or 504. A refusal (4xx, 500 in the envelope)
    comes from a host that works. A single connection may break for many reasons, and a sync call waits for its model:
    that one breaks off, or takes too long, says nothing. Nor does what we held back ourselves.
    """
    if failure is None or isinstance(failure, UpstreamRefused):
        return True
    if isinstance(failure, UpstreamHeldBack):
        return None
    if isinstance(failure, UpstreamUnsent):
        return None if pool_full else False
    if not isinstance(failure, UpstreamAmbiguous):
        return None
    if failure.status is None:
        return False if failure.timed_out and operation != "sync" else None
    return False if failure.status in _DOWN else None
