"""Webhooks on Redis: which are owed, how far each got, each tenant's signing secret. All of a tenant is in one slot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any, Final, cast

from redis.utils import str_if_bytes

from gateway.core.job import Job
from gateway.core.tenant import Secret
from gateway.core.webhook import (
    Announcement,
    Attempt,
    Delivery,
    DeliveryState,
    Noted,
    Owed,
    Taken,
    event_type,
    new_secret,
)
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors
from gateway.store.documents import tenant_from_json
from gateway.store.records import Reply, decode_job
from gateway.store.scripts import Script, Scripts

_ATTEMPT_FIELDS: Final = 5


class RedisDeliveries:
    """`service.deliveries.Deliveries` and `service.deliveries.WebhookStore`.

    Args:
        client: For reads of whole sets.
        scripts: Runs the scripts.
        library: Scripts by name (`store.scripts.load_scripts`).
    """

    def __init__(self, client: RedisClient, scripts: Scripts, library: Mapping[str, Script]) -> None:
        self._client = client
        self._scripts = scripts
        self._library = library

    async def take(self, tenant: str, *, limit: int, each: int, under_way: Mapping[str, int], lease_s: float) -> Taken:
        """See `Deliveries.take`."""
        counts = [word for receiver, count in under_way.items() for word in (receiver, count)]
        reply: Reply = await self._run(
            "owed_take",
            [keys.owed(tenant), keys.held(tenant)],
            [limit, each, round(lease_s * 1000), *counts],
        )
        next_ms, more, *members = reply
        return Taken(tuple(map(_owed, members)), int(next_ms) / 1000 if next_ms else None, more == b"1")

    async def read(self, tenant: str, owed: Owed) -> Announcement | None:
        """See `Deliveries.read`."""
        member = f"{owed.receiver}/{owed.job_id}"
        reply = await self._read(tenant, owed.job_id, new_secret().reveal(), member)
        due, hook, record, policy, endpoint = reply
        job = decode_job(tenant, record)
        if not due or job is None or job.webhook_url is None:
            return None
        *secrets, disabled = (part.decode() for part in endpoint)
        document, removed = policy
        return Announcement(
            job=job,
            url=job.webhook_url,
            policy=None if document is None or removed else tenant_from_json(document),
            secrets=tuple(Secret(secret) for secret in secrets if secret),
            disabled=disabled == job.webhook_url,
            attempts=int(hook[0] or 0),
            log=_log(hook[2]),
        )

    async def note(self, tenant: str, job_id: str, noted: Noted) -> bool:
        """See `Deliveries.note`."""
        decision = noted.decision
        changed = await self._run(
            "owed_note",
            [
                keys.owed(tenant), keys.hook(tenant, job_id), keys.job(tenant, job_id), keys.unsent(tenant),
                keys.held(tenant), keys.webhook(tenant),
            ],
            [
                job_id, noted.before, noted.attempts, decision.state, round(decision.retry_s * 1000),
                json.dumps([astuple(attempt) for attempt in noted.log]), round(decision.hold_s * 1000),
                noted.disable or "",
            ],
        )  # fmt: skip
        return bool(changed)

    async def unsettled(self, tenant: str, *, limit: int) -> list[str]:
        """See `WebhookStore.unsettled`."""
        with store_errors():
            owed: list[Any] = await self._client.zrange(keys.owed(tenant), 0, limit - 1)
            unsent: list[Any] = await self._client.zrange(keys.unsent(tenant), 0, limit - 1)
        return [_owed(member).job_id for member in owed] + [str_if_bytes(job_id) for job_id in unsent]

    async def delivery(self, tenant: str, job_id: str) -> Delivery | None:
        """See `WebhookStore.delivery`."""
        due, hook, record, *_ = await self._read(tenant, job_id, "", "")
        job = decode_job(tenant, record)
        if job is None or job.webhook_url is None or not (due or hook[1]):
            return None
        return _delivery(job, job.webhook_url, int(float(due)) if due else None, hook)

    async def again(self, tenant: str, job_id: str) -> bool:
        """See `WebhookStore.again`."""
        names = [keys.owed(tenant), keys.hook(tenant, job_id), keys.job(tenant, job_id), keys.unsent(tenant)]
        return bool(await self._run("owed_again", names, [job_id]))

    async def secret(self, tenant: str) -> Secret:
        """See `WebhookStore.secret`."""
        return await self._secret(tenant, "")

    async def rotate(self, tenant: str, *, overlap_s: int) -> Secret:
        """See `WebhookStore.rotate`."""
        return await self._secret(tenant, overlap_s * 1000)

    async def disabled(self, tenant: str) -> str | None:
        """See `WebhookStore.disabled`."""
        with store_errors():
            url = await self._client.hget(keys.webhook(tenant), "disabled")
        return None if url is None else str_if_bytes(url)

    async def enable(self, tenant: str) -> bool:
        """See `WebhookStore.enable`."""
        with store_errors():
            return bool(await self._client.hdel(keys.webhook(tenant), "disabled", "disabled_at"))

    async def _read(self, tenant: str, job_id: str, secret: str, member: str) -> Reply:
        return await self._run(
            "owed_read",
            [
                keys.owed(tenant), keys.hook(tenant, job_id), keys.job(tenant, job_id), keys.tenant(tenant),
                keys.webhook(tenant),
            ],
            [job_id, secret, member],
        )  # fmt: skip

    async def _secret(self, tenant: str, overlap_ms: int | str) -> Secret:
        args = [new_secret().reveal(), overlap_ms]
        secret: bytes = await self._scripts.run(self._library["webhook_secret"], [keys.webhook(tenant)], args)
        return Secret(secret.decode())

    async def _run(self, name: str, names: Sequence[str], args: Sequence[str | int]) -> Reply:
        reply: Reply = await self._scripts.run(self._library[name], names, args)
        return reply


def _owed(member: bytes | str) -> Owed:
    receiver, _, job_id = str_if_bytes(member).partition("/")
    return Owed(job_id, receiver)


def _log(value: bytes | None) -> tuple[Attempt, ...]:
    return tuple(Attempt(*attempt[:_ATTEMPT_FIELDS]) for attempt in json.loads(value)) if value else ()


def _delivery(job: Job, url: str, due_ms: int | None, hook: Sequence[bytes | None]) -> Delivery:
    state = cast("DeliveryState", "pending" if due_ms is not None else (hook[1] or b"").decode())
    return Delivery(
        tenant=job.tenant,
        job_id=job.id,
        url=url,
        type=event_type(job),
        state=state,
        attempts=int(hook[0] or 0),
        log=_log(hook[2]),
        due_ms=due_ms,
    )
