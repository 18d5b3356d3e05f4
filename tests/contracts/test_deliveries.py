"""The ports `Deliveries` and `WebhookStore`: what is owed to receivers, and how far it got."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.ledger import admission
from support.ports import Ports
from support.webhooks import EndState, end_job

from gateway.core.job import JobState, new_job_id
from gateway.core.movements import Admitted, Release, Settlement
from gateway.core.queue import DueEntry
from gateway.core.tenant import Credential
from gateway.core.webhook import Attempt, Decision, Noted, Owed, Taken

TENANT = "team"
HOOK = "https://hooks.example.com/team"
OWN = "https://own.example.com:8443/x"
ATTEMPT = Attempt(1, "rejected", 500, 20)


@pytest.fixture
async def credential(store: Ports) -> Credential:
    """Put a tenant with a webhook of its own on record."""
    return await store.caller(webhook_url=HOOK, webhook_hosts=("own.example.com:8443",))


async def take(store: Ports, limit: int = 100, under_way: Mapping[str, int] | None = None) -> Taken:
    """Lease what is due."""
    return await store.deliveries.take(TENANT, limit=limit, each=limit, under_way=under_way or {}, lease_s=20)


async def owed(store: Ports) -> list[str]:
    """List the jobs whose webhook is owed."""
    return [one.job_id for one in (await take(store)).owed]


def failed(before: int = 0, **changes: object) -> Noted:
    """Note a failed attempt that is to be followed by another one after a minute."""
    decision = changes.pop("decision", Decision("pending", 60))
    return Noted(before=before, attempts=before + 1, decision=decision, log=(ATTEMPT,), **changes)  # type: ignore[arg-type]  # fields of Noted


async def test_admission_records_where_the_end_is_announced(store: Ports, credential: Credential) -> None:
    """A job is announced where its request says, else where the tenant says; a sync call only where it says so."""
    for asked, kind, url in (
        (OWN, "async", OWN), (None, "async", HOOK), (None, "sync", None), (OWN, "sync", OWN), (HOOK, "async", HOOK),
    ):  # fmt: skip
        request = admission(credential, webhook_url=asked, kind=kind)
        answer = await store.ledger.admit(request)
        assert isinstance(answer, Admitted)
        job = await store.jobs.find(TENANT, request.job_id)
        assert job == answer.job
        assert job.webhook_url == url


async def test_a_replay_is_answered_whatever_the_list_says_now(store: Ports, credential: Credential) -> None:
    """The job of the first request is on record, so its repetition gets it."""
    first = admission(credential, webhook_url=OWN, idempotency_key="k")
    await store.ledger.admit(first)
    await store.ledger.accept(TENANT, first.job_id, "vendor-1")
    again = await store.caller()
    replay = await store.ledger.admit(admission(again, webhook_url=OWN, idempotency_key="k"))
    assert isinstance(replay, Admitted)
    assert replay.job.id == first.job_id


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.EXPIRED])
async def test_the_end_of_a_job_and_what_is_owed_are_one_write(
    store: Ports, credential: Credential, state: EndState
) -> None:
    """The script that ends the job owes its webhook, once; a job without a webhook owes nothing."""
    job_id = await end_job(store, credential, state=state)
    charge = Settlement(tenant=TENANT, job_id=job_id, state=JobState.COMPLETED, cost=1)
    assert not (await store.ledger.settle(charge)).changed
    await end_job(store, await store.caller("other"), state=state)
    assert await owed(store) == [job_id]
    assert [tenant async for tenants in store.sweeper.owing() for tenant in tenants] == [TENANT]


@pytest.mark.parametrize(("doubted", "owes"), [(False, False), (True, True)])
async def test_who_was_refused_at_once_is_not_told_again(
    store: Ports, credential: Credential, doubted: bool, owes: bool
) -> None:
    """A refusal was the answer to the submit; a job that was in doubt before it was rejected is announced."""
    request = admission(credential)
    await store.ledger.admit(request)
    if doubted:
        await store.ledger.doubt(TENANT, request.job_id, "reset")
    await store.ledger.release(Release(tenant=TENANT, job_id=request.job_id, state=JobState.REJECTED, reason="refused"))
    assert await owed(store) == ([request.job_id] if owes else [])


async def test_a_lease_keeps_others_away(store: Ports, credential: Credential) -> None:
    """What is leased is due again when the lease ends, which is what the queue is told."""
    job_id = await end_job(store, credential)
    assert (await take(store)).owed == (Owed(job_id, "hooks.example.com"),)
    again = await take(store)
    assert again.owed == ()
    assert again.next_in_s is not None
    assert 0 < again.next_in_s <= 20


async def test_receivers_have_their_own_bounds(store: Ports, credential: Credential) -> None:
    """Those under way count; a receiver that has enough is passed over, however many stand in front of others."""
    for _ in range(300):
        await end_job(store, credential)
    last = await end_job(store, credential, webhook_url=OWN)
    taken = await store.deliveries.take(TENANT, limit=8, each=4, under_way={"hooks.example.com": 3}, lease_s=20)
    assert [one.receiver for one in taken.owed] == ["hooks.example.com", "own.example.com:8443"]
    assert taken.owed[-1].job_id == last
    assert taken.next_in_s == 0


async def test_a_held_receiver_is_put_off_as_a_whole(store: Ports, credential: Credential) -> None:
    """After a failure its other deliveries move behind the hold, however many; a success ends the hold."""
    jobs = [await end_job(store, credential) for _ in range(300)]
    ahead = (await take(store, limit=2)).owed
    held = failed(decision=Decision("pending", 60, hold_s=30))
    await store.deliveries.note(TENANT, ahead[0].job_id, held)
    behind = await end_job(store, credential, webhook_url=OWN)
    assert await owed(store) == [behind]
    assert len(jobs) == 300
    done = Noted(before=0, attempts=1, decision=Decision("delivered"), log=())
    await store.deliveries.note(TENANT, ahead[1].job_id, done)
    fresh = await end_job(store, credential)
    assert await owed(store) == [fresh]


async def test_an_attempt_is_recorded_once(store: Ports, credential: Credential) -> None:
    """Two processes that both made an attempt, or a repeated write, count it once; its log is kept."""
    job_id = await end_job(store, credential)
    await take(store)
    assert await store.deliveries.note(TENANT, job_id, failed())
    assert not await store.deliveries.note(TENANT, job_id, failed(decision=Decision("delivered")))
    delivery = await store.deliveries.delivery(TENANT, job_id)
    assert delivery is not None
    assert (delivery.state, delivery.attempts, delivery.log) == ("pending", 1, (ATTEMPT,))
    assert await store.deliveries.note(TENANT, job_id, failed(1, decision=Decision("delivered")))
    delivery = await store.deliveries.delivery(TENANT, job_id)
    assert delivery is not None
    assert (delivery.state, delivery.attempts, delivery.due_ms) == ("delivered", 2, None)
    assert not await store.deliveries.note(TENANT, job_id, failed(2))


async def test_what_sending_takes(store: Ports, credential: Credential) -> None:
    """Whoever leased a delivery reads its job, where it goes, by which policy, and what was tried before."""
    job_id = await end_job(store, credential)
    (leased,) = (await take(store)).owed
    await store.deliveries.note(TENANT, job_id, failed())
    found = await store.deliveries.read(TENANT, leased)
    assert found is not None
    assert found.job == await store.jobs.find(TENANT, job_id)
    assert (found.url, found.own, found.disabled, found.attempts, found.log) == (HOOK, True, False, 1, (ATTEMPT,))
    assert found.policy is not None
    assert found.policy.allows_webhook(OWN)
    await store.tenants.remove(TENANT)
    removed = await store.deliveries.read(TENANT, leased)
    assert removed is not None
    assert removed.policy is None
    await store.deliveries.note(TENANT, job_id, failed(1, decision=Decision("delivered")))
    for gone in (leased, Owed(new_job_id(), leased.receiver)):
        assert await store.deliveries.read(TENANT, gone) is None


async def test_an_endpoint_is_disabled_until_it_is_enabled(store: Ports, credential: Credential) -> None:
    """What goes there is read as disabled, and what a request sends elsewhere is not; enabling it twice is nothing."""
    gone, own = await end_job(store, credential), await end_job(store, credential, webhook_url=OWN)
    later = await end_job(store, credential)
    await store.deliveries.note(TENANT, gone, failed(decision=Decision("failed"), disable=HOOK))
    assert await store.deliveries.disabled(TENANT) == HOOK
    reads = [await store.deliveries.read(TENANT, one) for one in (await take(store)).owed]
    assert {one.job.id: one.disabled for one in reads if one is not None} == {own: False, later: True}
    await store.deliveries.note(TENANT, later, failed(decision=Decision("disabled")))
    assert set(await store.deliveries.unsettled(TENANT, limit=10)) == {gone, later, own}
    assert [await store.deliveries.enable(TENANT) for _ in range(2)] == [True, False]
    assert await store.deliveries.disabled(TENANT) is None


async def test_time_brings_things_back(timed_store: Ports) -> None:
    """A lease, a pause after a failure and a receiver's rest end to the millisecond; nothing comes before its time."""
    deliveries = timed_store.deliveries
    caller = await timed_store.caller(webhook_url=HOOK)
    job_id = await end_job(timed_store, caller)
    assert (await take(timed_store)).next_in_s == 20
    await timed_store.pass_time(19.999)
    assert await owed(timed_store) == []
    await timed_store.pass_time(0.001)
    assert await owed(timed_store) == [job_id]
    await deliveries.note(TENANT, job_id, failed(decision=Decision("pending", 60, hold_s=30)))
    delivery = await deliveries.delivery(TENANT, job_id)
    assert delivery is not None
    assert delivery.due_ms is not None
    behind = await end_job(timed_store, caller)
    assert (await take(timed_store)).next_in_s == 30
    await timed_store.pass_time(29.999)
    assert await owed(timed_store) == []
    await timed_store.pass_time(0.001)
    assert await owed(timed_store) == [behind]
    await timed_store.pass_time(30)
    assert await owed(timed_store) == [behind, job_id]


