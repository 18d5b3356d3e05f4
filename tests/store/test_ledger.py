from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from support.ledger import CREDIT, Store, admission, counters, entries, replayed, window_id

from gateway.core.job import JobState, VendorStatus
from gateway.core.movements import Admission, Admitted, ChargedState, Denied, Release, Settlement, StoredResult
from gateway.core.policy import Policy
from gateway.core.tenant import Credential
from gateway.errors import StoreUnavailable
from gateway.store import keys
from gateway.store.epoch import EpochGuard
from gateway.store.ledger import IDEMPOTENCY_TTL_MS, RedisLedger
from gateway.store.scripts import load_scripts

pytestmark = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)

TENANT = "team"


async def admitted(store: Store, credential: Credential, **changes: object) -> Admission:
    """Have a request admitted."""
    request = admission(credential, **changes)
    answer = await store.ledger.admit(request)
    assert isinstance(answer, Admitted)
    assert not answer.replayed
    return request


def charge(request: Admission, cost: int | None, state: ChargedState = JobState.COMPLETED) -> Settlement:
    """Make the settlement of a job."""
    return Settlement(tenant=request.credential.tenant, job_id=request.job_id, state=state, cost=cost)


def refusal(request: Admission, forget: str | None = None) -> Release:
    """Make the release of a job that the vendor refused."""
    tenant, job_id = request.credential.tenant, request.job_id
    return Release(
        tenant=tenant, job_id=job_id, state=JobState.REJECTED, reason="refused", code="upstream_error", forget=forget
    )


async def test_an_admitted_job_is_on_record_with_all_that_was_asked(store: Store) -> None:
    """The record that the tracker finds is the job that admission answered with, labels and trace included."""
    credential = await store.caller(webhook_hosts=("hooks.example.com",))
    request = admission(
        credential,
        request_id="r-1",
        traceparent="00-1-2-01",
        webhook_url="https://hooks.example.com/",
        labels={"team": "video", "shot": "12"},
    )
    answer = await store.ledger.admit(request)
    assert isinstance(answer, Admitted)
    assert await store.jobs.find(TENANT, request.job_id) == answer.job
    assert answer.job.state is JobState.SENDING
    assert (answer.job.labels, answer.job.hold) == ({"team": "video", "shot": "12"}, CREDIT)


