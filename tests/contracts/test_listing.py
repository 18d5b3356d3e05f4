from __future__ import annotations

import asyncio

import pytest
from support.ledger import Store, admission
from support.ports import Ports

from gateway.core.job import JobState, VendorStatus, new_job_id
from gateway.core.listing import JobPage, JobQuery
from gateway.core.movements import Denied, Release, Settlement
from gateway.core.tenant import Credential, RateLimit
from gateway.store import keys

SINGLE = pytest.mark.parametrize("store", ["single"], indirect=True)


async def started(store: Ports, caller: Credential, jobs: int, model: str = "kling-2.6") -> list[str]:
    """Admit jobs one after the other; return their ids, newest first."""
    ids = sorted(new_job_id() for _ in range(jobs))  # those of one millisecond are listed by id
    for job_id in ids:
        await store.ledger.admit(admission(caller, job_id=job_id, model=model, labels={"team": "video"}))
    return ids[::-1]


async def page(store: Ports, caller: Credential, query: JobQuery) -> JobPage:
    """Read a page."""
    found = await store.jobs.page(caller, query)
    assert isinstance(found, JobPage)
    return found


async def listed(store: Ports, caller: Credential, query: JobQuery) -> list[str]:
    """Read one page; return its ids."""
    return [job.id for job in (await page(store, caller, query)).jobs]


async def test_newest_first_and_only_ones_own(store: Ports) -> None:
    """A list holds the tenant's own jobs with their whole records, newest first, whichever of its keys is used."""
    caller, other = await store.caller(), await store.caller("other")
    ids = await started(store, caller, 3)
    await started(store, other, 2)
    found = await page(store, await store.key(), JobQuery())
    assert [job.id for job in found.jobs] == ids
    assert found.next_cursor is None
    assert found.jobs[0] == await store.jobs.find("team", ids[0])
    assert found.jobs[0].labels == {"team": "video"}


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
async def test_pages_are_stable(clocked_store: Store, limit: int) -> None:
    """Walking the cursors meets each job once, also those of one millisecond, whatever starts meanwhile."""
    store: Ports = clocked_store
    caller = await store.caller()
    ids = set(await started(store, caller, 7))
    found = await page(store, caller, JobQuery(limit=limit))
    pages = [found]
    while found.next_cursor is not None:
        newest = admission(caller, job_id="fffff" + new_job_id()[5:])  # sorts before all others of its millisecond
        await store.ledger.admit(newest)
        found = await page(store, caller, JobQuery(limit=limit, cursor=found.next_cursor))
        pages.append(found)
    assert max(len(each.jobs) for each in pages) == min(limit, 7)
    assert len(pages) == -(-7 // limit)
    assert [job.id for each in pages for job in each.jobs] == sorted(ids, reverse=True)


async def test_filters(store: Ports) -> None:
    """A list can be narrowed to statuses as tenants see them, to a model, and to jobs since a moment."""
    caller, ledger = await store.caller(), store.ledger
    made = {name: (await started(store, caller, 1))[0] for name in ("accepted", "done", "failed", "sending", "running")}
    made["flux"] = (await started(store, caller, 1, model="flux-2-pro"))[0]
    for name in ("accepted", "done", "running", "failed"):
        await ledger.accept("team", made[name], f"v-{name}")
    for name in ("done", "running"):
        await ledger.progress("team", made[name], "PROCESSING")
    await ledger.settle(Settlement(tenant="team", job_id=made["done"], state=JobState.COMPLETED, cost=1))
    await ledger.release(Release(tenant="team", job_id=made["failed"], state=JobState.FAILED, reason="no"))
    await ledger.doubt("team", made["flux"], "lost")
    wanted: dict[VendorStatus, set[str]] = {
        "QUEUED": {"accepted", "sending", "flux"},
        "PROCESSING": {"running"},
        "COMPLETED": {"done"},
        "FAILED": {"failed"},
    }
    for status, names in wanted.items():
        found = await listed(store, caller, JobQuery(statuses=frozenset({status})))
        assert set(found) == {made[name] for name in names}
    both = await listed(store, caller, JobQuery(statuses=frozenset({"COMPLETED", "PROCESSING"}), limit=200))
    assert set(both) == {made["done"], made["running"]}
    assert await listed(store, caller, JobQuery(model="flux-2-pro")) == [made["flux"]]
    assert await listed(store, caller, JobQuery(model="flux-2-pro", statuses=frozenset({"FAILED"}))) == []
    job = await store.jobs.find("team", made["running"])
    assert job is not None
    since = await listed(store, caller, JobQuery(since_ms=job.created_ms))
    assert {made["running"], made["flux"]} <= set(since)
    assert await listed(store, caller, JobQuery(since_ms=job.created_ms + 3_600_000)) == []


@SINGLE
async def test_records_that_are_gone_are_left_out(store: Store) -> None:
    """Jobs whose record has expired, and a cursor that has, end nothing and show nothing."""
    caller = await store.caller()
    ids = await started(store, caller, 4)
    await store.client.delete(keys.job("team", ids[1]))
    found = await page(store, caller, JobQuery(limit=2))
    assert [job.id for job in found.jobs] == [ids[0], ids[2]]
    assert found.next_cursor == ids[2]
    assert await listed(store, caller, JobQuery(cursor=ids[2])) == [ids[3]]
    await store.client.zremrangebyrank(keys.jobs("team"), 0, 1)
    assert await page(store, caller, JobQuery(cursor=ids[2])) == JobPage((), found.quota, None)


@SINGLE
async def test_one_call_looks_at_250_at_most(store: Store) -> None:
    """However little of a long list is wanted, a call does a bounded piece of work, and its cursor goes on."""
    caller = await store.caller()
    [oldest] = await started(store, caller, 1, model="flux-2-pro")
    at_ms = int((await store.client.zscore(keys.jobs("team"), oldest)) or 0)
    await store.client.zadd(keys.jobs("team"), {new_job_id(): at_ms + n for n in range(1, 501)})
    query, found = JobQuery(model="flux-2-pro"), []
    for _ in range(3):
        step = await page(store, caller, query)
        found.append([job.id for job in step.jobs])
        query = JobQuery(model="flux-2-pro", cursor=step.next_cursor or "")
    assert found == [[], [], [oldest]]
    assert query.cursor == ""


async def test_a_list_is_a_read(store: Ports) -> None:
    """A list needs a valid key, counts once against the read limit, and is refused beyond it."""
    caller = await store.caller(read=RateLimit(limit=2, period_s=3600, burst=2))
    await started(store, caller, 3)
    left = [(await page(store, caller, JobQuery())).quota.remaining for _ in range(2)]
    refused = await store.jobs.page(caller, JobQuery())
    assert left == [1, 0]
    assert isinstance(refused, Denied)
    assert (refused.code, refused.retry_after_s > 0) == ("rate_limited", True)
    unknown = Credential(caller.tenant, caller.key_id, "0" * len(caller.digest))
    assert await store.jobs.page(unknown, JobQuery()) == Denied("unauthenticated")


@SINGLE
async def test_a_list_is_one_round_trip(store: Store) -> None:
    """Key check, read limit, index and records are one script."""
    caller = await store.caller()
    await started(store, caller, 5)
    await page(store, caller, JobQuery())
    async with asyncio.timeout(30):
        before = (await store.client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await page(store, caller, JobQuery())
        after = (await store.client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 1


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_limit_out_of_bounds_can_not_be_asked_for(limit: int) -> None:
    """A query for no jobs, or for more than 200 at once, can't be made."""
    with pytest.raises(ValueError, match="1 to 200"):
        JobQuery(limit=limit)
