"""How the vendor's requests a minute are shared among tenants: max-min fair. Pure but for its port.

A tenant that asks for less than its fair share gets all that it asks for; what it leaves is shared by those that ask
for more. The limit of a minute is a bucket (GCRA) of places that come back evenly. Every tenant has such a bucket for
its own share; who is beyond it may only have what the tenants within theirs can spare.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Literal, Protocol

CallKind = Literal["jobs", "polls"]
WINDOW_S: Final = 10.0
"""Over which is counted how much each tenant asks for."""
_MINUTE_S: Final = 60.0
_MINUTE_US: Final = 60_000_000
_AT_ONCE: Final = 0.1
_NEWCOMER: Final = 0.1
"""Share of the minute that is left for a tenant that is about to come."""
_GROWTH: Final = 1.25
"""A tenant may ask for so much more than it has lately."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a tenant has asked for, granted or not, in the running window and in the one before."""

    now: int
    before: int


@dataclass(frozen=True, slots=True)
class Pressure:
    """How the whole fleet stands with the vendor.

    Attributes:
        blocked_s: Seconds for which the vendor takes no calls of a kind, as far as any process heard.
        asked: By tenant; ``elapsed_s`` of the running window.
    """

    blocked_s: Mapping[CallKind, float] = field(default_factory=dict)
    asked: Mapping[str, Asked] = field(default_factory=dict)
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """Two buckets: everybody's, and one tenant's within it.

    Attributes:
        interval_us: After which a place comes back; ``burst`` places at once; of them ``kept`` are for tenants within
            their share.
        own_interval_us: As above, of the tenant's share; ``own_burst`` places at once.
    """

    interval_us: int
    burst: int
    kept: int
    own_interval_us: int
    own_burst: int


class Pacing(Protocol):
    """The fleet's pace towards the vendor. Raises `StoreUnavailable`."""

    async def block(self, kind: CallKind, wait_s: float) -> None:
        """Hold back calls of a kind in every process: until the later of what was said before and now."""

    async def pressure(self) -> Pressure:
        """Read how the fleet stands."""

    async def take(self, tenant: str, share: Share) -> float:
        """Take a place for a tenant's job; return the seconds until it may have one, 0 where it has it."""


def fair_level(demands: Collection[float], capacity: float) -> float:
    """Return what a tenant may have at most, so that all that is there is used and nobody could have more fairly.

    That is water-filling: the sum of ``min(demand, level)`` is the capacity. Where all demands fit, it is the capacity.
    """
    left = capacity
    for served, demand in enumerate(sorted(demands)):
        level = left / (len(demands) - served)
        if demand > level:
            return level
        left -= demand
    return capacity


def share(requests_a_minute: int, pressure: Pressure) -> Share:
    """Return the buckets, such that no minute has more requests than that, however they come."""
    burst = 1 + int(requests_a_minute * _AT_ONCE)
    rate, kept = requests_a_minute - burst + 1, max(1, burst // 2)
    demands = [_demand(asked, pressure) for asked in pressure.asked.values()]
    level = fair_level([*demands, rate * _NEWCOMER], rate)
    return Share(
        interval_us=-(-_MINUTE_US // rate),
        burst=burst,
        kept=kept,
        own_interval_us=round(_MINUTE_US / level),
        own_burst=max(1, ceil((burst - kept) * level / rate)),
    )


def _demand(asked: Asked, pressure: Pressure) -> float:
    """Estimate what a tenant asks for a minute, by what it asked for in the last ten seconds."""
    lately = asked.now + asked.before * max(0.0, 1 - pressure.elapsed_s / WINDOW_S)
    return lately * _GROWTH * _MINUTE_S / WINDOW_S
