"""A circuit breaker with a name, a clock, and a sink that hears of each change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gateway.core.breaker import Breaker, BreakerName, BreakerPolicy
from gateway.core.events import BreakerChanged
from gateway.core.ports import Sink

PROBE: Final = "one call goes to see"


class NamedBreaker:
    """`core.breaker.Breaker`, telling `upstream.breaker` at each change.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(
        self, name: BreakerName, policy: BreakerPolicy, sink: Sink, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name: BreakerName = name
        self._breaker = Breaker(policy)
        self._sink = sink
        self._clock = clock
        self._told = self._breaker.state

    def wait_s(self) -> float:
        """See `Breaker.wait_s`."""
        return self._breaker.wait_s(self._clock())

    def enter(self) -> int | None:
        """See `Breaker.enter`."""
        ticket = self._breaker.enter(self._clock())
        self._tell(PROBE)
        return ticket

    def report(self, ticket: int | None, *, up: bool | None, reason: str = "") -> None:
        """See `Breaker.report`."""
        self._breaker.report(ticket, up=up, now_s=self._clock())
        self._tell(reason)

    def close(self, reason: str) -> None:
        """See `Breaker.close`."""
        self._breaker.close(self._clock())
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        state = self._breaker.state
        if state != self._told:
            self._told = state
            self._sink(BreakerChanged(host=self._name, state=state, reason=reason))
