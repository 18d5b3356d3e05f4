"""Administration of webhooks: what the command line and the admin API do, on the store's ports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.core.job import is_job_id
from gateway.core.ports import Due
from gateway.core.queue import DueEntry
from gateway.core.tenant import Secret
from gateway.core.webhook import Delivery
from gateway.errors import Refused
from gateway.service.deliveries import WebhookStore
from gateway.service.tenants import TenantAdmin

DEFAULT_OVERLAP_S: Final = 86_400
LIST_LIMIT: Final = 1000
_AT_ONCE: Final = 32


class WebhookAdmin:
    """What operators do about webhooks. Raises `Refused` (``not_found``) and `StoreUnavailable`."""

    def __init__(self, tenants: TenantAdmin, store: WebhookStore, due: Due) -> None:
        self._tenants = tenants
        self._store = store
        self._due = due

    async def unsettled(self, tenant: str) -> Sequence[Delivery]:
        """Return the deliveries that are pending, failed or were not made, oldest job first; 1000 of each at most."""
        await self._tenants.tenant(tenant)
        ids = dict.fromkeys(await self._store.unsettled(tenant, limit=LIST_LIMIT))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def read(job_id: str) -> Delivery | None:
            async with gate:
                return await self._store.delivery(tenant, job_id)

        found = await asyncio.gather(*map(read, ids))
        return sorted((one for one in found if one is not None), key=lambda one: one.job_id)

    async def delivery(self, tenant: str, job_id: str) -> Delivery:
        """Return a job's delivery, whatever became of it."""
        await self._tenants.tenant(tenant)
        found = await self._store.delivery(tenant, job_id) if is_job_id(job_id) else None
        if found is None:
            raise Refused("not_found", f"nothing is or was owed to a webhook for job {job_id!r} of {tenant!r}")
        return found

    async def retry(self, tenant: str, job_id: str | None = None) -> int:
        """Send again at once: one job's webhook, delivered or not, or all that are not; return how many."""
        ids = [job_id] if job_id is not None else [one.job_id for one in await self.unsettled(tenant)]
        if job_id is not None:
            await self.delivery(tenant, job_id)
        count = sum([await self._store.again(tenant, one) for one in ids])
        if count:
            await self._due.schedule([DueEntry(tenant, "")])
        return count

    async def secret(self, tenant: str) -> Secret:
        """Return the tenant's signing secret."""
        await self._tenants.tenant(tenant)
        return await self._store.secret(tenant)

    async def rotate(self, tenant: str, *, overlap_s: int = DEFAULT_OVERLAP_S) -> Secret:
        """Replace the signing secret; messages carry the signatures of both for ``overlap_s`` seconds."""
        await self._tenants.tenant(tenant)
        return await self._store.rotate(tenant, overlap_s=overlap_s)

    async def disabled(self, tenant: str) -> str | None:
        """Return the tenant's endpoint if it is disabled."""
        await self._tenants.tenant(tenant)
        return await self._store.disabled(tenant)

    async def enable(self, tenant: str) -> bool:
        """Send to the tenant's endpoint again; False where it was not disabled."""
        await self._tenants.tenant(tenant)
        return await self._store.enable(tenant)
