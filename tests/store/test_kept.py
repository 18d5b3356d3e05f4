"""What stays in the store of jobs that have ended, and for how long: nothing grows without a bound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest
from support.ledger import CREDIT, Store, admission
from support.life import Life

from gateway.core.job import JobState
from gateway.core.listing import JobPage, JobQuery
from gateway.core.movements import Admission, Admitted, Release, Settlement, StoredResult
from gateway.core.policy import KEY_LIFE_S, Policy
from gateway.core.queue import DueEntry
from gateway.core.reconcile import Booked, Span, book
from gateway.core.tenant import Credential
from gateway.core.webhook import Decision, Noted
from gateway.store import keys

TENANT = "team"
HOOK = "https://hooks.example.com/team"
HOUR_S, DAY_S = 3600, 86_400
REFUSED_BYTES: Final = 1300
"""Most that a refused job with a key leaves in all, its ledger entries among it; docs/redis.md counts with it."""
RESULT = StoredResult(body=b"{}", content_type="application/json")

End = Callable[[Life, Admission], Awaitable[object]]


@pytest.fixture
async def life(clocked_store: Store) -> Life:
    """Open a store whose time passes."""
    return await Life.begin(clocked_store)


async def admitted(life: Life, credential: Credential, **changes: object) -> Admission:
    """Have a request admitted."""
    request = admission(credential, **changes)
    assert isinstance(await life.store.ledger.admit(request), Admitted)
    return request


def refusal(request: Admission, *, forget: bool = False) -> Release:
    """Make the release of a job that the vendor refused."""
    return Release(
        tenant=TENANT,
        job_id=request.job_id,
        state=JobState.REJECTED,
        code="invalid_request",
        reason="field video_url is missing: a URL of a clip is needed",
        forget=request.idempotency_key if forget else None,
    )


async def completed(life: Life, request: Admission) -> None:
    """End a job that ran, and correct its cost a day later."""
    upstream_id = f"vendor-{request.job_id}"
    await life.store.ledger.accept(TENANT, request.job_id, upstream_id)
    await life.store.due.schedule([DueEntry(TENANT, request.job_id, 1.5)])
    end = Settlement(tenant=TENANT, job_id=request.job_id, state=JobState.COMPLETED, cost=CREDIT, result=RESULT)
    done = await life.store.ledger.settle(end)
    assert done.job is not None
    await life.store.due.remove([DueEntry(TENANT, request.job_id)])
    entries = await life.ledgers.entries(TENANT, "", 1000)
    jobs: dict[str, Booked] = {}
    book(jobs, TENANT, entries, Span(0, 2**63))
    assert await life.adjustments.adjust(jobs[request.job_id], CREDIT // 2)


async def failed(life: Life, request: Admission) -> None:
    """End a job that ran and failed."""
    await life.store.ledger.accept(TENANT, request.job_id, f"vendor-{request.job_id}")
    end = Release(tenant=TENANT, job_id=request.job_id, state=JobState.FAILED, reason="blocked", result=RESULT)
    assert (await life.store.ledger.release(end)).changed


async def refused(life: Life, request: Admission) -> None:
    """End a job that the vendor refused."""
    assert (await life.store.ledger.release(refusal(request))).changed


async def refused_for_now(life: Life, request: Admission) -> None:
    """End a job that the vendor may take later: its key is free again."""
    assert (await life.store.ledger.release(refusal(request, forget=True))).changed


async def undone(life: Life, request: Admission) -> None:
    """Undo an admission whose answer was lost, and another that never came."""
    assert (await life.store.ledger.void(request)).changed
    assert not (await life.store.ledger.void(admission(request.credential))).changed


async def released(life: Life, request: Admission) -> None:
    """End a job of which nobody knew anything, and which the vendor never had."""
    await life.store.ledger.doubt(TENANT, request.job_id, "reset")
    assert (await life.store.ledger.release(refusal(request))).changed


async def adopted(life: Life, request: Admission) -> None:
    """End a job of which nobody knew anything; the vendor had it, and forgot it."""
    done = await life.store.ledger.doubt(TENANT, request.job_id, "reset")
    assert done.job is not None
    assert await life.store.doubts.claim(f"vendor-{request.job_id}", done.job)
    await life.store.ledger.adopt(TENANT, request.job_id, f"vendor-{request.job_id}")
    end = Settlement(tenant=TENANT, job_id=request.job_id, state=JobState.EXPIRED, cost=None)
    assert (await life.store.ledger.settle(end)).changed


async def delivered(life: Life) -> None:
    """Deliver every webhook that is owed."""
    deliveries = life.store.deliveries
    while owed := (await deliveries.take(TENANT, limit=100, each=100, under_way={}, lease_s=20)).owed:
        for one in owed:
            noted = Noted(before=0, attempts=1, decision=Decision("delivered"), log=())
            assert await deliveries.note(TENANT, one.job_id, noted)


ENDS: Final[tuple[End, ...]] = (completed, failed, refused, refused_for_now, undone, released, adopted)


async def test_no_key_grows_with_the_jobs_that_were(life: Life) -> None:
    """Of jobs that ended in every way nothing is left after some time: the same keys, as large, after 7 and 140."""
    credential = await life.store.caller(webhook_url=HOOK, budgets={"month": 1000 * CREDIT})
    sizes = []
    for each in (1, 20):
        for end in ENDS * each:
            request = admission(credential)
            await end(life, await admitted(life, credential, idempotency_key=request.job_id))
        await delivered(life)
        during = await life.sizes()
        assert during[keys.jobs(TENANT)] == len(ENDS) * each
        assert await life.audited() == []
        await life.passes(401 * DAY_S)
        sizes.append(await life.sizes())
        assert await life.audited() == []
    assert sizes[0] == sizes[1]
    assert set(await life.kinds(TENANT)) == {"tenant", "keys", "key", "budget", "opening", "ledger"}


async def test_what_was_refused_at_once_is_kept_for_its_key_alone(life: Life) -> None:
    """Refused jobs are there for 72 h, then neither record, key nor index has them; any other stays for `job_ttl`."""
    credential = await life.store.caller()
    for end in (completed, released):
        await end(life, await admitted(life, credential))
    requests = []
    for n in range(40):
        requests.append(await admitted(life, credential, idempotency_key=f"k-{n}" if n % 2 else None))
        await refused(life, requests[-1])
    await life.passes(KEY_LIFE_S - HOUR_S)
    replay = await life.store.ledger.admit(admission(credential, idempotency_key="k-1"))
    assert isinstance(replay, Admitted)
    assert (replay.replayed, replay.job.id) == (True, requests[1].job_id)
    assert (await life.kinds(TENANT))["job"] == 2 + len(requests)
    await life.passes(2 * HOUR_S)
    left = await life.kinds(TENANT)
    assert (left["job"], left["idem"]) == (2, 0)
    assert await life.store.client.zcard(keys.jobs(TENANT)) == 2
    await life.passes(Policy().job_ttl_s)
    assert not {"job", "jobs"} & set(await life.kinds(TENANT))


@pytest.mark.parametrize("limit", [2, 3, 100])
async def test_the_index_is_looked_through_in_pieces(life: Life, limit: int) -> None:
    """However few jobs a call looks at, all that have lapsed leave, and no other."""
    credential, requests = await life.store.caller(), []
    for n in range(7):
        await life.passes(1, trim=False)
        requests.append(await admitted(life, credential))
        if n % 2 == 0:
            await refused(life, requests[-1])
    await life.passes(KEY_LIFE_S + HOUR_S, trim=False)
    calls, since_ms = 1, await life.index.lapse(TENANT, keep_s=KEY_LIFE_S * 2, limit=limit)
    while since_ms is not None:
        calls += 1
        since_ms = await life.index.lapse(TENANT, keep_s=KEY_LIFE_S * 2, limit=limit, since_ms=since_ms)
    assert calls <= len(requests) + 1
    left = await life.store.client.zrange(keys.jobs(TENANT), 0, -1)
    assert sorted(left) == sorted(request.job_id.encode() for request in requests[1::2])


async def test_the_ledger_is_audited_whatever_was_refused(life: Life) -> None:
    """A refused job's record may be gone after 72 h, no sooner; its entries still come to what the counters say."""
    credential = await life.store.caller()
    requests = [await admitted(life, credential) for _ in range(3)]
    for request in requests:
        await refused(life, request)
    await life.passes(KEY_LIFE_S - 2 * HOUR_S)
    await life.store.client.delete(keys.job(TENANT, requests[1].job_id))
    assert [found.what for found in await life.audited()] == [f"job {requests[1].job_id}: state"]
    await life.passes(2 * HOUR_S)
    assert await life.audited() == []
    assert (await life.sizes())[keys.ledger(TENANT)] == 2 * len(requests)


