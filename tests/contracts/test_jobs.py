from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

import pytest
from support.ledger import CREDIT, Store, admission
from support.ports import UNLIMITED, Ports

from gateway.core.job import JobState, JobView
from gateway.core.movements import AccountView, Admission, Denied, Reading, Settlement, StoredResult
from gateway.core.quota import Window
from gateway.core.tenant import Credential, RateLimit, TenantPolicy
from gateway.store import keys

REAL = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)

TENANT: Final = "team"
TWO_AN_HOUR: Final = RateLimit(limit=2, period_s=3600, burst=2)
RESULT: Final = StoredResult(body=b'{"status": "COMPLETED", "output": "\xff\x00"}', content_type="application/json")


async def start(store: Ports, credential: Credential) -> Admission:
    """Have a job admitted."""
    request = admission(credential)
    await store.ledger.admit(request)
    return request


async def complete(store: Ports, request: Admission, result: StoredResult | None = RESULT) -> None:
    """Have a job completed."""
    tenant, job_id = request.credential.tenant, request.job_id
    await store.ledger.settle(
        Settlement(tenant=tenant, job_id=job_id, state=JobState.COMPLETED, cost=CREDIT, result=result)
    )


async def read(store: Ports, credential: Credential, job_id: str, *, with_result: bool = False) -> Reading:
    """Read a job; the caller may."""
    reading = await store.jobs.read(credential, job_id, with_result=with_result)
    assert isinstance(reading, Reading)
    return reading


async def test_a_tenant_reads_its_own_job(store: Ports) -> None:
    """A read gives of the record what its owner is told, and where the read limit stands."""
    credential = await store.caller(read=TWO_AN_HOUR)
    request = await start(store, credential)
    reading = await read(store, credential, request.job_id)
    record = await store.jobs.find(TENANT, request.job_id)
    assert reading.job is not None
    assert record is not None
    for part in fields(JobView):
        assert getattr(reading.job, part.name) == getattr(record, part.name)
    assert reading.now_ms >= reading.job.created_ms
    assert (reading.quota.name, reading.quota.remaining, reading.result) == ("read", 1, None)


async def test_foreign_and_absent_jobs_look_alike(store: Ports) -> None:
    """Another tenant's job reads as one that never was, undone ones too."""
    theirs = await start(store, await store.caller("other"))
    credential = await store.caller()
    undone = admission(credential)
    await store.ledger.void(undone)
    for job_id in (theirs.job_id, undone.job_id, admission(credential).job_id):
        reading = await read(store, credential, job_id, with_result=True)
        assert (reading.job, reading.result) == (None, None)


async def test_a_result_comes_as_it_was_stored(store: Ports) -> None:
    """The result's bytes and type come back exactly, and only to those who ask for them."""
    credential = await store.caller()
    request = await start(store, credential)
    assert (await read(store, credential, request.job_id, with_result=True)).result is None
    await complete(store, request)
    assert (await read(store, credential, request.job_id)).result is None
    assert (await read(store, credential, request.job_id, with_result=True)).result == RESULT
    assert await store.jobs.kept(TENANT, request.job_id) == RESULT


@REAL
async def test_a_job_outlives_its_result(store: Store) -> None:
    """When the result has expired the job still says that there was one."""
    credential = await store.caller()
    request = await start(store, credential)
    await complete(store, request)
    await store.client.delete(keys.result(TENANT, request.job_id))
    reading = await read(store, credential, request.job_id, with_result=True)
    assert reading.job is not None
    assert (reading.job.has_result, reading.result) == (True, None)
    assert await store.jobs.kept(TENANT, request.job_id) is None


async def test_a_job_without_a_result_says_so(store: Ports) -> None:
    """A settlement without a body keeps none."""
    credential = await store.caller()
    request = await start(store, credential)
    await complete(store, request, None)
    reading = await read(store, credential, request.job_id, with_result=True)
    assert reading.job is not None
    assert (reading.job.has_result, reading.result) == (False, None)


async def test_reads_are_limited(store: Ports) -> None:
    """A read too many is told when to come back, and nothing of the job."""
    credential = await store.caller(read=TWO_AN_HOUR)
    request = await start(store, credential)
    for remaining in (1, 0):
        assert (await read(store, credential, request.job_id)).quota.remaining == remaining
    refused = await store.jobs.read(credential, request.job_id, with_result=True)
    assert isinstance(refused, Denied)
    assert refused.rate is not None
    assert refused == Denied("rate_limited", retry_after_s=refused.rate.retry_after_s, rate=refused.rate)
    assert 1700 < refused.retry_after_s <= 1800


async def test_an_account_shows_policy_limits_and_budgets(store: Ports) -> None:
    """A caller sees its own policy, its slots and each budget window."""
    policy = TenantPolicy(
        TENANT, name="Video", models=("kling-*",), submit=UNLIMITED, read=TWO_AN_HOUR, budgets={"day": 3 * CREDIT}
    )
    await store.tenants.put(policy)
    credential = await store.key()
    await start(store, credential)
    view = await store.jobs.account(credential)
    assert isinstance(view, AccountView)
    assert view.policy == policy
    assert (view.quota.active, view.quota.concurrent, view.quota.remaining) == (1, 100, 2 * CREDIT)
    assert view.windows == (
        Window("day", 3 * CREDIT, 0, CREDIT),
        Window("week", None, 0, CREDIT),
        Window("month", None, 0, CREDIT),
        Window("total", None, 0, CREDIT),
    )
    assert await store.jobs.windows(TENANT) == view.windows


async def test_an_upload_counts_as_a_submit(store: Ports) -> None:
    """The account that is read for an upload counts against the submit limit, and not against the read limit."""
    credential = await store.caller(submit=TWO_AN_HOUR, read=TWO_AN_HOUR)
    views = [await store.jobs.upload_account(credential) for _ in range(3)]
    assert [isinstance(view, Denied) for view in views] == [False, False, True]
    refused = views[2]
    assert isinstance(refused, Denied)
    assert (refused.code, refused.quota and refused.quota.rate.name) == ("rate_limited", "submit")
    assert isinstance(await store.jobs.account(credential), AccountView)


async def test_a_caller_without_rights_reads_nothing(store: Ports) -> None:
    """Another tenant's key, be its id the same, opens nothing."""
    credential = await store.caller()
    request = await start(store, credential)
    for wrong in (replace(credential, tenant="other"), replace(credential, digest="0" * 64)):
        assert await store.jobs.read(wrong, request.job_id, with_result=True) == Denied("unauthenticated")


async def test_who_may_do_anything_at_all(store: Ports) -> None:
    """A revoked key and a removed tenant are unknown; a suspended one is told so; asking counts for nothing."""
    credential = await store.caller(read=TWO_AN_HOUR)
    assert [await store.jobs.refusal(credential) for _ in range(5)] == [None] * 5
    await store.tenants.suspend(TENANT, suspended=True)
    assert await store.jobs.refusal(credential) == Denied("tenant_suspended")
    await store.tenants.suspend(TENANT, suspended=False)
    assert isinstance(await store.jobs.account(credential), AccountView)
    await store.tenants.remove(TENANT)
    assert await store.jobs.refusal(credential) == Denied("unauthenticated")
    await store.tenants.put(TenantPolicy(TENANT))
    await store.tenants.revoke_key(TENANT, credential.key_id)
    assert await store.jobs.refusal(credential) == Denied("unauthenticated")
