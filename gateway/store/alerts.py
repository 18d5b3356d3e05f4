"""Budget alerts on Redis: those that the ledger's scripts have noted, until they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.core.budgets import PendingAlert
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors
from gateway.store.fanout import ask_tenants, text

_PENDING: Final = "!"


class RedisAlerts:
    """`service.budgets.Alerts`. Raises `StoreUnavailable`."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def pending(self) -> Sequence[PendingAlert]:
        """See `Alerts.pending`."""

        async def read(tenant: str) -> Mapping[Any, Any]:
            with store_errors():
                found: Mapping[Any, Any] = await self._client.hgetall(keys.alerts(tenant))
            return found

        return [
            _alert(tenant, name.removeprefix(_PENDING), text(value))
            for tenant, found in await ask_tenants(self._client, read)
            for name, value in ((text(name), value) for name, value in found.items())
            if name.startswith(_PENDING)
        ]

    async def keep(self, alert: PendingAlert) -> None:
        """See `Alerts.keep`."""
        values = (
            alert.at_ms, alert.limit, alert.spent, alert.held, int(alert.told), alert.attempts, alert.next_ms,
        )  # fmt: skip
        with store_errors():
            await self._client.hset(keys.alerts(alert.tenant), _field(alert), ":".join(map(str, values)))

    async def drop(self, alert: PendingAlert) -> None:
        """See `Alerts.drop`."""
        with store_errors():
            await self._client.hdel(keys.alerts(alert.tenant), _field(alert))


def _field(alert: PendingAlert) -> str:
    return f"{_PENDING}{alert.window}/{alert.percent}"


def _alert(tenant: str, name: str, value: str) -> PendingAlert:
    window, _, percent = name.rpartition("/")
    at_ms, limit, spent, held, told, attempts, next_ms = map(int, value.split(":"))
    return PendingAlert(
        tenant=tenant,
        window=window,
        percent=int(percent),
        at_ms=at_ms,
        limit=limit,
        spent=spent,
        held=held,
        told=bool(told),
        attempts=attempts,
        next_ms=next_ms,
    )
