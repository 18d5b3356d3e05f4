"""Decisions of admission as frozen values, and the budget windows. Knows neither HTTP nor Redis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gateway.core.credits import MAX_NANO
from gateway.core.record import record
from gateway.core.tenant import RateLimit, WindowName


@record()
class RateState:
    """Where a rate limit stands after a decision.

    Attributes:
        name: ``submit`` or ``read``.
        remaining: Requests that would be admitted at once.
        reset_s: Seconds until the limit is unused again.
        retry_after_s: Seconds until one more request would be admitted; 0 now.
    """

    name: str
    policy: RateLimit
    remaining: int
    reset_s: float
    retry_after_s: float = 0.0


@record()
class Window:
    """One budget window of a tenant, in nanocredits; ``limit`` None where there is no budget."""

    name: WindowName
    limit: int | None
    spent: int
    held: int

    @property
    def remaining(self) -> int | None:
        """Nanocredits that may still be held, never below zero; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.spent - self.held)


def least_remaining(windows: tuple[Window, ...]) -> int:
    """Return the least remaining over the windows; the maximum where the tenant has no budget."""
    return min((w.remaining for w in windows if w.remaining is not None), default=MAX_NANO)


def window_end(name: WindowName, at: datetime) -> datetime | None:
    """Return when the window that holds ``at`` ends (UTC, weeks from Monday); None for ``total``."""
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if name == "day":
        return midnight + timedelta(days=1)
    if name == "week":
        return midnight + timedelta(days=7 - midnight.weekday())
    if name == "month":
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return None


@dataclass(frozen=True, slots=True)
class Quota:
    """What every answer to a tenant may tell of its limits.

    Attributes:
        rate: The limit that this request counted against.
        concurrent: Jobs that the tenant may run at once; ``active`` of them run now.
        remaining: Least remaining credits over the budget windows, nanocredits; MAX_NANO without a budget.
    """

    rate: RateState
    concurrent: int
    active: int
    remaining: int

    def released(self, hold: int) -> Quota:
        """Return where the limits stand once a job that was just admitted has given back its place and its hold."""
        return replace(self, active=self.active - 1, remaining=min(MAX_NANO, self.remaining + hold))
