from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from support.clients import opened, scripts_on
from support.ledger import Store, admission
from support.notifications import DEADLINE_S, listening
from support.proxy import Fault, tcp_proxy
from support.valkey import HOST

from gateway.core.events import Alert, Event
from gateway.core.job import JobState, new_job_id
from gateway.core.movements import Finished, Release, Settlement
from gateway.core.policy import Policy
from gateway.core.tenant import Credential
from gateway.store.epoch import EpochGuard
from gateway.store.keys import JOB_CHANGES
from gateway.store.ledger import RedisLedger
from gateway.store.scripts import load_scripts
from gateway.store.waiters import RedisNotifications

EITHER = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)
TEAM = "team"
Announce = Callable[[str, str], Awaitable[None]]


async def heard(store: Store, job_id: str, write: Awaitable[Finished], *, changes: bool) -> None:
    """Run a write; it must be told of if, and only if, it changed the job."""
    async with (
        listening(store.client) as notifications,
        notifications.watch(TEAM, job_id) as watch,
        notifications.watch("end", "end") as end,
    ):
        assert (await write).changed == changes
        await store.client.publish(JOB_CHANGES, "end/end")
        assert await end.changed(DEADLINE_S)
        assert await watch.changed(DEADLINE_S if changes else 0) == changes


@EITHER
async def test_every_change_is_told(store: Store) -> None:
    """Accepting, doubting, progress, settling and releasing are told; the same again, which changes nothing, is not."""
    caller, ledger = await store.caller(TEAM), store.ledger
    first, second, third = [await _admit(store, caller) for _ in range(3)]

    def settled() -> Awaitable[Finished]:
        return ledger.settle(Settlement(tenant=TEAM, job_id=first, state=JobState.COMPLETED, cost=1))

    def released() -> Awaitable[Finished]:
        return ledger.release(Release(tenant=TEAM, job_id=third, state=JobState.REJECTED, reason="no"))

    for changes in (True, False):
        await heard(store, first, ledger.accept(TEAM, first, "v"), changes=changes)
    await heard(store, first, ledger.progress(TEAM, first, "QUEUED"), changes=False)
    for changes in (True, False):
        await heard(store, first, ledger.progress(TEAM, first, "PROCESSING"), changes=changes)
    for changes in (True, False):
        await heard(store, first, settled(), changes=changes)
        await heard(store, second, ledger.doubt(TEAM, second, "lost"), changes=changes)
        await heard(store, third, released(), changes=changes)


async def _admit(store: Store, caller: Credential) -> str:
    wanted = admission(caller)
    await store.ledger.admit(wanted)
    return wanted.job_id


async def test_a_store_that_forbids_publishing_still_settles(store: Store, redis_url: str) -> None:
    """Where the store's user may not publish, waiters learn late, and no write is lost or cut in half."""
    caller = await store.caller(TEAM)
    job_id = await _admit(store, caller)
    await store.client.execute_command("ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "resetchannels")
    try:
        async with opened(redis_url.replace("redis://", "redis://mute:pw@")) as mute:
            ledger = RedisLedger(scripts_on(mute), load_scripts(), Policy, EpochGuard(mute))
            done = await ledger.settle(Settlement(tenant=TEAM, job_id=job_id, state=JobState.COMPLETED, cost=7))
            alerts, sink = _alerts()
            running = asyncio.create_task(RedisNotifications(mute, sink).run())
            await _until(lambda: bool(alerts))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    finally:
        await store.client.execute_command("ACL", "DELUSER", "mute")
    assert done.changed
    assert done.job is not None
    assert (done.job.state, done.job.cost) == (JobState.COMPLETED, 7)
    assert [alert.event for alert in alerts] == ["store.subscription_lost"]


async def test_a_killed_subscription_comes_back(redis_url: str) -> None:
    """After its connection was killed everyone is woken to look, and hears again; operators are told once."""
    alerts, sink = _alerts()
    async with (
        opened(redis_url) as client,
        listening(client, sink=sink) as notifications,
        notifications.watch(TEAM, "a") as watch,
        notifications.watch(TEAM, "b") as other,
    ):
        for _ in range(2):
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            assert await watch.changed(DEADLINE_S)
            assert await other.changed(DEADLINE_S)
            await client.publish(JOB_CHANGES, f"{TEAM}/a")
            assert await watch.changed(DEADLINE_S)
            assert not await other.changed(0)
    assert [alert.event for alert in alerts] == ["store.subscription_lost"] * 2


async def test_a_server_that_went_silent_is_left(redis_url: str) -> None:
    """A subscription whose server no longer answers, though its connection stands, is given up and made anew."""
    alerts, sink = _alerts()
    async with (
        tcp_proxy(HOST, urlsplit(redis_url).port or 0) as proxy,
        opened(f"redis://{HOST}:{proxy.port}") as client,
        listening(client, sink=sink, silence_s=0.4) as notifications,
        notifications.watch(TEAM, "a") as watch,
    ):
        await _until(lambda: sum(b"PING" in request for request in proxy.requests) > 1)
        assert alerts == []
        proxy.fault = Fault.STALL
        await _until(lambda: bool(alerts))
        proxy.fault = Fault.NONE
        assert await watch.changed(DEADLINE_S)


async def test_a_lost_word_costs_a_while(redis_url: str) -> None:
    """A change that nobody told of is looked for all the same, again and again."""
    async with (
        opened(redis_url) as client,
        listening(client, reread_s=0.05) as notifications,
        notifications.watch(TEAM, "a") as watch,
    ):
        for _ in range(3):
            assert await watch.changed(DEADLINE_S)


async def test_one_subscription_serves_all(redis_url: str) -> None:
    """However many wait, a process has one subscription, and no task for any of them."""
    async with opened(redis_url) as client, listening(client) as notifications:
        before = len(asyncio.all_tasks())
        watches = [notifications.watch(TEAM, new_job_id()) for _ in range(500)]
        for watch in watches:
            await watch.__aenter__()
        assert len(asyncio.all_tasks()) == before
        assert isinstance(client, Redis)
        assert len(await client.client_list(_type="pubsub")) == 1
        for watch in watches:
            await watch.__aexit__(None, None, None)
        assert (len(notifications), notifications._by_job) == (0, {})


def _alerts() -> tuple[list[Alert], Callable[[Event], None]]:
    alerts: list[Alert] = []

    def sink(event: Event) -> None:
        assert isinstance(event, Alert)
        alerts.append(event)

    return alerts, sink


async def _until(state: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not state():  # noqa: ASYNC110  a server has no event to wait for
            await asyncio.sleep(0.01)
