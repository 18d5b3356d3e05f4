from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.ledger import CLOCK_START_US, CREDIT, Store, admission, set_clock

from gateway.core.budgets import PendingAlert
from gateway.core.job import JobState
from gateway.core.movements import Settlement
from gateway.core.tenant import Credential, TenantPolicy
from gateway.store.alerts import RedisAlerts

TENANT = "team"


async def noted(store: Store) -> list[tuple[str, int]]:
    """List the alerts that are yet to be told: window and percentage."""
    return sorted((alert.name, alert.percent) for alert in await RedisAlerts(store.client).pending())


async def take(store: Store) -> list[tuple[str, int]]:
    """List them, and have them told."""
    found = await noted(store)
    for alert in await RedisAlerts(store.client).pending():
        await RedisAlerts(store.client).drop(alert)
    return found


async def hold(store: Store, caller: Credential, nano: int) -> str:
    """Have a job admitted that holds so much."""
    request = admission(caller, estimate=nano)
    await store.ledger.admit(request)
    return request.job_id


@pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)
async def test_each_percentage_is_noted_once_a_window(store: Store) -> None:
    """At the nanocredit at which it is reached; never again, whether or not it was told meanwhile."""
    caller = await store.caller(TENANT, budgets={"month": 1001})
    await hold(store, caller, 500)
    assert await noted(store) == []
    await hold(store, caller, 1)
    assert await take(store) == [("month", 50)]
    await hold(store, caller, 299)
    assert await noted(store) == []
    await hold(store, caller, 1)
    await hold(store, caller, 1)
    assert await noted(store) == [("month", 80)]
    await hold(store, caller, 199)
    assert await take(store) == [("month", 80), ("month", 100)]


async def test_of_several_the_highest_is_noted_for_each_window(store: Store) -> None:
    """A job that takes a budget past two percentages is one alert; each window has its own."""
    caller = await store.caller(TENANT, budgets={"day": 100, "total": 180})
    await hold(store, caller, 90)
    (day, total) = sorted(await RedisAlerts(store.client).pending(), key=lambda alert: alert.name)
    assert (day.name, day.percent, day.limit, day.spent, day.held) == ("day", 80, 100, 0, 90)
    assert (total.window, total.percent) == ("total", 50)


async def test_an_overrun_is_noted_and_a_release_is_not(store: Store) -> None:
    """What the vendor billed above the hold counts too; a budget that has room again is not announced a second time."""
    caller = await store.caller(TENANT, budgets={"total": 100 * CREDIT})
    job_id = await hold(store, caller, CREDIT)
    charge = Settlement(tenant=TENANT, job_id=job_id, state=JobState.COMPLETED, cost=85 * CREDIT)
    await store.ledger.settle(charge)
    assert await take(store) == [("total", 80)]
    await store.tenants.put(TenantPolicy(TENANT, budgets={"total": 1000 * CREDIT}))
    await hold(store, caller, CREDIT)
    await store.tenants.put(TenantPolicy(TENANT, budgets={"total": 100 * CREDIT}))
    await hold(store, caller, CREDIT)
    assert await noted(store) == []


@pytest.mark.parametrize(("alerts", "expected"), [((), []), ((10, 90), [("total", 90)]), ((91,), [])])
async def test_percentages_are_the_tenants(
    store: Store, alerts: tuple[int, ...], expected: list[tuple[str, int]]
) -> None:
    """A tenant has its own, or none."""
    caller = await store.caller(TENANT, budgets={"total": 100}, alerts=alerts)
    await hold(store, caller, 90)
    assert await noted(store) == expected


async def test_of_many_jobs_at_once_one_crosses(store: Store) -> None:
    """However many are admitted at the same moment, a percentage is noted once."""
    caller = await store.caller(TENANT, budgets={"month": 100})
    await asyncio.gather(*(hold(store, caller, 1) for _ in range(100)))
    assert await noted(store) == [("month", 50), ("month", 80), ("month", 100)]


async def test_a_new_window_begins_anew(clocked_store: Store) -> None:
    """The day after, the day's budget is announced again; the month's, which goes on, is not."""
    caller = await clocked_store.caller(TENANT, budgets={"day": 100, "month": 200}, alerts=(50,))
    await hold(clocked_store, caller, 100)
    assert await take(clocked_store) == [("day", 50), ("month", 50)]
    await set_clock(clocked_store.client, CLOCK_START_US + 86_400_000_000)
    await hold(clocked_store, caller, 50)
    assert await take(clocked_store) == [("day", 50)]


async def test_what_was_kept_is_read_back(store: Store) -> None:
    """How far the telling got survives the process."""
    await store.caller(TENANT)
    alert = PendingAlert(
        tenant=TENANT, window="month:2026-02", percent=80, at_ms=5, limit=10, spent=7, held=1,
        told=True, attempts=3, next_ms=9,
    )  # fmt: skip
    alerts = RedisAlerts(store.client)
    await alerts.keep(replace(alert, attempts=1))
    await alerts.keep(alert)
    assert await alerts.pending() == [alert]
    await alerts.drop(alert)
    assert await alerts.pending() == []
