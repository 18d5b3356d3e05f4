"""Tells an unknown key from a dataset that is not the ledger: a flushed or wrong Redis knows no key at all."""

from __future__ import annotations

from typing import Final

from gateway.core.movements import Denied
from gateway.core.quota import RateState
from gateway.errors import StoreNotReady
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors
from gateway.store.readiness import read_epoch
from gateway.store.records import Reply, decode_rate

_UNKNOWN: Final = 2
"""Parts of a reply to a caller about whom nothing may be told."""


class EpochGuard:
    """Looks at ``ledger:epoch`` when a caller is unknown, and only then: the other requests need no second trip."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def entered(self, reply: Reply, tenant: str) -> RateState | Denied:
        """Read how a tenant's own read began: where its limit stands, or the refusal. Raises as `denied`."""
        verdict = reply[0].decode()
        if len(reply) == _UNKNOWN:
            return await self.denied(verdict, tenant)
        rate = decode_rate("read", reply[2])
        return rate if verdict == "ok" else Denied(verdict, retry_after_s=rate.retry_after_s, rate=rate)

    async def denied(self, code: str, tenant: str) -> Denied:
        """Return the refusal of a caller about whom nothing may be told.

        Raises:
            StoreNotReady: This dataset is no ledger, or has lost the tenant's part of it (one node of a cluster was
                flushed): nothing it does not know means anything.
            StoreUnavailable: Redis did not answer.
        """
        if code != "unauthenticated":
            return Denied(code)
        if await read_epoch(self._client) is None:
            raise StoreNotReady("ledger:epoch is missing: a new, flushed or wrong Redis; run `gateway apply`")
        with store_errors():
            listed = await self._client.sismember(keys.TENANTS, tenant)
            if listed and not await self._client.exists(keys.tenant(tenant)):
                raise StoreNotReady(f"tenant {tenant} is listed, and its policy is gone; run `gateway apply`")
        return Denied(code)
