"""The fleet's pace in memory, for processes that share no store."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.pacing import CallKind, Pressure, Share
from gateway.errors import StoreUnavailable


@dataclass(slots=True)
class SharedPace:
    """What a fleet shares, without a store: says what it was told to, and may be away."""

    wait_s: float = 0.0
    away: bool = False
    taken: list[str] = field(default_factory=list)
    blocks: list[tuple[CallKind, float]] = field(default_factory=list)
    known: Pressure = field(default_factory=Pressure)

    async def block(self, kind: CallKind, wait_s: float) -> None:
        """See `Pacing.block`."""
        self._answer()
        self.blocks.append((kind, wait_s))

    async def pressure(self) -> Pressure:
        """See `Pacing.pressure`."""
        self._answer()
        return self.known

    async def take(self, tenant: str, share: Share) -> float:
        """See `Pacing.take`."""
        assert share.burst >= 1
        self._answer()
        self.taken.append(tenant)
        return self.wait_s

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("away")
