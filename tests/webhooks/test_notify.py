from __future__ import annotations

import asyncio
import json

import pytest
from support.ledger import CLOCK_START_US, Store, set_clock
from support.raw_upstream import RawUpstream, answers, hangs
from support.receiver import host_of, jobs_told, receiving, takes, verified
from support.webhooks import PUBLIC_URL, EndState, end_job, notifying, until

from gateway.core.job import JobState
from gateway.core.tenant import Credential, TenantPolicy
from gateway.core.webhook import LOG_ATTEMPTS, RETRIES_S
from gateway.service.notify import NotifierLimits
from gateway.service.owing import OwingRepair

TENANT = "team"


async def tenant_of(store: Store, *receivers: RawUpstream, tenant: str = TENANT) -> Credential:
    """Put a tenant on record whose own webhook goes to the first receiver, and that may name the others."""
    hosts = tuple(map(host_of, receivers))
    return await store.caller(tenant, webhook_url=f"{receivers[0].url}/hook", webhook_hosts=hosts)


async def secret_of(store: Store, tenant: str = TENANT) -> str:
    """Read a tenant's signing secret."""
    return (await store.deliveries.secret(tenant)).reveal()


async def test_a_receiver_is_told_how_a_job_ended(store: Store, receiver: RawUpstream) -> None:
    """The message names the job, its cost and where its result is, and is signed; the result itself is not in it."""
    job_id = await end_job(store, await tenant_of(store, receiver), labels={"shot": "12"}, model="kling-2.6")
    async with notifying(store) as notified:
        await notified.wake()
        delivery = await notified.delivery(job_id, attempts=1)
    (message,) = receiver.requests
    told = verified(message, await secret_of(store))
    assert (told["type"], told["timestamp"]) == ("job.completed", "2026-02-02T02:40:00.000Z")
    assert told["data"] == {
        "request_id": job_id,
        "status": "COMPLETED",
        "model": "kling-2.6",
        "cost": 0.5,
        "labels": {"shot": "12"},
        "status_url": f"{PUBLIC_URL}/v2/requests/{job_id}/status",
        "response_url": f"{PUBLIC_URL}/v2/requests/{job_id}",
    }
    assert message.headers["webhook-id"] == f"msg_{job_id}"
    assert (delivery.state, [entry.status for entry in delivery.log]) == ("delivered", [204])
    assert [(event.outcome, event.attempt) for event in notified.attempts] == [("delivered", 1)]


@pytest.mark.parametrize(("state", "cost"), [(JobState.FAILED, 0), (JobState.EXPIRED, 0.5)])
async def test_a_receiver_is_told_of_failures(
    store: Store, receiver: RawUpstream, state: EndState, cost: float
) -> None:
    """Whatever tenants read as FAILED is `job.failed`, with the reason and what was charged."""
    await end_job(store, await tenant_of(store, receiver), state=state)
    async with notifying(store) as notified:
        await notified.wake()
        await receiver.arrived.wait()
    told = json.loads(receiver.requests[0].body)
    assert (told["type"], told["data"]["status"], told["data"]["cost"]) == ("job.failed", "FAILED", cost)
    assert told["data"]["error"]


async def test_retries_follow_the_schedule_and_end(store: Store, receiver: RawUpstream) -> None:
    """Each pause passes before the next attempt; after the ninth it is given up, listed, and an alert says so."""
    receiver.reply = answers(500, b"")
    job_id = await end_job(store, await tenant_of(store, receiver))
    at_us = CLOCK_START_US
    async with notifying(store) as notified:
        await notified.wake()
        for number, pause_s in enumerate(RETRIES_S, 1):
            delivery = await notified.delivery(job_id, attempts=number)
            assert delivery.due_ms is not None
            assert delivery.due_ms - at_us // 1000 == pause_s * 1000
            at_us += int(pause_s * 1_000_000)
            await set_clock(store.client, at_us)
        delivery = await notified.delivery(job_id, attempts=9)
        assert (delivery.state, delivery.due_ms, len(delivery.log)) == ("failed", None, 9)
    assert len(receiver.requests) == 9
    assert len({message.headers["webhook-id"] for message in receiver.requests}) == 1
    assert len({message.body for message in receiver.requests}) == 1
    assert notified.alerts == ["webhook.failed"]
    assert list(await store.deliveries.unsettled(TENANT, limit=10)) == [job_id]


async def test_a_retry_that_an_operator_asks_for_begins_anew(store: Store, receiver: RawUpstream) -> None:
    """A delivery that was given up is made again with all its attempts; the log keeps the last ten of all of them."""
    receiver.reply = answers(410, b"")
    credential = await store.caller(TENANT, webhook_hosts=(host_of(receiver),))
    job_id = await end_job(store, credential, webhook_url=receiver.url)
    async with notifying(store) as notified:
        for _ in range(LOG_ATTEMPTS + 1):
            receiver.arrived.clear()
            await notified.wake()
            await receiver.arrived.wait()
            await until(lambda: _state(store, job_id, "failed"))
            assert await store.deliveries.again(TENANT, job_id)
        receiver.reply = takes
        await notified.wake()
        await until(lambda: _state(store, job_id, "delivered"))
    delivery = await store.deliveries.delivery(TENANT, job_id)
    assert delivery is not None
    assert [entry.status for entry in delivery.log] == [410] * 9 + [204]
    assert delivery.attempts == 1


