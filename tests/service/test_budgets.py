from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from support.ledger import Store, admission, open_store

from gateway.core.events import Alert, BudgetAlert, Event, WebhookDelivery
from gateway.core.tenant import Secret
from gateway.core.webhook import RETRIES_S, Answer
from gateway.service.budgets import LEASE_MS, BudgetWatch
from gateway.store.alerts import RedisAlerts
from gateway.store.readiness import ensure_epoch

TENANT = "team"
URL = "https://hooks.example.com/budget"


@dataclass(slots=True)
class Receiver:
    """Takes webhooks, and answers as the test says; the last answer for ever."""

    answers: list[Answer] = field(default_factory=lambda: [Answer("delivered", 200)])
    dies: bool = False
    got: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def send(self, url: str, message_id: str, body: bytes, secrets: tuple[Secret, ...]) -> Answer:
        """See `WebhookSender.send`."""
        if self.dies:
            raise RuntimeError
        assert secrets[0].reveal().startswith("whsec_")
        self.got.append((url, message_id, body))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@dataclass(slots=True)
class Desk:
    """Two processes that tell, and what they told."""

    store: Store
    receiver: Receiver = field(default_factory=Receiver)
    events: list[Event] = field(default_factory=list)
    now_s: float = 2_000_000_000.0

    def watch(self) -> BudgetWatch:
        """Make what one process runs."""
        store = self.store
        return BudgetWatch(
            alerts=RedisAlerts(store.client),
            tenants=store.tenants,
            endpoints=store.deliveries,
            sender=self.receiver,
            sweeper=store.sweeper,
            sink=self.events.append,
            clock=lambda: self.now_s,
            jitter=lambda: 0.0,
        )

    async def reach(self, **policy: object) -> None:
        """Have a budget reach 80 %."""
        caller = await self.store.caller(TENANT, budgets={"month": 100}, **policy)
        await self.store.ledger.admit(admission(caller, estimate=85))

    def told(self) -> list[tuple[str, int]]:
        """List the events of alerts."""
        return [(event.window, event.percent) for event in self.events if isinstance(event, BudgetAlert)]


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[Desk]:
    """Put it together on an empty store."""
    async with open_store(redis_url) as store:
        await ensure_epoch(store.client)
        yield Desk(store)


async def test_an_alert_is_told_once_by_the_fleet(desk: Desk) -> None:
    """One event, with the figures of the moment; without an endpoint that is all."""
    await desk.reach()
    for watch in (desk.watch(), desk.watch(), desk.watch()):
        await watch.tell()
    assert desk.events == [
        BudgetAlert(tenant=TENANT, window="month", percent=80, limit=100, spent=0, held=85),
    ]
    assert await RedisAlerts(desk.store.client).pending() == []


async def test_a_tenant_with_an_endpoint_gets_a_webhook(desk: Desk) -> None:
    """Signed with its secret, with amounts in credits and when the window starts anew."""
    await desk.reach(webhook_url=URL)
    await desk.watch().tell()
    await desk.watch().tell()
    ((url, message_id, body),) = desk.receiver.got
    said = json.loads(body, parse_float=str)
    assert (url, said["type"], message_id.startswith("msg_team_month_")) == (URL, "budget.alert", True)
    assert said["data"] | {"resets_at": None} == {
        "tenant": TENANT, "window": "month", "percent": 80, "limit": "0.0000001", "spent": 0, "held": "0.000000085",
        "remaining": "0.000000015", "resets_at": None,
    }  # fmt: skip
    assert said["data"]["resets_at"].endswith("-01T00:00:00Z")
    (delivery,) = (event for event in desk.events if isinstance(event, WebhookDelivery))
    assert (delivery.receiver, delivery.type, delivery.outcome) == ("hooks.example.com", "budget.alert", "delivered")


async def test_a_webhook_is_tried_again_and_the_event_is_not(desk: Desk) -> None:
    """As for a job's: the same message, after growing pauses, until it is given up after a day, which is told."""
    desk.receiver.answers = [Answer("timeout")]
    await desk.reach(webhook_url=URL)
    for pause_s in (0.0, *RETRIES_S):
        desk.now_s += pause_s - 1
        await desk.watch().tell()
        desk.now_s += 1
        await desk.watch().tell()
    assert len({(message, body) for _, message, body in desk.receiver.got}) == 1
    assert len(desk.receiver.got) == len(RETRIES_S) + 1
    assert desk.told() == [("month", 80)]
    assert [event.event for event in desk.events if isinstance(event, Alert)] == ["webhook.failed"]
    assert await RedisAlerts(desk.store.client).pending() == []


async def test_an_alert_whose_process_died_is_told_by_another(desk: Desk) -> None:
    """What a dead process had taken on is sent once its lease is over, and not before."""
    await desk.reach(webhook_url=URL)
    dies = desk.watch()

    desk.receiver.dies = True
    with pytest.raises(RuntimeError):
        await dies.tell()
    desk.receiver.dies = False
    await desk.watch().tell()
    assert desk.receiver.got == []
    desk.now_s += LEASE_MS / 1000
    await desk.watch().tell()
    assert (len(desk.receiver.got), desk.told()) == (1, [("month", 80)])


async def test_an_endpoint_that_answered_410_gets_none(desk: Desk) -> None:
    """Operators still hear of it."""
    await desk.reach(webhook_url=URL)
    await desk.store.client.hset(f"{{{TENANT}}}:webhook", "disabled", URL)
    await desk.watch().tell()
    assert (desk.receiver.got, desk.told()) == ([], [("month", 80)])
