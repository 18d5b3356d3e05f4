"""A circuit breaker as a state machine: told of the time and of what became of calls, it says whether one may go."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

BreakerState = Literal["closed", "half_open", "open"]
BreakerName = Literal["inference", "storage", "history", "account", "key"]
"""The vendor's hosts, each with a breaker of its own, the credits of the company's account, and its key."""

PROBE_S: Final = 10.0
"""A probe that says nothing for so long gives way to another: a sync call may run for minutes."""
STEADY_S: Final = 60.0
"""Closed for so long, the next time open is a first time again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Attributes:
        failures: In a row, which open it.
        least_calls: Within `window_s`, at most so many of which are looked back at: if half of them failed, it opens.
        open_s: The first time; twice as long at each failed probe, up to `open_max_s`.
    """

    failures: int = 10
    least_calls: int = 20
    window_s: float = 30.0
    open_s: float = 5.0
    open_max_s: float = 60.0


class Breaker:
    """Closed until too many calls fail; open for a while; half open while one call at a time tries its luck.

    Times are seconds of any clock that does not go back.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._recent: deque[tuple[float, bool]] = deque(maxlen=policy.least_calls)
        self._in_a_row = 0
        self._opened = 0
        self._turn = 0
        self._until_s: float | None = None
        self._probe_until_s: float | None = None
        self._closed_s = float("-inf")

    @property
    def state(self) -> BreakerState:
        """Where it stands; it leaves ``open`` when a probe goes out."""
        if self._until_s is None:
            return "closed"
        return "open" if self._probe_until_s is None else "half_open"

    def wait_s(self, now_s: float) -> float:
        """Return the seconds for which no call may go; 0 when one may."""
        return 0.0 if self._until_s is None else max(0.0, (self._probe_until_s or self._until_s) - now_s)

    def enter(self, now_s: float) -> int | None:
        """Let a call go: return what `report` needs; None where it must not go now."""
        if self._until_s is not None:
            if self.wait_s(now_s) > 0:
                return None
            self._turn += 1
            self._probe_until_s = now_s + PROBE_S
        return self._turn

    def report(self, ticket: int | None, *, up: bool | None, now_s: float) -> None:
        """Take what became of a call: the other side is up, or down; None: it says nothing of that.

        A call from before the state changed says nothing any more, and one that was not let go never did.
        """
        if ticket != self._turn:
            return
        if self._until_s is None:
            if up is not None:
                self._note(up, now_s)
        elif up:
            self.close(now_s)
        elif up is None:
            self._probe_until_s = None
        else:
            self._open(now_s)

    def close(self, now_s: float) -> None:
        """Close it, whatever is known of the other side: what was known no longer holds."""
        self._turn += 1
        self._until_s, self._probe_until_s, self._closed_s = None, None, now_s
        self._in_a_row = 0
        self._recent.clear()

    def _note(self, up: bool, now_s: float) -> None:
        self._recent.append((now_s, up))
        self._in_a_row = 0 if up else self._in_a_row + 1
        if not up and (self._in_a_row >= self._policy.failures or self._half_failed(now_s)):
            self._open(now_s)

    def _half_failed(self, now_s: float) -> bool:
        recent, full = self._recent, len(self._recent) == self._policy.least_calls
        if not full or now_s - recent[0][0] > self._policy.window_s:
            return False
        return 2 * sum(not up for _, up in recent) >= len(recent)

    def _open(self, now_s: float) -> None:
        if self._until_s is None and now_s - self._closed_s >= STEADY_S:
            self._opened = 0
        open_s = min(self._policy.open_s * 2.0 ** min(self._opened, 16), self._policy.open_max_s)
        self._opened += 1
        self._turn += 1
        self._until_s, self._probe_until_s = now_s + open_s, None