async def test_a_ledger_has_so_many_entries_at_most(life: Life) -> None:
    """However young they are, the oldest entries above the bound are folded, and the replay is as exact as before."""
    credential = await life.store.caller()
    for _ in range(10):
        await refused(life, await admitted(life, credential))
    await completed(life, await admitted(life, credential))
    limit, folded = 4, []
    while count := await life.ledgers.fold(TENANT, keep_s=DAY_S, keep=7, limit=limit):
        folded.append(count)
        assert await life.audited() == []
    assert folded == [4, 4, 4, 4]
    assert await life.store.client.xlen(keys.ledger(TENANT)) == 7


async def test_a_list_goes_on_where_a_refused_job_has_lapsed(life: Life) -> None:
    """A cursor whose own job has left the index between two pages neither ends the list nor shows a job twice."""
    credential = await life.store.caller()
    requests = []
    for end in (completed, refused, completed, completed):
        requests.append(await admitted(life, credential))
        await end(life, requests[-1])
        await life.store.client.zadd(keys.jobs(TENANT), {requests[-1].job_id: made_ms(requests[-1].job_id)})
    lapsed = requests[1].job_id
    await life.passes(KEY_LIFE_S + HOUR_S)
    assert lapsed.encode() not in await life.store.client.zrange(keys.jobs(TENANT), 0, -1)
    page = await life.store.jobs.page(credential, JobQuery(limit=5, cursor=lapsed))
    assert isinstance(page, JobPage)
    assert [job.id for job in page.jobs] == [requests[0].job_id]


def made_ms(job_id: str) -> int:
    """Read when a UUIDv7 was made."""
    return int(job_id.replace("-", "")[:12], 16)


async def test_a_refused_job_takes_as_little_as_the_page_says(life: Life) -> None:
    """Record, key, index and both ledger entries of a refused job stay within what sizes are counted with."""
    credential = await life.store.caller()
    await refused(life, await admitted(life, credential))
    before, jobs = await taken(life), 100
    for n in range(jobs):
        await refused(life, await admitted(life, credential, idempotency_key=f"k-{n}"))
    assert (await taken(life) - before) / jobs <= REFUSED_BYTES


async def taken(life: Life) -> int:
    """Add up what every key takes."""
    client = life.store.client
    return sum([await client.memory_usage(name, samples=0) or 0 async for name in client.scan_iter(count=1000)])