async def test_the_longest_rest_of_a_receiver_counts(timed_store: Ports) -> None:
    """A shorter one that is noted later does not end it."""
    caller = await timed_store.caller(webhook_url=HOOK)
    jobs = [await end_job(timed_store, caller) for _ in range(3)]
    for job_id, hold_s in zip(jobs, (30, 5), strict=False):
        await timed_store.deliveries.note(TENANT, job_id, failed(decision=Decision("failed", hold_s=hold_s)))
    assert (await take(timed_store)).next_in_s == 30


async def test_an_old_secret_signs_for_as_long_as_was_said(timed_store: Ports) -> None:
    """Then the new one signs alone; before anybody has asked for one, whoever sends makes it."""
    job_id = await end_job(timed_store, await timed_store.caller(webhook_url=HOOK))
    owed_ = Owed(job_id, "hooks.example.com")
    found = await timed_store.deliveries.read(TENANT, owed_)
    assert found is not None
    old = await timed_store.deliveries.secret(TENANT)
    assert found.secrets == (old,)
    new = await timed_store.deliveries.rotate(TENANT, overlap_s=60)
    for seconds, secrets in ((59.999, (new, old)), (0.001, (new,))):
        await timed_store.pass_time(seconds)
        found = await timed_store.deliveries.read(TENANT, owed_)
        assert found is not None
        assert found.secrets == secrets


