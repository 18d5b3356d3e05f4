"""The store's ports as tests hold them, whatever stands behind: the adapters on a server, or those in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.core.pacing import Pacing
from gateway.core.ports import Doubts, Due, Experience, Jobs, Ledger, Sweeper
from gateway.core.tenant import Credential, RateLimit, TenantPolicy, new_api_key
from gateway.service.deliveries import Deliveries, WebhookStore
from gateway.service.resolve import Survey
from gateway.store import keys
from gateway.store.connect import RedisClient
from gateway.store.fanout import text

UNLIMITED: Final = RateLimit(limit=1_000_000, period_s=1, burst=1_000_000)
_TIMES: Final = ("created", "accepted", "confirmed", "missing", "looked", "readable")


class Tenants(Protocol):
    """Tenants and their keys, as operators change them."""

    async def put(self, policy: TenantPolicy) -> None:
        """Put a tenant on record, or its policy in the place of the last."""

    async def add_key(self, credential: Credential, name: str, *, ttl_s: int | None) -> object:
        """Add a key; None where there is no such tenant."""

    async def revoke_key(self, tenant: str, key_id: str) -> object:
        """End a key."""

    async def suspend(self, tenant: str, *, suspended: bool) -> bool:
        """Have every call of a tenant refused, or no longer."""

    async def remove(self, tenant: str) -> None:
        """Forget a tenant's right to call."""


class Webhooks(Deliveries, WebhookStore, Protocol):
    """Both ports to what is owed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports of one store, and what tests do to it.

    Attributes:
        hooks: The queue of the tenants that owe webhooks.
    """

    tenants: Tenants
    ledger: Ledger
    jobs: Jobs
    due: Due
    sweeper: Sweeper
    doubts: Doubts
    experience: Experience
    survey: Survey
    pacing: Pacing
    deliveries: Webhooks
    hooks: Due

    async def caller(self, tenant: str = "team", **policy: Any) -> Credential:  # noqa: ANN401  # fields of TenantPolicy
        """Put a tenant on record, without rate limits unless the policy has some, and return a new key of it."""
        await self.tenants.put(TenantPolicy(tenant, **{"submit": UNLIMITED, "read": UNLIMITED, **policy}))
        return await self.key(tenant)

    async def key(self, tenant: str = "team") -> Credential:
        """Add a key to a tenant."""
        credential, _ = new_api_key(tenant)
        assert await self.tenants.add_key(credential, "test", ttl_s=None)
        return credential

    async def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        raise NotImplementedError


async def shift_times(client: RedisClient, seconds: float) -> None:
    """Move back every time that a store holds of jobs, queues, heartbeats and turns, as if time had gone by."""
    ms = round(seconds * 1000)
    for tenant in await client.smembers(keys.TENANTS):
        await _shift_jobs(client, text(tenant), ms)
    for shard in range(keys.DUE_SHARDS):
        for member in await _members(client, keys.due(shard)):
            await client.zincrby(keys.due(shard), -ms, member)
    for pattern in (keys.beat("*"), keys.turn("*")):
        async for name in client.scan_iter(match=pattern):
            left_ms = int(await client.pttl(name)) - ms
            await (client.pexpire(name, left_ms) if left_ms > 0 else client.delete(name))


async def _shift_jobs(client: RedisClient, tenant: str, ms: int) -> None:
    for job_id in await _members(client, keys.active(tenant)):
        await client.zincrby(keys.active(tenant), -ms, job_id)
        name = keys.job(tenant, job_id)
        record: Mapping[Any, Any] = await client.hgetall(name)
        for field in _TIMES:
            if field.encode() in record:
                await client.hincrby(name, field, -ms)


async def _members(client: Any, name: str) -> list[str]:  # noqa: ANN401  # redis-py's reply is of many types
    return [member.decode() for member in await client.zrange(name, 0, -1)]
