"""The index of a tenant's jobs, and how those leave it whose record is gone."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.policy import KEY_LIFE_S
from gateway.store import keys
from gateway.store.scripts import Script, Scripts


class RedisIndex:
    """`service.trim.Index`. Raises `StoreUnavailable`."""

    def __init__(self, scripts: Scripts, library: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self._lapse = library["lapse"]

    async def lapse(self, tenant: str, *, keep_s: int, limit: int, since_ms: int | None = None) -> int | None:
        """See `Index.lapse`."""
        names = [keys.jobs(tenant), keys.job(tenant, "")]
        begins = "" if since_ms is None else since_ms
        args = [max(keep_s, KEY_LIFE_S) * 1000, KEY_LIFE_S * 1000, begins, limit]
        reply = await self._scripts.run(self._lapse, names, args)
        return int(reply) if reply else None
