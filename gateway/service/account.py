"""The company's account at the vendor: while it can't pay, or its key is refused, one call at a time tries again."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.core.breaker import BreakerPolicy
from gateway.core.ports import Sink, Upstream
from gateway.errors import UpstreamHeldBack, UpstreamRefused
from gateway.service.breaker import NamedBreaker
from gateway.service.refusals import NO_CREDITS, WRONG_KEY, Verdict, judge

T = TypeVar("T")
POLICY: Final = BreakerPolicy(failures=3, open_s=5.0, open_max_s=30.0)
"""Three refusals in a row: a job that costs more than is left says nothing of those that cost less."""
WORKS: Final = "it takes jobs"


class Account:
    """Two circuit breakers over the calls that start jobs: the account's credits, and its key.

    Args:
        upstream: Tells the current key: another one than was refused is tried at once.
        sink: Told of each change.
        clock: Monotonic seconds.
    """

    def __init__(self, upstream: Upstream, sink: Sink, clock: Callable[[], float] = time.monotonic) -> None:
        self._upstream = upstream
        self._credits = NamedBreaker("account", POLICY, sink, clock)
        self._key = NamedBreaker("key", POLICY, sink, clock)
        self._refused: dict[NamedBreaker, Verdict] = {}
        self._refused_key = ""

    def held_back(self) -> UpstreamHeldBack | None:
        """Return why a call would be refused now; None where it may be made."""
        if self._key.wait_s() > 0 and self._refused_key != self._upstream.current_key():
            self._key.close("there is another key")
        for breaker, verdict in self._refused.items():
            wait_s = breaker.wait_s()
            if wait_s > 0:
                return UpstreamHeldBack(verdict.code, verdict.detail, retry_after_s=wait_s)
        return None

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that starts a job.

        Raises:
            UpstreamError: As the call does; `UpstreamHeldBack` where it is not made.
        """
        held_back = self.held_back()
        if held_back is not None:
            raise held_back
        tickets = self._key.enter(), self._credits.enter()
        pays: bool | None = None
        known: bool | None = None
        try:
            found = await call()
            pays = known = True
        except UpstreamRefused as refusal:
            verdict = judge(refusal)
            known = not self._blamed(self._key, verdict, WRONG_KEY)
            pays = False if self._blamed(self._credits, verdict, NO_CREDITS) else None
            raise
        finally:
            self._report(self._key, tickets[0], up=known)
            self._report(self._credits, tickets[1], up=pays)
        return found

    def _blamed(self, breaker: NamedBreaker, verdict: Verdict, code: str) -> bool:
        """Tell whether a refusal is for that reason, and remember it if so."""
        if verdict.code != code:
            return False
        self._refused[breaker] = verdict
        self._refused_key = self._upstream.current_key()
        return True

    def _report(self, breaker: NamedBreaker, ticket: int | None, *, up: bool | None) -> None:
        breaker.report(ticket, up=up, reason=WORKS if up else self._refused[breaker].detail if up is False else "")
