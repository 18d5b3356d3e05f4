"""Webhooks in memory: `service.deliveries.Deliveries` and `service.deliveries.WebhookStore`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from support.memory import Hook, Memory, Webhooks

from gateway.core.job import Job
from gateway.core.tenant import Secret
from gateway.core.webhook import Announcement, Delivery, Noted, Owed, Taken, event_type, new_secret


class MemoryDeliveries:
    """See `Deliveries` and `WebhookStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def take(self, tenant: str, *, limit: int, each: int, under_way: Mapping[str, int], lease_s: float) -> Taken:
        """See `Deliveries.take`: it looks at all that is due, however much that is."""
        books, now_ms, counts = self._memory.books(tenant), self._memory.now_ms, Counter(under_way)
        owed, held = books.webhooks.owed, books.webhooks.held
        taken: list[Owed] = []
        for job_id in sorted((job_id for job_id in owed if owed[job_id] <= now_ms), key=lambda job_id: owed[job_id]):
            receiver = _receiver(books.jobs[job_id])
            if held.get(receiver, 0) > now_ms:
                owed[job_id] = held[receiver]
            elif counts[receiver] < each and len(taken) < limit:
                owed[job_id] = now_ms + round(lease_s * 1000)
                counts[receiver] += 1
                taken.append(Owed(job_id, receiver))
        return Taken(tuple(taken), max(0, min(owed.values()) - now_ms) / 1000 if owed else None)

    async def read(self, tenant: str, owed: Owed) -> Announcement | None:
        """See `Deliveries.read`."""
        books, webhooks = self._memory.books(tenant), self._webhooks(tenant)
        secrets = [self._secret(webhooks)]
        job = books.jobs.get(owed.job_id)
        if job is None or job.webhook_url is None or job.id not in webhooks.owed:
            return None
        if webhooks.old is not None and webhooks.old[1] > self._memory.now_ms:
            secrets.append(webhooks.old[0])
        hook = webhooks.hooks.get(job.id)
        return Announcement(
            job=job,
            url=job.webhook_url,
            policy=None if books.removed else books.policy,
            secrets=tuple(secrets),
            disabled=webhooks.disabled == job.webhook_url,
            attempts=0 if hook is None else hook.attempts,
            log=() if hook is None else hook.log,
        )

    async def note(self, tenant: str, job_id: str, noted: Noted) -> bool:
        """See `Deliveries.note`."""
        books, webhooks, now_ms = self._memory.books(tenant), self._webhooks(tenant), self._memory.now_ms
        before = webhooks.hooks[job_id].attempts if job_id in webhooks.hooks else 0
        if job_id not in webhooks.owed or before != noted.before:
            return False
        decision, receiver = noted.decision, _receiver(books.jobs[job_id])
        webhooks.hooks[job_id] = Hook(decision.state, noted.attempts, noted.log)
        if decision.state == "pending":
            webhooks.owed[job_id] = now_ms + round(decision.retry_s * 1000)
        else:
            del webhooks.owed[job_id]
        if decision.state in {"failed", "disabled"}:
            webhooks.unsent[job_id] = now_ms
        if decision.hold_s:
            until_ms = now_ms + round(decision.hold_s * 1000)
            webhooks.held[receiver] = max(until_ms, webhooks.held.get(receiver, 0))
        elif decision.state == "delivered":
            webhooks.held.pop(receiver, None)
        webhooks.disabled = noted.disable or webhooks.disabled
        return True

    async def unsettled(self, tenant: str, *, limit: int) -> Sequence[str]:
        """See `WebhookStore.unsettled`."""
        webhooks = self._webhooks(tenant)
        return [
            job_id for kind in (webhooks.owed, webhooks.unsent) for job_id in sorted(kind, key=kind.__getitem__)[:limit]
        ]

    async def delivery(self, tenant: str, job_id: str) -> Delivery | None:
        """See `WebhookStore.delivery`."""
        webhooks, job = self._webhooks(tenant), self._memory.books(tenant).jobs.get(job_id)
        due_ms, hook = webhooks.owed.get(job_id), webhooks.hooks.get(job_id)
        if job is None or job.webhook_url is None or (due_ms is None and hook is None):
            return None
        hook = hook or Hook("pending", 0, ())
        return Delivery(
            tenant=tenant,
            job_id=job_id,
            url=job.webhook_url,
            type=event_type(job),
            state="pending" if due_ms is not None else hook.state,
            attempts=hook.attempts,
            log=hook.log,
            due_ms=due_ms,
        )

    async def again(self, tenant: str, job_id: str) -> bool:
        """See `WebhookStore.again`."""
        webhooks, job = self._webhooks(tenant), self._memory.books(tenant).jobs.get(job_id)
        webhooks.unsent.pop(job_id, None)
        if job is None or job.webhook_url is None or not job.state.terminal:
            return False
        webhooks.owed[job_id] = self._memory.now_ms
        if job_id in webhooks.hooks:
            webhooks.hooks[job_id] = replace(webhooks.hooks[job_id], state="pending", attempts=0)
        return True

    async def secret(self, tenant: str) -> Secret:
        """See `WebhookStore.secret`."""
        return self._secret(self._webhooks(tenant))

    async def rotate(self, tenant: str, *, overlap_s: int) -> Secret:
        """See `WebhookStore.rotate`."""
        webhooks = self._webhooks(tenant)
        if webhooks.secret is not None:
            webhooks.old = webhooks.secret, self._memory.now_ms + overlap_s * 1000
        webhooks.secret = new_secret()
        return webhooks.secret

    async def disabled(self, tenant: str) -> str | None:
        """See `WebhookStore.disabled`."""
        return self._webhooks(tenant).disabled

    async def enable(self, tenant: str) -> bool:
        """See `WebhookStore.enable`."""
        webhooks = self._webhooks(tenant)
        was, webhooks.disabled = webhooks.disabled, None
        return was is not None

    def _webhooks(self, tenant: str) -> Webhooks:
        return self._memory.books(tenant).webhooks

    @staticmethod
    def _secret(webhooks: Webhooks) -> Secret:
        webhooks.secret = webhooks.secret or new_secret()
        return webhooks.secret


def _receiver(job: Job) -> str:
    return urlsplit(job.webhook_url or "").netloc
