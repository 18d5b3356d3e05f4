"""Budget alerts: what the ledger's scripts have noted, on its way to whoever should know."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.tenant import WindowName


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAlert:
    """A budget that has reached one of its alert percentages, for the first time in its window.

    Attributes:
        window: Id of the window, ``month:2026-02``.
        at_ms: When it did, Unix milliseconds of Redis's clock, as is `next_ms`.
        limit: Nanocredits, as are `spent` and `held` at that moment.
        told: The event was emitted.
        attempts: Made at its webhook; the next one is due at `next_ms`.
    """

    tenant: str
    window: str
    percent: int
    at_ms: int
    limit: int
    spent: int
    held: int
    told: bool = False
    attempts: int = 0
    next_ms: int = 0

    @property
    def name(self) -> WindowName:
        """The kind of window."""
        kind = self.window.partition(":")[0]
        names: dict[str, WindowName] = {"day": "day", "week": "week", "month": "month"}
        return names.get(kind, "total")
