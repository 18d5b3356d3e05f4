"""The port `Ledger`: when a release lets an idempotency key be used again."""

from __future__ import annotations

import pytest
from support.ledger import admission
from support.ports import Ports

from gateway.core.job import JobState
from gateway.core.movements import Admission, Admitted, ChargedState, FreeState, Release, Settlement


def release(request: Admission, state: FreeState, forget: str | None = None) -> Release:
    """Have a job end without a charge."""
    tenant, job_id = request.credential.tenant, request.job_id
    return Release(tenant=tenant, job_id=job_id, state=state, reason="because", code="upstream_error", forget=forget)


async def end(store: Ports, request: Admission, state: FreeState | ChargedState) -> None:
    """Have a job of unknown outcome ended by others."""
    tenant, job_id = request.credential.tenant, request.job_id
    await store.ledger.doubt(tenant, job_id, "the process that was sending it died")
    if state is JobState.REJECTED:
        await store.ledger.release(release(request, state))
        return
    await store.ledger.adopt(tenant, job_id, "v1")
    if state is JobState.FAILED:
        await store.ledger.release(release(request, state))
    else:
        await store.ledger.settle(Settlement(tenant=tenant, job_id=job_id, state=state, cost=1, upstream_id="v1"))


@pytest.mark.parametrize("state", [JobState.REJECTED, JobState.FAILED, JobState.COMPLETED, JobState.EXPIRED])
async def test_a_key_whose_job_others_ended(store: Ports, state: FreeState | ChargedState) -> None:
    """A sender that knows that it was not sent frees the key of a job that was released; of no other, and once."""
    credential = await store.caller("team")
    first = admission(credential, idempotency_key="k")
    await store.ledger.admit(first)
    await end(store, first, state)
    freed = state is JobState.REJECTED
    assert not (await store.ledger.release(release(first, JobState.REJECTED, forget="k"))).changed
    again = await store.ledger.admit(second := admission(credential, idempotency_key="k"))
    assert isinstance(again, Admitted)
    assert (again.replayed, again.job.id) == (not freed, second.job_id if freed else first.job_id)
    await store.ledger.accept("team", again.job.id, "v2")
    await store.ledger.release(release(first, JobState.REJECTED, forget="k"))
    kept = await store.ledger.admit(admission(credential, idempotency_key="k"))
    assert isinstance(kept, Admitted)
    assert kept.job.id == again.job.id
