"""Budget alerts told: an event and a metric for operators, a webhook for the tenant where it has an endpoint.

The script that books a movement notes an alert, once a window; it stays noted until it was told. A process that dies on
the way has another one tell it: the webhook goes out at least once, under the same id.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

import orjson

from gateway.core.budgets import PendingAlert
from gateway.core.credits import format_credits
from gateway.core.events import Alert, BudgetAlert, WebhookDelivery
from gateway.core.ports import Sink, Sweeper
from gateway.core.quota import window_end
from gateway.core.targets import spellings
from gateway.core.tenant import Secret
from gateway.core.webhook import Answer, decide
from gateway.errors import StoreUnavailable
from gateway.service.deliveries import WebhookSender
from gateway.service.plan import TenantRecord

ROUND_S: Final = 5.0
LEASE_MS: Final = 30_000
"""Longer than an attempt can take: nobody else makes it meanwhile."""
AT_ONCE: Final = 16
TYPE: Final = "budget.alert"


class Alerts(Protocol):
    """Alerts that were noted. Every method raises `StoreUnavailable`, and may be run twice."""

    async def pending(self) -> Sequence[PendingAlert]:
        """Read those of all tenants that are yet to be told."""

    async def keep(self, alert: PendingAlert) -> None:
        """Record how far the telling got."""

    async def drop(self, alert: PendingAlert) -> None:
        """Record that it was told."""


class Tenants(Protocol):
    """Tenants on record. Raises `StoreUnavailable`."""

    async def tenant(self, tenant: str) -> TenantRecord | None:
        """Read one tenant."""


class Endpoints(Protocol):
    """What signing and sending to a tenant's own endpoint takes. Raises `StoreUnavailable`."""

    async def secret(self, tenant: str) -> Secret:
        """Read the tenant's signing secret; made where there is none."""

    async def disabled(self, tenant: str) -> str | None:
        """Read which endpoint of the tenant answered 410, if it has not been enabled since."""


class BudgetWatch:
    """Tells of alerts, every few seconds; of many processes, one at a time does.

    Args:
        clock: Unix seconds.
        jitter: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        *,
        alerts: Alerts,
        tenants: Tenants,
        endpoints: Endpoints,
        sender: WebhookSender,
        sweeper: Sweeper,
        sink: Sink,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._alerts = alerts
        self._tenants = tenants
        self._endpoints = endpoints
        self._sender = sender
        self._sweeper = sweeper
        self._sink = sink
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            try:
                if await self._sweeper.turn("alerts", ttl_s=ROUND_S):
                    await self.tell()
            except StoreUnavailable:
                pass  # the next turn comes
            await self._sleep(ROUND_S)

    async def tell(self) -> None:
        """Tell once of every alert whose turn it is. Raises `StoreUnavailable`."""
        pending = await self._alerts.pending()
        for at in range(0, len(pending), AT_ONCE):
            await asyncio.gather(*map(self._tell, pending[at : at + AT_ONCE]))

    async def _tell(self, alert: PendingAlert) -> None:
        if alert.next_ms > self._now_ms():
            return
        # Leased before anything is sent or said, so that a slow receiver is not told twice.
        leased = replace(alert, told=True, next_ms=self._now_ms() + LEASE_MS)
        await self._alerts.keep(leased)
        if not alert.told:
            self._sink(_event(alert))
        url = await self._endpoint(alert.tenant)
        if url is None:
            await self._alerts.drop(alert)
        else:
            await self._send(leased, url)

    async def _endpoint(self, tenant: str) -> str | None:
        record = await self._tenants.tenant(tenant)
        if record is None or record.removed or record.policy.webhook_url is None:
            return None
        url = record.policy.webhook_url
        return None if url == await self._endpoints.disabled(tenant) else url

    async def _send(self, alert: PendingAlert, url: str) -> None:
        """Make one attempt at the webhook, and record what follows, as for a job's."""
        secret, began, attempt = await self._endpoints.secret(alert.tenant), self._clock(), alert.attempts + 1
        answer = await self._sender.send(url, _message_id(alert), body_of(alert), (secret,))
        took_s = max(0.0, self._clock() - began)
        self._sink(_delivery(alert, url, attempt, answer, took_s * 1000))
        decision = decide(answer, attempt, latency_s=took_s, jitter=self._jitter())
        if decision.state == "pending":
            next_ms = self._now_ms() + round(decision.retry_s * 1000)
            await self._alerts.keep(replace(alert, attempts=attempt, next_ms=next_ms))
            return
        if decision.state == "failed":
            why = f"a budget alert was given up: {answer.status or answer.outcome}"
            self._sink(Alert(event="webhook.failed", detail=why, tenant=alert.tenant))
        await self._alerts.drop(alert)

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)


def body_of(alert: PendingAlert) -> bytes:
    """Write the body of an alert's webhook: the same bytes at each attempt."""
    at = datetime.fromtimestamp(alert.at_ms / 1000, UTC)
    end = window_end(alert.name, at)
    data = {
        "tenant": alert.tenant,
        "window": alert.name,
        "percent": alert.percent,
        "limit": orjson.Fragment(format_credits(alert.limit)),
        "spent": orjson.Fragment(format_credits(alert.spent)),
        "held": orjson.Fragment(format_credits(alert.held)),
        "remaining": orjson.Fragment(format_credits(max(0, alert.limit - alert.spent - alert.held))),
        "resets_at": None if end is None else f"{end:%Y-%m-%dT%H:%M:%SZ}",
    }
    timestamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"type": TYPE, "timestamp": timestamp, "data": data})


def _message_id(alert: PendingAlert) -> str:
    return f"msg_{alert.tenant}_{alert.window.replace(':', '_')}_{alert.percent}"


def _event(alert: PendingAlert) -> BudgetAlert:
    return BudgetAlert(
        tenant=alert.tenant,
        window=alert.name,
        percent=alert.percent,
        limit=alert.limit,
        spent=alert.spent,
        held=alert.held,
    )


def _delivery(alert: PendingAlert, url: str, attempt: int, answer: Answer, latency_ms: float) -> WebhookDelivery:
    return WebhookDelivery(
        tenant=alert.tenant,
        job_id="",
        type=TYPE,
        receiver=(spellings(url) or ("",))[0],
        attempt=attempt,
        outcome=answer.outcome,
        status=answer.status,
        latency_ms=latency_ms,
        error=answer.detail,
    )