async def test_410_disables_the_tenants_endpoint_until_it_is_enabled(store: Store, receiver: RawUpstream) -> None:
    """After 410 nothing more is sent there; what ends meanwhile is listed, and sent once the operator says so."""
    receiver.reply = answers(410, b"")
    credential = await tenant_of(store, receiver)
    first = await end_job(store, credential)
    async with notifying(store) as notified:
        await notified.wake()
        assert (await notified.delivery(first, attempts=1)).state == "failed"
        assert await store.deliveries.disabled(TENANT) == f"{receiver.url}/hook"
        receiver.reply = takes
        second = await end_job(store, credential)
        await notified.wake()
        await until(lambda: _state(store, second, "disabled"))
        assert len(receiver.requests) == 1
        assert await store.deliveries.enable(TENANT)
        assert not await store.deliveries.enable(TENANT)
        for job_id in (first, second):
            assert await store.deliveries.again(TENANT, job_id)
        await notified.wake()
        await until(lambda: _state(store, second, "delivered"))
        await until(lambda: _state(store, first, "delivered"))
    assert notified.alerts == ["webhook.disabled"]


async def test_410_from_a_jobs_own_target_ends_that_delivery_alone(store: Store, receiver: RawUpstream) -> None:
    """A target that one request named does not speak for the tenant's endpoint."""
    async with receiving(answers(410, b"")) as own:
        credential = await tenant_of(store, receiver, own)
        gone = await end_job(store, credential, webhook_url=f"{own.url}/once")
        async with notifying(store) as notified:
            await notified.wake()
            assert (await notified.delivery(gone, attempts=1)).state == "failed"
            other = await end_job(store, credential)
            await notified.wake()
            assert (await notified.delivery(other, attempts=1)).state == "delivered"
    assert await store.deliveries.disabled(TENANT) is None


async def test_the_allow_list_counts_when_it_is_sent(store: Store, receiver: RawUpstream) -> None:
    """A host that the operator has taken off the list since, or a tenant that was removed, gets nothing."""
    credential = await tenant_of(store, receiver)
    job_id = await end_job(store, credential)
    await store.tenants.put(TenantPolicy(TENANT, webhook_hosts=("*.example.com",)))
    async with notifying(store) as notified:
        await notified.wake()
        delivery = await notified.delivery(job_id, attempts=1)
        assert (delivery.state, delivery.log[-1].outcome) == ("failed", "refused")
        await store.tenants.put(TenantPolicy(TENANT, webhook_url=f"{receiver.url}/hook"))
        await store.tenants.remove(TENANT)
        await store.deliveries.again(TENANT, job_id)
        await notified.wake()
        await until(lambda: _logged(store, job_id, 2))
    assert receiver.connections == 0


async def test_a_slow_receiver_delays_nobody_else(store: Store, receiver: RawUpstream) -> None:
    """While one receiver keeps many deliveries waiting, other tenants' and the tenant's own other ones are made."""
    async with receiving(hangs) as slow:
        credential = await tenant_of(store, slow, receiver)
        stuck = [await end_job(store, credential) for _ in range(300)]
        quick = await end_job(store, credential, webhook_url=receiver.url)
        other = await end_job(store, await tenant_of(store, receiver, tenant="other"))
        async with notifying(store) as notified:
            await notified.wake()
            await slow.arrived.wait()
            await notified.wake("other")
            assert (await notified.delivery(other, tenant="other", attempts=1)).state == "delivered"
            await notified.wake()
            assert (await notified.delivery(quick, attempts=1)).state == "delivered"
            assert slow.connections == NotifierLimits().receiver
    assert {event.job_id for event in notified.attempts}.isdisjoint(stuck)


async def test_a_receiver_that_is_down_is_left_in_peace(store: Store, receiver: RawUpstream) -> None:
    """After a failure to answer, its other deliveries wait for a while instead of failing one by one; others go on."""
    async with receiving(answers(503, b"")) as down:
        credential = await tenant_of(store, down, receiver)
        jobs = [await end_job(store, credential) for _ in range(40)]
        other = await end_job(store, credential, webhook_url=receiver.url)
        async with notifying(store, limits=NotifierLimits(receiver=1)) as notified:
            await notified.wake()
            assert (await notified.delivery(other, attempts=1)).state == "delivered"
            await down.arrived.wait()
            first = json.loads(down.requests[0].body)["data"]["request_id"]
            assert (await notified.delivery(first, attempts=1)).state == "pending"
            assert len(down.requests) == 1
            down.reply = takes
            await set_clock(store.client, CLOCK_START_US + 6_000_000)
            for job_id in jobs:
                await until(lambda job_id=job_id: _state(store, job_id, "delivered"))
    assert len(down.requests) == len(jobs) + 1


