from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import pytest
from support.ledger import admission
from support.ports import Ports

from gateway.core.adoption import Traces, Twin
from gateway.core.job import Job, JobState
from gateway.core.movements import Release, Settlement

TENANTS: Final = [f"team-{number:03}" for number in range(105)]


async def start(store: Ports, tenant: str, fingerprint: str = "f1") -> Job:
    """Have a job admitted."""
    request = admission(await store.caller(tenant), fingerprint=fingerprint)
    await store.ledger.admit(request)
    job = await store.jobs.find(tenant, request.job_id)
    assert job is not None
    return job


async def doubted(store: Ports, tenant: str) -> Job:
    """Have a job admitted whose outcome nobody knows."""
    job = await start(store, tenant)
    done = await store.ledger.doubt(job.tenant, job.id, "reset")
    assert done.job is not None
    return done.job


async def test_every_unknown_job_is_found(store: Ports) -> None:
    """However many tenants there are, each UNKNOWN job is found, and no other."""
    jobs = [await start(store, tenant) for tenant in TENANTS]
    for job in jobs[::2]:
        await store.ledger.doubt(job.tenant, job.id, "reset")
    await store.ledger.adopt(jobs[2].tenant, jobs[2].id, "v1")
    found, now_ms = await store.doubts.unknown()
    assert [doubt.job.id for doubt in found] == [job.id for job in jobs[::2] if job is not jobs[2]]
    assert all(doubt.job.created_ms <= now_ms for doubt in found)
    assert {(doubt.readable_ms, doubt.looked_ms) for doubt in found} == {(None, None)}


async def test_without_tenants_nothing_is_unknown(store: Ports) -> None:
    """A new store has no UNKNOWN job, and knows nobody's id."""
    doubts = store.doubts
    assert (await doubts.unknown())[0] == []
    assert await doubts.traces({"v1"}, {"f1"}) == Traces({}, [])


async def test_whose_an_id_is(store: Ports) -> None:
    """An id is known as one's from its acceptance, adoption, settlement or claim on; a job without one as such."""
    accepted, adopted, settled, claimed, sending = [await start(store, tenant) for tenant in TENANTS[:5]]
    await start(store, "other", "f2")
    doubts = store.doubts
    await store.ledger.accept(accepted.tenant, accepted.id, "v1")
    for job in (adopted, claimed):
        await store.ledger.doubt(job.tenant, job.id, "reset")
    await store.ledger.adopt(adopted.tenant, adopted.id, "v2")
    await store.ledger.settle(
        Settlement(tenant=settled.tenant, job_id=settled.id, state=JobState.COMPLETED, cost=1, upstream_id="v3")
    )
    assert await doubts.claim("v4", claimed)
    traces = await doubts.traces({"v1", "v2", "v3", "v4", "v5", *(f"x{n}" for n in range(600))}, {"f1"})
    owners = {"v1": accepted, "v2": adopted, "v3": settled, "v4": claimed}
    assert traces.owners == {named: f"{job.tenant}/{job.id}" for named, job in owners.items()}
    assert set(traces.without) == {Twin(job.id, "f1", job.created_ms) for job in (claimed, sending)}
    assert traces.prints == dict.fromkeys(("v1", "v2", "v3"), "f1")
    assert traces.keys == {adopted.upstream_key}


async def test_one_claim_for_all_tenants(store: Ports) -> None:
    """Of many claims on an id at once one is granted, and that one again whenever it is asked for."""
    doubts, jobs = store.doubts, [await start(store, tenant) for tenant in TENANTS[:20]]
    granted = await asyncio.gather(*(doubts.claim("v1", job) for job in jobs))
    assert granted.count(True) == 1
    assert await asyncio.gather(*(doubts.claim("v1", job) for job in jobs)) == granted


