"""Webhooks: takes what tenants owe their receivers, sends it, and decides what follows from each answer.

A delivery is owed from the moment in which its job ends: the script that ends the job says so. It stays owed until an
attempt at it is recorded as its last, so that a process that dies loses none; it may be made twice.

The queue names tenants, each of which keeps its own deliveries in order of time. A process serves many tenants at once
and of each a few deliveries at once, so that a receiver that is slow or down takes up the time of its own tenant only.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway.core.alerts import AlertName
from gateway.core.events import Alert, WebhookDelivery
from gateway.core.failure import describe
from gateway.core.ports import Due, Sink
from gateway.core.queue import DueEntry
from gateway.core.webhook import (
    LOG_ATTEMPTS,
    Announcement,
    Answer,
    Attempt,
    Decision,
    Noted,
    Owed,
    decide,
    event_type,
)
from gateway.errors import StoreUnavailable
from gateway.service.announcement import announce
from gateway.service.deliveries import Deliveries, WebhookSender

IDLE_S = 0.5
STORE_RETRY_S = 1.0
MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class NotifierLimits:
    """How much one process takes on.

    Attributes:
        tenants: Served at once.
        deliveries: Of one tenant at once; ``receiver`` of them to one receiver.
        lease_s: Longer than an attempt can take; after a crash its deliveries are made again after that time.
    """

    tenants: int = 64
    deliveries: int = 8
    receiver: int = 4
    lease_s: float = 20.0


class Notifier:
    """Makes deliveries. Any number of processes share the work; a dead one's leases run out.

    Args:
        deliveries: What is owed.
        sender: Sends it.
        due: Queue of the tenants that owe something.
        sink: Takes one event an attempt.
        public_url: What our URLs begin with, or empty.
        clock: Unix seconds, for the record.
        jitter: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        *,
        deliveries: Deliveries,
        sender: WebhookSender,
        due: Due,
        sink: Sink,
        public_url: str,
        limits: NotifierLimits = NotifierLimits(),
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._due = due
        self._sink = sink
        self._public_url = public_url
        self._limits = limits
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._served: dict[str, asyncio.Event] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._closing = False

    async def run(self) -> None:
        """Serve tenants until cancelled; attempts that are under way then finish by `close`."""
        while True:
            while len(self._workers) >= self._limits.tenants:
                await asyncio.wait(self._workers, return_when=asyncio.FIRST_COMPLETED)
            try:
                room = self._limits.tenants - len(self._workers)
                claimed = await self._due.claim(limit=room, lease_s=self._limits.lease_s)
            except StoreUnavailable:
                await self._sleep(STORE_RETRY_S)
                continue
            for entry in claimed.entries:
                self._serve(entry.tenant)
            if not claimed.waiting:
                await self._sleep(IDLE_S)

    async def close(self, within_s: float) -> None:
        """Begin no other attempt, and let those under way finish; what does not in time is made again elsewhere."""
        self._closing = True
        for served in self._served.values():
            served.set()
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=within_s)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _serve(self, tenant: str) -> None:
        """Serve a tenant; one that is being served is looked at again at once."""
        served = self._served.get(tenant)
        if served is not None:
            served.set()
            return
        task = asyncio.get_running_loop().create_task(self._work(tenant))
        self._workers.add(task)
        task.add_done_callback(self._workers.discard)

    async def _work(self, tenant: str) -> None:
        wake = self._served[tenant] = asyncio.Event()
        under_way: dict[asyncio.Task[None], str] = {}
        try:
            await self._make(tenant, under_way, wake)
        except StoreUnavailable:
            pass  # the lease runs out and the tenant is claimed again
        except Exception as exc:  # noqa: BLE001 one tenant's surprise must not end the service of all
            self._sink(Alert.failure("webhook.error", exc, tenant=tenant))
        finally:
            await _ended(under_way)
            del self._served[tenant]

    async def _make(self, tenant: str, under_way: dict[asyncio.Task[None], str], wake: asyncio.Event) -> None:
        """Make deliveries until none is due; then say when the next one will be."""
        limits, told = self._limits, False
        while not self._closing:
            room = limits.deliveries - len(under_way)
            if room:
                wake.clear()
                counts = Counter(under_way.values())
                taken = await self._deliveries.take(
                    tenant, limit=room, each=limits.receiver, under_way=counts, lease_s=limits.lease_s
                )
                for owed in taken.owed:
                    under_way[asyncio.create_task(self._deliver(tenant, owed))] = owed.receiver
                if taken.more:
                    continue
                if not under_way:
                    if told and not wake.is_set():
                        return
                    # Told first and looked again then: what came in between is either seen now, or told after us: in
                    # the queue, or, where it was claimed from there before we had our answer, by `wake`.
                    await self._tell(tenant, taken.next_in_s)
                    told = True
                    continue
            told = False
            await _any(under_way, wake if room else None)

    async def _tell(self, tenant: str, next_in_s: float | None) -> None:
        """Say when a tenant is to be served next."""
        if next_in_s is None:
            await self._due.remove([DueEntry(tenant, "")])
        else:
            await self._due.schedule([DueEntry(tenant, "", next_in_s)])

    async def _deliver(self, tenant: str, owed: Owed) -> None:
        """Make one attempt. Where the store does not take its record, it is made again after the lease."""
        try:
            found = await self._deliveries.read(tenant, owed)
            if found is None:
                return
            if found.disabled:
                await self._note(found, Decision("disabled"), found.attempts, found.log)
                return
            began = self._clock()
            await self._conclude(found, owed.receiver, await self._attempt(found), began)
        except StoreUnavailable:
            pass
        except Exception as exc:  # noqa: BLE001 one delivery's surprise must not end the others
            self._sink(Alert.failure("webhook.error", exc, tenant=tenant, job_id=owed.job_id))

    async def _attempt(self, found: Announcement) -> Answer:
        if found.policy is None or not found.policy.allows_webhook(found.url):
            return Answer("refused", detail="its host is not on the tenant's allow-list")
        try:
            body = announce(found.job, self._public_url)
            return await self._sender.send(found.url, f"msg_{found.job.id}", body, found.secrets)
        except Exception as exc:  # noqa: BLE001 counted like any failure, so that it ends like one
            return Answer("error", detail=describe(exc))

    async def _conclude(self, found: Announcement, receiver: str, answer: Answer, began: float) -> None:
        """Tell and record how an attempt ended, and what follows."""
        job, attempt, took_s = found.job, found.attempts + 1, max(0.0, self._clock() - began)
        self._sink(
            WebhookDelivery(
                tenant=job.tenant,
                job_id=job.id,
                type=event_type(job),
                receiver=receiver,
                attempt=attempt,
                outcome=answer.outcome,
                status=answer.status,
                latency_ms=took_s * MILLISECONDS,
                error=answer.detail,
            )
        )
        entry = Attempt(
            round(began * MILLISECONDS), answer.outcome, answer.status, round(took_s * MILLISECONDS), answer.detail
        )
        decision = decide(answer, attempt, latency_s=took_s, jitter=self._jitter())
        disable = found.url if answer.outcome == "gone" and found.own else None
        noted = await self._note(found, decision, attempt, (*found.log, entry)[-LOG_ATTEMPTS:], disable)
        if noted and decision.state == "failed":
            self._report(found, answer, disabled=disable is not None)

    async def _note(
        self,
        found: Announcement,
        decision: Decision,
        attempts: int,
        log: tuple[Attempt, ...],
        disable: str | None = None,
    ) -> bool:
        noted = Noted(before=found.attempts, attempts=attempts, decision=decision, log=log, disable=disable)
        return await self._deliveries.note(found.job.tenant, found.job.id, noted)

    def _report(self, found: Announcement, answer: Answer, *, disabled: bool) -> None:
        job = found.job
        event: AlertName
        if disabled:
            event, detail = "webhook.disabled", "it answered 410: nothing is sent there until `gateway webhooks enable`"
        else:
            why = answer.detail or f"the last answer was {answer.status or answer.outcome}"
            event, detail = "webhook.failed", f"given up: {why}; `gateway webhooks retry` sends it again"
        self._sink(Alert.of(job, event, detail))


async def _ended(under_way: dict[asyncio.Task[None], str]) -> None:
    """Wait for all attempts; where this is cancelled, so are they."""
    try:
        if under_way:
            await asyncio.wait(under_way)
    finally:
        for attempt in under_way:
            attempt.cancel()


async def _any(under_way: dict[asyncio.Task[None], str], wake: asyncio.Event | None) -> None:
    """Wait until an attempt has ended, or there may be more to do; take out those that have ended."""
    woken = [asyncio.create_task(wake.wait())] if wake is not None else []
    waited: list[asyncio.Task[Any]] = [*under_way, *woken]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    for task in woken:
        task.cancel()
    for attempt in [attempt for attempt in under_way if attempt.done()]:
        del under_way[attempt]
