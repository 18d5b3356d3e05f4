"""What the vendor says that a job cost: more than was held, or nothing that makes sense."""

from __future__ import annotations

from typing import Final

import pytest
from support.gateway import TENANT, Gateway, eventually
from support.ledger import entries
from support.vendor import KLING

from gateway.core.job import Job, JobState
from gateway.sandbox import Fault

HOLD: Final = 941_500_000
"""What a job of `KLING` holds."""
BUDGET: Final = HOLD * 5 // 4
ODD: Final = ("missing", "-1", "-0.000000001", "NaN", "1e400", "-1e400", "Infinity")


async def ended_jobs(gateway: Gateway) -> list[Job]:
    """Wait until nothing is held; return every job."""

    async def nothing_held() -> bool:
        return (await gateway.money())[1] == 0

    await eventually(nothing_held)
    ids = {entry["job"] for entry in await entries(gateway.store.client, TENANT)}
    return [await gateway.job(job_id) for job_id in ids]


@pytest.mark.parametrize("path", [f"/v2/{KLING}", f"/v1/{KLING}"])
@pytest.mark.parametrize("gateway", [{"budgets": {"month": BUDGET}}], indirect=True)
async def test_r21_more_than_was_held(gateway: Gateway, path: str) -> None:
    """One and a half times the hold is charged in full, beyond the budget, as an overrun; then nothing is admitted."""
    gateway.vendor.sandbox.faults.add(Fault(action="cost", cost="1.5x"))
    assert (await gateway.post(path)).status_code == 200
    [job] = await ended_jobs(gateway)
    assert (job.cost, job.estimated) == (gateway.billed_nano(), False)
    assert gateway.billed_nano() > BUDGET
    assert await gateway.money() == (gateway.billed_nano(), 0)
    kinds = [entry["kind"] for entry in await entries(gateway.store.client, TENANT)]
    assert sorted(kinds) == ["hold", "overrun", "settle"]
    assert (await gateway.post(path)).json()["code"] == "budget_exhausted"
    assert await gateway.credits() == 0
    assert gateway.upstream_posts() == 1


@pytest.mark.parametrize("path", [f"/v2/{KLING}", f"/v1/{KLING}"])
async def test_r21_a_cost_that_makes_no_sense(gateway: Gateway, path: str) -> None:
    """Where the vendor reports no usable cost, the hold is charged, flagged as an estimate, with an alert."""
    for reported in ODD:
        gateway.vendor.sandbox.faults.replace([Fault(action="cost", cost=reported)])
        assert (await gateway.post(path)).status_code == 200
    jobs = await ended_jobs(gateway)
    assert [(job.state, job.cost, job.estimated) for job in jobs] == [(JobState.COMPLETED, HOLD, True)] * len(ODD)
    assert await gateway.money() == (len(ODD) * HOLD, 0)
    assert await gateway.alerts("job.cost_estimated") == len(ODD)