async def test_a_hold_counts_in_every_window_until_it_is_settled(store: Store) -> None:
    """A hold stands in all four windows, and its settlement moves what was really spent into the same ones."""
    request = await admitted(store, await store.caller())
    assert [(w.spent, w.held) for w in await store.jobs.windows(TENANT)] == [(0, CREDIT)] * 4
    await store.ledger.settle(charge(request, CREDIT // 4))
    assert [(w.spent, w.held) for w in await store.jobs.windows(TENANT)] == [(CREDIT // 4, 0)] * 4


async def test_a_hold_stays_in_the_window_in_which_it_was_opened(store: Store) -> None:
    """A job of yesterday is settled into yesterday's window; today's budget is whole."""
    credential = await store.caller(budgets={"day": CREDIT})
    request = await admitted(store, credential)
    job = await store.jobs.find(TENANT, request.job_id)
    assert job is not None
    today = window_id("day", job.created_ms)
    await make_it_yesterday(store, request, today)
    assert isinstance(await store.ledger.quote(admission(credential)), Admitted)
    await store.ledger.settle(charge(request, CREDIT))
    found = await counters(store.client, TENANT)
    assert found["day:2001-01-01:spent"] == CREDIT
    assert not any(name.startswith(today) for name in found)


async def make_it_yesterday(store: Store, request: Admission, today: str) -> None:
    """Write a job's window, and what is counted in it, as those of another day."""
    job, budget = keys.job(TENANT, request.job_id), keys.budget(TENANT)
    windows: Any = await store.client.hget(job, "windows")
    await store.client.hset(job, "windows", windows.decode().replace(today, "day:2001-01-01"))
    await store.client.hset(budget, "day:2001-01-01:held", await store.client.hget(budget, f"{today}:held"))
    await store.client.hdel(budget, f"{today}:held")


async def test_a_cost_above_the_hold_is_recorded_in_full_and_blocks(store: Store) -> None:
    """An overrun of half a hold is a ledger entry of its own, and no further job fits a budget that is overspent."""
    credential = await store.caller(budgets={"total": CREDIT * 5 // 4})
    request = await admitted(store, credential)
    done = await store.ledger.settle(charge(request, CREDIT * 3 // 2))
    assert done.job is not None
    assert (done.job.cost, done.job.estimated) == (CREDIT * 3 // 2, False)
    log = await entries(store.client, TENANT)
    assert [(e["kind"], e["amount"], e["hold"]) for e in log] == [
        ("hold", str(CREDIT), str(CREDIT)),
        ("settle", str(CREDIT), str(CREDIT)),
        ("overrun", str(CREDIT // 2), "0"),
    ]
    assert replayed(log) == await counters(store.client, TENANT)
    free = await store.ledger.admit(admission(credential, estimate=0))
    assert isinstance(free, Denied)
    assert (free.code, free.quota and free.quota.remaining) == ("budget_exhausted", 0)


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.EXPIRED])
async def test_a_cost_that_was_not_reported_is_the_hold(store: Store, state: ChargedState) -> None:
    """Without a figure of the vendor the hold is charged, and the job says that it is an estimate."""
    request = await admitted(store, await store.caller())
    await store.ledger.accept(TENANT, request.job_id, "vendor-1")
    done = (await store.ledger.settle(charge(request, None, state))).job
    assert done is not None
    assert (done.state, done.cost, done.estimated) == (state, CREDIT, True)
    assert (await counters(store.client, TENANT))["total:spent"] == CREDIT


@pytest.mark.parametrize("end", ["settle", "release"])
async def test_one_of_many_ends_a_hold(store: Store, end: str) -> None:
    """Of trackers that end a job at once one does it; the counters move once and the slot is free once."""
    request = await admitted(store, await store.caller())
    ends = [
        store.ledger.settle(charge(request, CREDIT)) if end == "settle" else store.ledger.release(refusal(request))
        for _ in range(20)
    ]
    assert [done.changed for done in await asyncio.gather(*ends)].count(True) == 1
    assert len(await entries(store.client, TENANT)) == 2
    assert await store.client.zcard(keys.active(TENANT)) == 0


async def test_a_budget_is_granted_exactly_under_concurrency(store: Store) -> None:
    """Of a hundred requests at once as many are admitted as the budget holds, and not one more."""
    credential = await store.caller(budgets={"week": 7 * CREDIT + CREDIT // 2})
    answers = await asyncio.gather(*(store.ledger.admit(admission(credential)) for _ in range(100)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 7
    assert (await counters(store.client, TENANT))["total:held"] == 7 * CREDIT


async def test_a_key_stands_for_one_job(store: Store) -> None:
    """A replay gets 409 with the job while it is being sent, then the job itself, as it stands."""
    credential = await store.caller()
    first = await admitted(store, credential, idempotency_key="k")
    again = admission(credential, idempotency_key="k")
    busy = await store.ledger.admit(again)
    assert isinstance(busy, Denied)
    assert (busy.code, busy.job_id) == ("idempotency_in_progress", first.job_id)
    assert busy.retry_after_s > 0
    await store.ledger.doubt(TENANT, first.job_id, "reset")
    replay = await store.ledger.admit(again)
    assert isinstance(replay, Admitted)
    assert (replay.replayed, replay.job.id, replay.job.status) == (True, first.job_id, "QUEUED")
    assert len(await entries(store.client, TENANT)) == 1


async def test_a_key_with_other_inputs_is_refused(store: Store) -> None:
    """The same key for another body names the job that it stands for and holds nothing."""
    credential = await store.caller()
    first = await admitted(store, credential, idempotency_key="k")
    other = await store.ledger.admit(admission(credential, idempotency_key="k", fingerprint="0" * 64))
    assert isinstance(other, Denied)
    assert (other.code, other.job_id) == ("idempotency_mismatch", first.job_id)


async def test_keys_of_two_tenants_are_apart(store: Store) -> None:
    """The same idempotency key of another tenant is another job."""
    await admitted(store, await store.caller("team"), idempotency_key="k")
    await admitted(store, await store.caller("other"), idempotency_key="k")


async def test_a_release_forgets_a_key_only_when_told(store: Store) -> None:
    """A refusal is replayed by its key; one that surely was not sent gives the key back, so that a retry is sent."""
    credential = await store.caller()
    first = await admitted(store, credential, idempotency_key="k")
    await store.ledger.release(refusal(first))
    replay = await store.ledger.admit(admission(credential, idempotency_key="k"))
    assert isinstance(replay, Admitted)
    assert (replay.replayed, replay.job.state, replay.job.code) == (True, JobState.REJECTED, "upstream_error")
    second = await admitted(store, credential, idempotency_key="k2")
    await store.ledger.release(refusal(second, forget="k2"))
    await admitted(store, credential, idempotency_key="k2")


async def test_a_release_never_forgets_the_key_of_another_job(store: Store) -> None:
    """A late release leaves alone a key that stands for a newer job."""
    credential = await store.caller()
    old, new = await admitted(store, credential), await admitted(store, credential, idempotency_key="k")
    await store.ledger.release(refusal(old, forget="k"))
    busy = await store.ledger.admit(admission(credential, idempotency_key="k"))
    assert isinstance(busy, Denied)
    assert busy.job_id == new.job_id


async def test_an_admission_whose_answer_was_lost_is_undone(store: Store) -> None:
    """Voiding after the fact releases the hold and gives the key back."""
    credential = await store.caller()
    request = await admitted(store, credential, idempotency_key="k")
    assert (await store.ledger.void(request)).changed
    assert await counters(store.client, TENANT) == {}
    await admitted(store, credential, idempotency_key="k")


async def test_an_admission_that_arrives_after_it_was_undone_does_nothing(store: Store) -> None:
    """Voiding before the fact leaves a mark, so that the late admission holds nothing and takes no key."""
    credential = await store.caller()
    request = admission(credential, idempotency_key="k")
    undone = await store.ledger.void(request)
    assert (undone.changed, undone.job) == (False, None)
    with pytest.raises(StoreUnavailable):
        await store.ledger.admit(request)
    assert await store.jobs.find(TENANT, request.job_id) is None
    assert await counters(store.client, TENANT) == {}
    await admitted(store, credential, idempotency_key="k")


async def test_an_unknown_job_is_adopted_and_never_accepted(store: Store) -> None:
    """A late answer of the vendor leaves a job in doubt: its id may have been given to another; a search finds it."""
    request = await admitted(store, await store.caller())
    assert not (await store.ledger.adopt(TENANT, request.job_id, "vendor-1")).changed
    await store.ledger.doubt(TENANT, request.job_id, "reset")
    assert not (await store.ledger.accept(TENANT, request.job_id, "vendor-1")).changed
    found = (await store.ledger.adopt(TENANT, request.job_id, "vendor-2")).job
    assert found is not None
    assert (found.state, found.upstream_id, found.error) == (JobState.ACCEPTED, "vendor-2", None)


async def test_unknown_fields_of_a_record_are_kept(store: Store) -> None:
    """A field that a newer version wrote survives every script of this one."""
    credential = await store.caller()
    for end in (charge, refusal):
        request = await admitted(store, credential)
        name = keys.job(TENANT, request.job_id)
        await store.client.hset(name, "future", "42")
        await store.ledger.doubt(TENANT, request.job_id, "reset")
        if end is charge:
            await store.ledger.adopt(TENANT, request.job_id, "vendor-1")
            await store.ledger.progress(TENANT, request.job_id, "PROCESSING")
            await store.ledger.settle(charge(request, CREDIT))
        else:
            await store.ledger.release(refusal(request))
        assert await store.client.hget(name, "future") == b"42"


WORDS: list[VendorStatus | None] = ["PROCESSING", "QUEUED", None, None, "COMPLETED"]


async def test_polls_that_come_out_of_order_never_turn_a_job_back(store: Store) -> None:
    """PROCESSING stays; only a settlement says COMPLETED; `missing_ms` is the first of the 404s in a row."""
    request = await admitted(store, await store.caller())
    await store.ledger.accept(TENANT, request.job_id, "vendor-1")
    polls = [await store.ledger.progress(TENANT, request.job_id, word) for word in WORDS]
    assert [poll.changed for poll in polls] == [True, False, True, False, False]
    assert {poll.job.status for poll in polls if poll.job} == {"PROCESSING"}
    missing = [poll.job.missing_ms for poll in polls if poll.job]
    assert missing == [None, None, missing[2], missing[2], None]
    assert missing[2] is not None


async def test_a_job_becomes_overdue_once_a_level(store: Store) -> None:
    """Each level of lateness is told to one caller, rising only, and of a running job alone."""
    request = await admitted(store, await store.caller())
    assert not await store.ledger.note_overdue(TENANT, request.job_id, 1)
    await store.ledger.accept(TENANT, request.job_id, "vendor-1")
    told = [await store.ledger.note_overdue(TENANT, request.job_id, level) for level in (0, 1, 1, 2, 1, 2)]
    assert told == [False, True, False, True, False, False]


async def test_what_is_kept_is_kept_as_long_as_the_policy_says(store: Store) -> None:
    """A running job never expires; an ended one does after `job_ttl`, a result after `result_ttl`, a key after 72 h."""
    request = await admitted(store, await store.caller(), idempotency_key="k")
    job, idempotency = keys.job(TENANT, request.job_id), keys.idempotency(TENANT, "k")
    assert await store.client.pttl(job) == -1
    result = StoredResult(body=b"{}", content_type="application/json")
    await store.ledger.settle(replace(charge(request, CREDIT), result=result))
    names = (job, keys.result(TENANT, request.job_id), idempotency)
    left = [await store.client.pttl(name) for name in names]
    wanted = [Policy().job_ttl_s * 1000, Policy().result_ttl_s * 1000, IDEMPOTENCY_TTL_MS]
    assert all(ttl - 60_000 < have <= ttl for have, ttl in zip(left, wanted, strict=True))


async def test_a_job_is_kept_for_as_long_as_its_key(store: Store) -> None:
    """A replay within the 72 h finds its job even where the policy keeps jobs for less."""
    hasty = Policy(job_ttl_s=60, result_ttl_s=60)
    ledger = RedisLedger(store.scripts, load_scripts(), lambda: hasty, EpochGuard(store.client))
    request = await admitted(store, await store.caller(), idempotency_key="k")
    await ledger.settle(charge(request, CREDIT))
    job, idempotency = keys.job(TENANT, request.job_id), keys.idempotency(TENANT, "k")
    assert await store.client.pttl(job) >= await store.client.pttl(idempotency)