@pytest.mark.parametrize("end", ["another id", "refused", "charged", "completed without an id"])
async def test_a_claim_that_is_of_no_use_any_more(store: Ports, end: str) -> None:
    """Once its job has another id, or was ended without one, a claim is nobody's; one other job may then have it."""
    former, *equal = [await doubted(store, tenant) for tenant in TENANTS[:10]]
    doubts, t, job_id = store.doubts, former.tenant, former.id
    assert await doubts.claim("v1", former)
    charge = Settlement(tenant=t, job_id=job_id, state=JobState.EXPIRED, cost=1)
    match end:
        case "another id":
            await store.ledger.adopt(t, job_id, "v2")
        case "refused":
            await store.ledger.release(Release(tenant=t, job_id=job_id, state=JobState.REJECTED, reason="no"))
        case "charged":
            await store.ledger.settle(charge)
        case _:
            await store.ledger.settle(replace(charge, state=JobState.COMPLETED))
    assert "v1" not in (await doubts.traces({"v1", "v2"}, set())).owners
    granted = await asyncio.gather(*(doubts.claim("v1", job) for job in equal))
    assert granted.count(True) == 1
    owner = equal[granted.index(True)]
    assert (await doubts.traces({"v1"}, set())).owners == {"v1": f"{owner.tenant}/{owner.id}"}


@pytest.mark.parametrize("state", [JobState.UNKNOWN, JobState.FAILED, None])
async def test_a_claim_that_stands(store: Ports, state: JobState | None) -> None:
    """The claim of a job that may yet be given the id stands, and that of a FAILED call, and an operator's."""
    former, equal = [await doubted(store, tenant) for tenant in TENANTS[:2]]
    claimant = former if state else replace(former, id="v1")
    assert await store.doubts.claim("v1", claimant)
    if state is JobState.FAILED:
        release = Release(tenant=former.tenant, job_id=former.id, state=JobState.FAILED, reason="")
        assert (await store.ledger.release(release)).changed
    assert (await store.doubts.traces({"v1"}, set())).owners == {"v1": f"{former.tenant}/{claimant.id}"}
    assert not await store.doubts.claim("v1", equal)


async def test_looks_in_vain(timed_store: Ports) -> None:
    """A look is on record with its time; since when all could read is forgotten at the first that could not."""
    job, doubts = await start(timed_store, "one"), timed_store.doubts
    assert await doubts.note(job, readable=True) is None  # it is being sent, and nobody looks for it
    await timed_store.ledger.doubt(job.tenant, job.id, "reset")
    begun_ms = (await doubts.unknown())[1]
    for seconds, readable, since_s in (
        (0, True, 0),
        (10, True, 0),
        (10, False, None),
        (10, False, None),
        (10, True, 40),
    ):
        await timed_store.pass_time(seconds)
        since_ms = None if since_s is None else begun_ms + since_s * 1000
        assert await doubts.note(job, readable=readable) == since_ms
        ((found,), now_ms) = await doubts.unknown()
        assert (found.readable_ms, found.looked_ms) == (since_ms, now_ms)
    await timed_store.ledger.adopt(job.tenant, job.id, "v1")
    assert await doubts.note(job, readable=True) is None


async def test_the_newest_jobs(store: Ports) -> None:
    """Operators see the newest jobs of all tenants or one, in any state or one, and find a job by its id alone."""
    jobs = [await start(store, tenant) for tenant in (*TENANTS[:3], TENANTS[0])]
    await store.ledger.doubt(jobs[1].tenant, jobs[1].id, "reset")
    survey = store.survey
    newest = sorted(jobs, key=lambda job: (job.created_ms, job.id), reverse=True)
    assert [job.id for job in await survey.newest(limit=3)] == [job.id for job in newest[:3]]
    assert {job.id for job in await survey.newest(limit=9, tenant=TENANTS[0])} == {jobs[0].id, jobs[3].id}
    assert [job.id for job in await survey.newest(limit=9, state=JobState.UNKNOWN)] == [jobs[1].id]
    assert await survey.find(jobs[2].id) == jobs[2]
    assert await survey.find("nobody's") is None
