"""Holds, charges and releases, held against what the vendor really bills, to the nanocredit."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from support.gateway import BUDGET, Gateway
from support.ledger import CREDIT
from support.vendor import KLING

from gateway.core.job import JobState
from gateway.sandbox import Fault

HOLD = 941_500_000
"""What a job of `KLING` holds."""


@pytest.mark.parametrize("gateway", [{"failure_rate": 0.3, "seed": 5}], indirect=True)
async def test_the_budget_falls_by_what_the_vendor_bills(gateway: Gateway) -> None:
    """After jobs that cost less, more, or FAILED, the tenant's budget has lost exactly the vendor's bill."""
    gateway.vendor.sandbox.faults.add(Fault(action="cost", cost="1.5x", times=2))
    before = await gateway.credits()
    paths = [f"/v2/{KLING}"] * 8 + ["/v1/faceswap-v2"] * 4 + ["/v2/flux-2-pro"] * 4
    answers = await asyncio.gather(*(gateway.post(path) for path in paths))
    started = [a.json()["request_id"] for a in answers if a.url.path.startswith("/v2/")]
    jobs = await asyncio.gather(*map(gateway.ended, started))
    after = await gateway.credits()
    billed = gateway.billed_nano()
    assert {job.state for job in jobs} == {JobState.COMPLETED, JobState.FAILED}
    assert len(gateway.accepted()) == len(paths)
    assert (before - after) * CREDIT == billed > 0
    assert await gateway.money() == (billed, 0)


async def test_a_hold_stands_while_the_job_runs(gateway: Gateway) -> None:
    """The submit tells the hold and what is left, which is less by the hold; status and result tell the same."""
    gateway.vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    submitted = await gateway.post()
    status = await gateway.http.get(submitted.json()["status_url"])
    assert submitted.headers["x-credits-held"] == status.headers["x-credits-held"] == "0.9415"
    assert Decimal(submitted.headers["x-credits-remaining"]) * CREDIT == BUDGET - HOLD
    assert await gateway.credits() * CREDIT == BUDGET - HOLD
    assert await gateway.money() == (0, HOLD)


@pytest.mark.parametrize("path", [f"/v2/{KLING}", f"/v1/{KLING}"])
async def test_a_refusal_tells_the_whole_budget(gateway: Gateway, path: str) -> None:
    """What the vendor refused holds nothing any more: its answer tells the budget as it was before."""
    gateway.vendor.sandbox.faults.add(Fault(action="respond", on=("submit", "sync"), status=400, body={"error": "no"}))
    refused = await gateway.post(path)
    assert refused.status_code == 400
    assert Decimal(refused.headers["x-credits-remaining"]) * CREDIT == BUDGET


@pytest.mark.parametrize("gateway", [{"budgets": {"day": 2 * HOLD}}], indirect=True)
async def test_budget_exhausted(gateway: Gateway) -> None:
    """A hold that does not fit is a 406 that says what is missing and when it resets; a release makes room again."""
    gateway.vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    failing = [(await gateway.post()).json()["request_id"] for _ in range(2)]
    refused = await gateway.post()
    said = refused.json()
    assert (refused.status_code, said["code"], said["limited_by"]) == (406, "budget_exhausted", "tenant")
    assert (said["window"], said["balance"], said["required"]) == ("day", 0, 0.9415)
    assert said["resets_at"].endswith("T00:00:00Z")
    gateway.end_all("blocked")
    await asyncio.gather(*map(gateway.ended, failing))
    assert (await gateway.post()).status_code == 200
    assert gateway.upstream_posts() == 3


async def test_without_a_budget(gateway: Gateway) -> None:
    """A tenant without a budget reads 9000000 credits, and is not told a balance."""
    policy = (await gateway.admin.tenant("video-team")).policy
    policy.budgets.clear()
    await gateway.store.tenants.put(policy)
    assert await gateway.credits() == 9_000_000
    assert "x-credits-remaining" not in (await gateway.post()).headers