async def test_what_is_owed_is_found_after_a_crash(store: Store, receiver: RawUpstream) -> None:
    """The process that ended the job died before it told anyone: the repair finds what is owed, even behind a retry."""
    receiver.reply = answers(500, b"")
    credential = await tenant_of(store, receiver)
    async with notifying(store) as notified:
        await notified.wake()
        first = await end_job(store, credential)
        repair = OwingRepair(sweeper=store.sweeper, deliveries=store.deliveries, due=store.hooks)
        await repair.repair()
        assert (await notified.delivery(first, attempts=1)).state == "pending"
        receiver.reply = takes
        second = await end_job(store, credential)
        await repair.repair()
        await until(lambda: _state(store, second, "delivered"))


async def test_an_attempt_that_died_with_its_process_is_made_again(store: Store, receiver: RawUpstream) -> None:
    """An attempt that nobody recorded is repeated once its lease is over, by any process: at least once."""
    receiver.reply = hangs
    job_id = await end_job(store, await tenant_of(store, receiver))
    async with notifying(store) as dying:
        await dying.wake()
        await receiver.arrived.wait()
    receiver.reply = takes
    await set_clock(store.client, CLOCK_START_US + int(NotifierLimits().lease_s * 1_000_000))
    async with notifying(store) as notified:
        assert (await notified.delivery(job_id, attempts=1)).state == "delivered"
    assert jobs_told(receiver, await secret_of(store)) == [job_id, job_id]
    assert dying.attempts == []


async def test_two_processes_make_each_delivery_once(store: Store, receiver: RawUpstream) -> None:
    """Leases keep two notifiers from making the same delivery, however often they are woken."""
    credential = await tenant_of(store, receiver)
    jobs = [await end_job(store, credential) for _ in range(60)]
    async with notifying(store) as one, notifying(store) as two:
        for _ in range(5):
            await one.wake()
            await two.wake()
            await asyncio.sleep(0)
        for job_id in jobs:
            await until(lambda job_id=job_id: _state(store, job_id, "delivered"))
    assert sorted(jobs_told(receiver, await secret_of(store))) == sorted(jobs)


async def test_at_the_end_an_attempt_under_way_is_finished_and_none_begun(store: Store, receiver: RawUpstream) -> None:
    """A process that shuts down lets the receiver answer, records it, and leaves the rest to others."""
    answered = asyncio.Event()

    async def waits(writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await takes(writer)

    receiver.reply = waits
    credential = await tenant_of(store, receiver)
    jobs = [await end_job(store, credential) for _ in range(2)]
    async with notifying(store, limits=NotifierLimits(receiver=1), close_s=30) as notified:
        await notified.wake()
        await receiver.arrived.wait()
        asyncio.get_running_loop().call_soon(answered.set)
    (attempt,) = notified.attempts
    (other,) = set(jobs) - {attempt.job_id}
    assert await _state(store, attempt.job_id, "delivered")
    assert await _state(store, other, "pending")


async def test_both_secrets_sign_until_the_overlap_is_over(store: Store, receiver: RawUpstream) -> None:
    """A receiver may change its secret at any time in between; afterwards the old one is worth nothing."""
    credential = await tenant_of(store, receiver)
    old = await secret_of(store)
    new = (await store.deliveries.rotate(TENANT, overlap_s=60)).reveal()
    async with notifying(store) as notified:
        for at_us in (CLOCK_START_US, CLOCK_START_US + 60_000_000):
            await set_clock(store.client, at_us)
            job_id = await end_job(store, credential)
            await notified.wake()
            await notified.delivery(job_id, attempts=1)
    during, after = receiver.requests
    assert verified(during, old) == verified(during, new)
    assert verified(after, new)
    assert after.headers["webhook-signature"].count("v1,") == 1


async def test_a_job_that_is_no_longer_on_record_is_forgotten(store: Store, receiver: RawUpstream) -> None:
    """What is owed of a job whose record has grown too old goes with it, and is not looked at for ever."""
    job_id = await end_job(store, await tenant_of(store, receiver))
    await store.client.delete(f"{{{TENANT}}}:job:{job_id}")
    async with notifying(store) as notified:
        await notified.wake()
        await until(lambda: _owes_nothing(store))
    assert receiver.connections == 0


async def _state(store: Store, job_id: str, state: str) -> bool:
    delivery = await store.deliveries.delivery(TENANT, job_id)
    return delivery is not None and delivery.state == state


async def _logged(store: Store, job_id: str, attempts: int) -> bool:
    delivery = await store.deliveries.delivery(TENANT, job_id)
    return delivery is not None and len(delivery.log) == attempts


async def _owes_nothing(store: Store) -> bool:
    return not [tenant async for tenants in store.sweeper.owing() for tenant in tenants]
