"""Failed API keys, counted by where they come from: whoever guesses is slowed down, and told of once a minute.

A key can't be guessed anyway: its secret has 256 bits. This keeps what tries from filling the log. Whoever has a valid
key never comes by here, so that tenants behind one ingress, which share a source, don't suffer from each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from time import monotonic
from typing import Final

from gateway.core.events import AuthFailing
from gateway.core.ports import Sink
from gateway.core.tenant import MICROSECONDS, RateLimit

LIMIT: Final = RateLimit(limit=60, period_s=60, burst=60)
"""Failures of one source that are answered 401 and logged one by one."""
SOURCES: Final = 10_000
"""Sources that are remembered; the one that was silent longest is forgotten for a new one."""
TELL_S: Final = 60.0
_NETWORK_BITS: Final = 64


@dataclass(slots=True)
class _Source:
    """One source: when its bucket is unused again (GCRA), and its failures above the limit that nobody was told of."""

    unused_at_us: int = 0
    limited: int = 0


class KeyFailures:
    """Counts the failures of this process.

    Args:
        sink: Gets one event a minute for each source above the limit.
        sleep: Waits that many seconds.
        now_s: Tells the time of a clock that nobody sets, in seconds.
    """

    def __init__(
        self,
        sink: Sink,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._sink = sink
        self._sleep = sleep
        self._now_s = now_s
        self._sources: dict[str, _Source] = {}  # the one that failed last comes last

    def __len__(self) -> int:
        return len(self._sources)

    def failed(self, address: str) -> float:
        """Count a failure; return 0 within the limit, else the seconds until the source is within it again."""
        name, now_us = source_of(address), int(self._now_s() * MICROSECONDS)
        source = self._sources.pop(name, None) or _Source()
        if len(self._sources) >= SOURCES:
            oldest = next(iter(self._sources))
            self._tell(oldest, self._sources.pop(oldest))
        self._sources[name] = source
        unused_at_us = max(source.unused_at_us, now_us) + LIMIT.interval_us
        wait_us = unused_at_us - now_us - LIMIT.burst * LIMIT.interval_us
        if wait_us > 0:
            source.limited += 1
            return wait_us / MICROSECONDS
        source.unused_at_us = unused_at_us
        return 0.0

    async def run(self) -> None:
        """Tell once a minute, and at the end, until cancelled."""
        try:
            while True:
                await self._sleep(TELL_S)
                self.tell()
        finally:
            self.tell()

    def tell(self) -> None:
        """Emit an event for each source that was above the limit since the last time."""
        for name, source in self._sources.items():
            self._tell(name, source)

    def _tell(self, name: str, source: _Source) -> None:
        if source.limited:
            self._sink(AuthFailing(source=name, failures=source.limited))
            source.limited = 0


def source_of(address: str) -> str:
    """Name the source that an address is of: of IPv6 its /64, since one host has all of that (RFC 4291 2.5.1)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> _NETWORK_BITS << _NETWORK_BITS)}/{_NETWORK_BITS}"
