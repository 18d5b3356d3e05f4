"""Administration of tenants and their API keys: what the command line and the admin API do, on the store's port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, Protocol

from gateway.core.tenant import KEY_ID, TENANT_ID, Credential, Secret, TenantPolicy, new_api_key
from gateway.errors import Refused
from gateway.service.plan import Plan, TenantRecord, make_plan
from gateway.service.spec import DeclaredRules, GatewaySpec

DEFAULT_OVERLAP_S = 86_400
MILLISECONDS = 1000

KeyState = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is on record of an API key; times in Unix milliseconds of the store's clock, None: not (yet).

    Attributes:
        state: Whether it opened the door when it was read.
    """

    tenant: str
    id: str
    name: str
    state: KeyState
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    used_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made; ``text`` is shown once and kept nowhere."""

    key: ApiKey
    text: Secret


class TenantStore(Protocol):
    """Where tenants, keys and the gateway's rules are kept. Every method raises `StoreUnavailable`.

    Each write of one tenant is all or nothing, and doing it twice is doing it once.
    """

    async def rules(self) -> DeclaredRules | None:
        """Read the policy and models that were applied last; None before the first time."""

    async def put_rules(self, rules: DeclaredRules) -> None:
        """Replace policy and models."""

    async def tenants(self) -> Sequence[TenantRecord]:
        """Read all tenants by id, removed ones included."""

    async def tenant(self, tenant: str) -> TenantRecord | None:
        """Read one tenant."""

    async def put(self, policy: TenantPolicy) -> None:
        """Add a tenant or replace its policy; a removed one is back, a suspended one stays suspended."""

    async def remove(self, tenant: str) -> None:
        """Refuse a tenant from now on; its keys, jobs and ledger stay."""

    async def suspend(self, tenant: str, *, suspended: bool) -> bool:
        """Refuse a tenant, or no longer; False where there is no such tenant."""

    async def keys(self, tenant: str) -> Sequence[ApiKey]:
        """Read the API keys of a tenant, oldest first."""

    async def add_key(self, credential: Credential, name: str, *, ttl_s: int | None) -> ApiKey | None:
        """Record a new key; None where there is no such tenant, or it was removed."""

    async def expire_key(self, tenant: str, key_id: str, *, in_s: int) -> ApiKey | None:
        """Have a key expire by then, earlier if it would anyway; None where there is no such key."""

    async def revoke_key(self, tenant: str, key_id: str) -> ApiKey | None:
        """Refuse a key from now on; None where there is no such key."""


class TenantAdmin:
    """What operators do to tenants. Raises `Refused` (``not_found``, ``invalid_request``) and `StoreUnavailable`."""

    def __init__(self, store: TenantStore) -> None:
        self._store = store

    async def plan(self, spec: GatewaySpec) -> Plan:
        """Say what `apply` would change."""
        return make_plan(spec, await self._store.rules(), await self._store.tenants())

    async def apply(self, spec: GatewaySpec) -> Plan:
        """Make the store what the file declares; return what changed.

        Each tenant is written whole or not at all. Where the store fails on the way, running it again does the rest.
        """
        plan = await self.plan(spec)
        if plan.rules is not None:
            await self._store.put_rules(plan.rules)
        for policy in plan.put:
            await self._store.put(policy)
        for tenant in plan.remove:
            await self._store.remove(tenant)
        return plan

    async def tenants(self) -> Sequence[TenantRecord]:
        """Return all tenants by id."""
        return await self._store.tenants()

    async def tenant(self, tenant: str) -> TenantRecord:
        """Return one tenant."""
        # Checked before it becomes part of a name in the store: a brace would name another slot.
        found = await self._store.tenant(tenant) if TENANT_ID.fullmatch(tenant) else None
        return found or _no_tenant(tenant)

    async def suspend(self, tenant: str) -> None:
        """Refuse a tenant until `resume`; its running jobs go on."""
        await self.tenant(tenant)
        if not await self._store.suspend(tenant, suspended=True):
            _no_tenant(tenant)

    async def resume(self, tenant: str) -> None:
        """Undo `suspend`."""
        await self.tenant(tenant)
        if not await self._store.suspend(tenant, suspended=False):
            _no_tenant(tenant)

    async def keys(self, tenant: str) -> Sequence[ApiKey]:
        """Return the API keys of a tenant, oldest first."""
        await self.tenant(tenant)
        return await self._store.keys(tenant)

    async def create_key(self, tenant: str, *, name: str = "", ttl_s: int | None = None) -> NewKey:
        """Make an API key that expires after ``ttl_s`` seconds, or never."""
        if (await self.tenant(tenant)).removed:
            _no_tenant(tenant)
        credential, text = new_api_key(tenant)
        key = await self._store.add_key(credential, name, ttl_s=ttl_s)
        return NewKey(key or _no_tenant(tenant), text)

    async def rotate_key(
        self, tenant: str, key_id: str | None = None, *, overlap_s: int = DEFAULT_OVERLAP_S, ttl_s: int | None = None
    ) -> NewKey:
        """Make a key that replaces another one, which expires after an overlap.

        Args:
            tenant: Whose key.
            key_id: The key to replace; may be left out where the tenant has one active key.
            overlap_s: Seconds that the old key stays valid, unless it expires sooner anyway.
            ttl_s: Life of the new key, seconds; by default as long as the old one was given.
        """
        old = _choose(tenant, await self.keys(tenant), key_id)
        if ttl_s is None and old.expires_ms is not None:
            ttl_s = max(1, (old.expires_ms - old.created_ms) // MILLISECONDS)
        new = await self.create_key(tenant, name=old.name, ttl_s=ttl_s)
        await self._store.expire_key(tenant, old.id, in_s=overlap_s)
        return new

    async def revoke_key(self, tenant: str, key_id: str) -> ApiKey:
        """Refuse a key from now on; the tenant's running jobs go on."""
        await self.tenant(tenant)
        known = KEY_ID.fullmatch(key_id) and await self._store.revoke_key(tenant, key_id)
        return known or _no_key(tenant, key_id)


def _choose(tenant: str, keys: Sequence[ApiKey], key_id: str | None) -> ApiKey:
    active = [key for key in keys if key.state == "active" and key_id in {None, key.id}]
    if len(active) == 1:
        return active[0]
    if active:
        names = ", ".join(key.id for key in active)
        raise Refused("invalid_request", f"tenant {tenant!r} has several active keys, say which: {names}")
    if key_id is not None:
        _no_key(tenant, key_id)
    raise Refused("not_found", f"tenant {tenant!r} has no active key")


def _no_tenant(tenant: str) -> NoReturn:
    raise Refused("not_found", f"there is no tenant {tenant!r}")


def _no_key(tenant: str, key_id: str) -> NoReturn:
    raise Refused("not_found", f"tenant {tenant!r} has no such key: {key_id!r}")
