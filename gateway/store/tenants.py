"""Tenants, their keys and the gateway's rules on Redis.

Fields of ``{t}:tenant``, which the scripts decide by: ``submit`` and ``read`` (``limit:period_s:burst:interval_us``),
``models`` (patterns, space-separated, empty: all), ``webhook`` (URL; absent: none), ``webhook_hosts`` (as ``models``;
empty: none), ``concurrent``, ``require_key`` (``0``, ``1``), ``alerts`` (percentages, space-separated),
``limit:<window>`` and ``price:<model>`` (nanocredits; absent: none), ``name``, ``doc`` (the whole policy, JSON); and
the marks ``suspended`` and ``removed``, each ``1`` or absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis.utils import str_if_bytes

from gateway.core.tenant import Credential, RateLimit, TenantPolicy
from gateway.service.plan import TenantRecord
from gateway.service.spec import DeclaredRules
from gateway.service.tenants import ApiKey, KeyState
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors
from gateway.store.documents import rules_from_json, rules_to_json, tenant_from_json, tenant_to_json
from gateway.store.scripts import Script, Scripts

_TENANTS_A_TRIP = 100
_RECORD = ("doc", "suspended", "removed")

_Values = Sequence[Any]  # bytes or None; redis-py's types also allow for decoded replies, which we never ask for


class RedisTenants:
    """`service.tenants.TenantStore`.

    Args:
        client: For reads that span tenants, and the keys that belong to none.
        scripts: Runs the scripts.
        library: Scripts by name (`store.scripts.load_scripts`).
    """

    def __init__(self, client: RedisClient, scripts: Scripts, library: Mapping[str, Script]) -> None:
        self._client = client
        self._scripts = scripts
        self._library = library

    async def rules(self) -> DeclaredRules | None:
        """See `TenantStore.rules`."""
        with store_errors():
            document = await self._client.get(keys.POLICY)
        return None if document is None else rules_from_json(document)

    async def put_rules(self, rules: DeclaredRules) -> None:
        """See `TenantStore.put_rules`."""
        with store_errors():
            await self._client.set(keys.POLICY, rules_to_json(rules))

    async def tenants(self) -> list[TenantRecord]:
        """See `TenantStore.tenants`."""
        found: list[TenantRecord] = []
        with store_errors():
            ids = sorted(map(str_if_bytes, await self._client.smembers(keys.TENANTS)))
            for at in range(0, len(ids), _TENANTS_A_TRIP):
                pipeline = self._client.pipeline(transaction=False)
                for tenant in ids[at : at + _TENANTS_A_TRIP]:
                    pipeline.hmget(keys.tenant(tenant), _RECORD)
                records = map(_record, await pipeline.execute())
                # A tenant can be listed and not be there: `put` died between its two writes.
                found += [record for record in records if record is not None]
        return found

    async def tenant(self, tenant: str) -> TenantRecord | None:
        """See `TenantStore.tenant`."""
        with store_errors():
            return _record(await self._client.hmget(keys.tenant(tenant), _RECORD))

    async def put(self, policy: TenantPolicy) -> None:
        """See `TenantStore.put`."""
        # Listed first: whatever walks the tenants must never miss one that can have jobs.
        with store_errors():
            await self._client.sadd(keys.TENANTS, policy.id)
        pairs = [word for pair in tenant_fields(policy).items() for word in pair]
        await self._run("tenant_put", [keys.tenant(policy.id)], pairs)

    async def remove(self, tenant: str) -> None:
        """See `TenantStore.remove`."""
        await self._run("tenant_mark", [keys.tenant(tenant)], ["removed", "1"])

    async def suspend(self, tenant: str, *, suspended: bool) -> bool:
        """See `TenantStore.suspend`."""
        return await self._run("tenant_mark", [keys.tenant(tenant)], ["suspended", "1" if suspended else ""])

    async def keys(self, tenant: str) -> list[ApiKey]:
        """See `TenantStore.keys`."""
        with store_errors():
            ids = sorted(map(str_if_bytes, await self._client.smembers(keys.keys(tenant))))
        found = await self._keys(tenant, ids)
        return sorted(found, key=lambda key: (key.created_ms, key.id))

    async def add_key(self, credential: Credential, name: str, *, ttl_s: int | None) -> ApiKey | None:
        """See `TenantStore.add_key`."""
        t, key_id = credential.tenant, credential.key_id
        added = await self._run(
            "key_add",
            [keys.tenant(t), keys.keys(t), keys.key(t, key_id)],
            [key_id, credential.digest, name, "" if ttl_s is None else str(ttl_s)],
        )
        return await self._key(t, key_id) if added else None

    async def expire_key(self, tenant: str, key_id: str, *, in_s: int) -> ApiKey | None:
        """See `TenantStore.expire_key`."""
        ended = await self._run("key_end", [keys.key(tenant, key_id)], [str(in_s)])
        return await self._key(tenant, key_id) if ended else None

    async def revoke_key(self, tenant: str, key_id: str) -> ApiKey | None:
        """See `TenantStore.revoke_key`."""
        ended = await self._run("key_end", [keys.key(tenant, key_id)], [""])
        return await self._key(tenant, key_id) if ended else None

    async def _key(self, tenant: str, key_id: str) -> ApiKey:
        (key,) = await self._keys(tenant, [key_id])
        return key

    async def _keys(self, tenant: str, ids: Sequence[str]) -> list[ApiKey]:
        if not ids:
            return []
        names = [keys.key(tenant, key_id) for key_id in ids]
        now_ms, *rows = await self._scripts.run(self._library["key_list"], names, [])
        return [_api_key(tenant, key_id, row, int(now_ms)) for key_id, row in zip(ids, rows, strict=True)]

    async def _run(self, name: str, names: list[str], args: list[str]) -> bool:
        return bool(await self._scripts.run(self._library[name], names, args) == 1)


def tenant_fields(policy: TenantPolicy) -> dict[str, str]:
    """Return the fields of a tenant's hash, the marks apart."""
    return {
        "name": policy.name,
        "models": " ".join(policy.models),
        "webhook_hosts": " ".join(policy.webhook_patterns),
        **({"webhook": policy.webhook_url} if policy.webhook_url else {}),
        "submit": _rate(policy.submit),
        "read": _rate(policy.read),
        "concurrent": str(policy.concurrent_jobs),
        "alerts": " ".join(map(str, policy.alerts)),
        "require_key": "1" if policy.require_idempotency_key else "0",
        **{f"limit:{window}": str(limit) for window, limit in policy.budgets.items()},
        **{f"price:{model}": str(price) for model, price in policy.prices.items()},
        "doc": tenant_to_json(policy),
    }


def _rate(limit: RateLimit) -> str:
    return f"{limit.limit}:{limit.period_s}:{limit.burst}:{limit.interval_us}"


def _record(values: _Values) -> TenantRecord | None:
    document, suspended, removed = values
    if document is None:
        return None
    return TenantRecord(tenant_from_json(document), suspended=suspended == b"1", removed=removed == b"1")


def _api_key(tenant: str, key_id: str, row: _Values, now_ms: int) -> ApiKey:
    name = (row[0] or b"").decode()
    created, expires, revoked, used = (None if value is None else int(value) for value in row[1:])
    state: KeyState = "revoked" if revoked else "expired" if expires is not None and expires <= now_ms else "active"
    return ApiKey(tenant, key_id, name, state, created or 0, expires, revoked, used)
