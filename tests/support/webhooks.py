"""Jobs that end with a webhook owed, and a notifier on a test's own store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from support.ledger import CREDIT, Store, admission
from support.ports import Ports

from gateway.core.events import Alert, Event, WebhookDelivery
from gateway.core.job import JobState
from gateway.core.movements import Admitted, ChargedState, Release, Settlement
from gateway.core.queue import DueEntry
from gateway.core.tenant import Credential
from gateway.core.webhook import Delivery
from gateway.service.notify import Notifier
from gateway.webhooks.resolver import CheckedResolver
from gateway.webhooks.sender import HttpSender

POLL_S = 0.01
EndState = ChargedState | Literal[JobState.FAILED]
PUBLIC_URL = "https://gateway.example.com"


async def end_job(
    store: Ports,
    credential: Credential,
    *,
    state: EndState = JobState.COMPLETED,
    **admitted: Any,  # noqa: ANN401
) -> str:
    """Run a job to its end; return its id. Nobody is told that its tenant owes a webhook, as after a crash."""
    request = admission(credential, **admitted)
    answer = await store.ledger.admit(request)
    assert isinstance(answer, Admitted), answer
    tenant, job_id = credential.tenant, request.job_id
    await store.ledger.accept(tenant, job_id, f"vendor-{job_id}")
    if state is JobState.FAILED:
        await store.ledger.release(Release(tenant=tenant, job_id=job_id, state=state, reason="blocked"))
    else:
        await store.ledger.settle(Settlement(tenant=tenant, job_id=job_id, state=state, cost=CREDIT // 2))
    return job_id


@dataclass(frozen=True, slots=True)
class Notifying:
    """A notifier at work.

    Attributes:
        events: What it has said so far.
    """

    store: Store
    events: list[Event] = field(default_factory=list)

    @property
    def attempts(self) -> list[WebhookDelivery]:
        """The attempts so far."""
        return [event for event in self.events if isinstance(event, WebhookDelivery)]

    @property
    def alerts(self) -> list[str]:
        """The alerts so far, by name."""
        return [event.event for event in self.events if isinstance(event, Alert)]

    async def wake(self, tenant: str = "team") -> None:
        """Tell the queue that a tenant owes something."""
        await self.store.hooks.schedule([DueEntry(tenant, "")])

    async def delivery(self, job_id: str, *, tenant: str = "team", attempts: int) -> Delivery:
        """Wait until so many attempts at a job's webhook are on record."""

        async def found() -> Delivery | None:
            delivery = await self.store.deliveries.delivery(tenant, job_id)
            return delivery if delivery is not None and delivery.attempts >= attempts else None

        delivery: Delivery = await until(found)
        return delivery


async def until(state: Any) -> Any:  # noqa: ANN401  # whatever is waited for
    """Ask until there is an answer."""
    async with asyncio.timeout(30):
        while not (found := await state()):  # noqa: ASYNC110  # the store has no event to wait for
            await asyncio.sleep(POLL_S)
        return found


@asynccontextmanager
async def notifying(store: Store, *, close_s: float = 0.1, **options: Any) -> AsyncIterator[Notifying]:  # noqa: ANN401
    """Run a notifier with the real sender until the block ends.

    Args:
        store: Whose scripts may read a clock that the test moves.
        close_s: For attempts under way at the end.
        options: Further arguments of `Notifier`.
    """
    sender: Any = HttpSender(CheckedResolver(allow_private=True))
    running = Notifying(store)
    notifier = Notifier(
        deliveries=store.deliveries,
        sender=options.pop("sender", sender),
        due=store.hooks,
        sink=running.events.append,
        public_url=PUBLIC_URL,
        jitter=lambda: 0.0,
        sleep=lambda _: asyncio.sleep(POLL_S),
        **options,
    )
    task = asyncio.create_task(notifier.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await notifier.close(close_s)
        await sender.aclose()