async def test_what_was_given_up_is_listed_and_can_be_owed_again(store: Ports, credential: Credential) -> None:
    """A failed delivery leaves what is owed and joins what is listed; owed again it starts from its first attempt."""
    job_id = await end_job(store, credential)
    assert await store.deliveries.note(TENANT, job_id, failed(decision=Decision("failed")))
    assert await owed(store) == []
    assert await store.deliveries.unsettled(TENANT, limit=10) == [job_id]
    assert await store.deliveries.again(TENANT, job_id)
    assert await owed(store) == [job_id]
    delivery = await store.deliveries.delivery(TENANT, job_id)
    assert delivery is not None
    assert (delivery.state, delivery.attempts, delivery.log) == ("pending", 0, (ATTEMPT,))
    assert await store.deliveries.unsettled(TENANT, limit=10) == [job_id]


async def test_what_never_was_owed_can_not_be_owed_again(store: Ports, credential: Credential) -> None:
    """A job that runs, has no webhook, or is not there, has no delivery."""
    running = admission(credential)
    await store.ledger.admit(running)
    without = await end_job(store, await store.caller())
    for job_id in (running.job_id, without, new_job_id()):
        assert not await store.deliveries.again(TENANT, job_id)
        assert await store.deliveries.delivery(TENANT, job_id) is None


async def test_a_tenant_has_one_secret_until_it_is_rotated(store: Ports, credential: Credential) -> None:
    """The first reader makes it; afterwards everyone reads the same, and a rotation keeps the old one beside it."""
    secret = await store.deliveries.secret(TENANT)
    assert await store.deliveries.secret(TENANT) == secret
    new = await store.deliveries.rotate(TENANT, overlap_s=60)
    assert new != secret
    assert await store.deliveries.secret(TENANT) == new
    job_id = await end_job(store, credential)
    found = await store.deliveries.read(TENANT, Owed(job_id, "hooks.example.com"))
    assert found is not None
    assert found.secrets == (new, secret)


async def test_a_secret_survives_apply(store: Ports) -> None:
    """A new policy of the tenant leaves its secret and a disabled endpoint as they are."""
    await store.caller()
    secret = await store.deliveries.secret(TENANT)
    await store.caller()
    assert await store.deliveries.secret(TENANT) == secret


async def test_a_tenant_is_put_ahead_only(store: Ports) -> None:
    """The repair's word moves a tenant's entry to an earlier time, never to a later one."""
    entry = DueEntry(TENANT, "")
    await store.hooks.schedule([DueEntry(TENANT, "", 60)])
    await store.hooks.schedule([DueEntry(TENANT, "", 90)], only_sooner=True)
    assert not (await store.hooks.claim(limit=10, lease_s=20)).entries
    await store.hooks.schedule([entry], only_sooner=True)
    assert [one.tenant for one in (await store.hooks.claim(limit=10, lease_s=20)).entries] == [TENANT]
    await store.hooks.remove([entry])
    assert (await store.hooks.claim(limit=10, lease_s=20)).next_in_s is None
