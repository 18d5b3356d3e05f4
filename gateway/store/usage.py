"""Usage on Redis: read by period for a tenant's own caller and for operators; refusals written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from gateway.core.movements import Denied
from gateway.core.tenant import Credential
from gateway.core.usage import Row
from gateway.service.usage import Refused, UsageView
from gateway.store import keys
from gateway.store.connect import RedisClient
from gateway.store.epoch import EpochGuard
from gateway.store.fanout import ask_tenants
from gateway.store.records import Reply, decode_windows
from gateway.store.scripts import Script, Scripts


class RedisUsage:
    """`service.usage.UsageStore`. Raises `StoreUnavailable`."""

    def __init__(self, client: RedisClient, scripts: Scripts, library: Mapping[str, Script], epoch: EpochGuard) -> None:
        self._client = client
        self._scripts = scripts
        self._epoch = epoch
        self._own = library["own_usage"]
        self._usage = library["usage"]
        self._refused = library["refused"]

    async def own(self, credential: Credential, periods: Sequence[str]) -> UsageView | Denied:
        """See `UsageStore.own`."""
        t = credential.tenant
        names = [
            keys.tenant(t), keys.key(t, credential.key_id), keys.gcra(t, "read"), keys.active(t), keys.budget(t),
            keys.usage(t),
        ]  # fmt: skip
        reply: Reply = await self._scripts.run(self._own, names, [credential.digest, *periods])
        rate = await self._epoch.entered(reply, t)
        if isinstance(rate, Denied):
            return rate
        return UsageView(
            tenant=t,
            rows=read_usage(t, periods, reply[4]),
            windows=decode_windows(reply[3]),
            last_days=tuple(map(int, reply[5])),
            now_ms=int(reply[1]),
            rate=rate,
        )

    async def of(self, tenant: str, periods: Sequence[str]) -> UsageView:
        """See `UsageStore.of`."""
        names = [keys.tenant(tenant), keys.active(tenant), keys.budget(tenant), keys.usage(tenant)]
        reply: Reply = await self._scripts.run(self._usage, names, periods)
        return UsageView(
            tenant=tenant,
            rows=read_usage(tenant, periods, reply[2]),
            windows=decode_windows(reply[1]),
            last_days=tuple(map(int, reply[3])),
            now_ms=int(reply[0]),
        )

    async def all(self, periods: Sequence[str]) -> Sequence[UsageView]:
        """See `UsageStore.all`."""
        return [view for _, view in await ask_tenants(self._client, lambda t: self.of(t, periods))]

    async def count_refused(self, tenant: str, refused: Mapping[Refused, int]) -> None:
        """See `UsageStore.count_refused`."""
        words: list[str | int] = []
        for what, count in refused.items():
            words += (what.key_id, what.model, what.code, count)
        await self._scripts.run(self._refused, [keys.usage(tenant)], words)


def read_usage(tenant: str, periods: Sequence[str], replies: Reply) -> list[Row]:
    """Read {row, counts, row, counts, ...} of each period."""
    rows = []
    for period, flat in zip(periods, replies, strict=True):
        for name, counts in zip(flat[::2], flat[1::2], strict=True):
            key, _, model = name.decode().partition("/")
            rows.append(Row(tenant, period, key, model, orjson.loads(counts)))
    return rows
