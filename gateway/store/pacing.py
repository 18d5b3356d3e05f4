"""The fleet's pace towards the vendor on Redis: who may send how much, and until when nobody may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.pacing import WINDOW_S, Asked, CallKind, Pressure, Share
from gateway.core.tenant import MICROSECONDS
from gateway.store import keys
from gateway.store.records import Reply
from gateway.store.scripts import Script, Scripts

LONGEST_S: Final = 120.0
_HEAD: Final = 3


class RedisPacing:
    """`core.pacing.Pacing`. `Scripts` raises `StoreUnavailable`.

    Args:
        scripts: Runs the scripts.
        library: Scripts by name (`store.scripts.load_scripts`).
    """

    def __init__(self, scripts: Scripts, library: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self._block = library["block"]
        self._pressure = library["pressure"]
        self._slot = library["slot"]

    async def block(self, kind: CallKind, wait_s: float) -> None:
        """See `Pacing.block`."""
        await self._scripts.run(self._block, [keys.PACE_BLOCKED], [kind, _us(wait_s), _us(LONGEST_S)])

    async def pressure(self) -> Pressure:
        """See `Pacing.pressure`."""
        reply: Reply = await self._scripts.run(self._pressure, [keys.PACE_BLOCKED, keys.PACE_ASKED], [])
        jobs_us, polls_us, elapsed_us = map(int, reply[:_HEAD])
        blocked_s: dict[CallKind, float] = {"jobs": jobs_us / MICROSECONDS, "polls": polls_us / MICROSECONDS}
        return Pressure(blocked_s, _asked(reply[_HEAD:]), elapsed_us / MICROSECONDS)

    async def take(self, tenant: str, share: Share) -> float:
        """See `Pacing.take`."""
        reply = await self._scripts.run(
            self._slot,
            [keys.PACE_JOBS, keys.pace_jobs(tenant), keys.PACE_ASKED],
            [
                tenant, share.interval_us, share.burst, share.kept, share.own_interval_us, share.own_burst,
                _us(WINDOW_S),
            ],
        )  # fmt: skip
        return int(reply) / MICROSECONDS


def _asked(fields: Sequence[bytes]) -> dict[str, Asked]:
    counts = {name.decode(): int(count) for name, count in zip(fields[::2], fields[1::2], strict=True)}
    tenants = {name[2:] for name in counts}
    return {one: Asked(counts.get(f"n:{one}", 0), counts.get(f"b:{one}", 0)) for one in tenants}


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
