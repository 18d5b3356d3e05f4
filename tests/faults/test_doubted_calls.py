"""Sync calls that are given up on while their own process still waits for the answer."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx
import pytest
from support.gateway import TENANT, Gateway, eventually, gateway_on

from gateway.core.job import Job, JobState, new_job_id
from gateway.core.policy import Policy
from gateway.sandbox import Fault
from gateway.store import keys
from gateway.store.fanout import text

PATH: Final = "/v1/faceswap-v2"


async def _doubted_while_it_runs(gateway: Gateway) -> tuple[asyncio.Task[httpx.Response], Job]:
    """Make a call, and have it given up on as if its process were dead, while the vendor has it."""
    gateway.vendor.sandbox.faults.add(Fault(action="delay", on=("sync",), after=True, delay_s=5, times=1))
    calling = asyncio.create_task(gateway.post(PATH))
    await eventually(lambda: _reached(gateway))
    (job_id,) = await gateway.store.client.hkeys(keys.sending(TENANT))
    doubted = await gateway.store.ledger.doubt(TENANT, text(job_id), "the process that was sending it died")
    assert doubted.job is not None
    assert doubted.changed
    return calling, doubted.job


async def _reached(gateway: Gateway) -> bool:
    return len(gateway.accepted()) == 1


async def test_an_answer_that_comes_late_claims_its_id(redis_url: str) -> None:
    """The call is settled after all, and its vendor's id is nobody else's."""
    async with gateway_on(redis_url, rules=Policy(unknown_after_s=60)) as gateway:
        calling, job = await _doubted_while_it_runs(gateway)
        assert (await calling).status_code == httpx.codes.OK
        after = await gateway.ended(job.id)
        (accepted,) = gateway.accepted()
        assert (after.state, after.upstream_id) == (JobState.COMPLETED, accepted["request_id"])
        assert await gateway.money() == (gateway.billed_nano(), 0)
        assert await gateway.store.client.get(keys.claim(accepted["request_id"])) == f"{TENANT}/{job.id}".encode()


@pytest.mark.timeout(60)
async def test_an_answer_whose_id_is_anothers(redis_url: str) -> None:
    """Where an equal job has adopted the row meanwhile, the call is not charged for the same row again."""
    async with gateway_on(redis_url, rules=Policy(unknown_after_s=60)) as gateway:
        calling, job = await _doubted_while_it_runs(gateway)
        (accepted,) = gateway.accepted()
        twin = f"{TENANT}/{new_job_id()}"
        await gateway.store.client.set(keys.claim(accepted["request_id"]), twin)
        assert (await calling).status_code == httpx.codes.OK
        await eventually(lambda: _settling(gateway))
        assert ((await gateway.job(job.id)).state, await gateway.money()) == (JobState.UNKNOWN, (0, job.hold))


async def _settling(gateway: Gateway) -> bool:
    """Tell whether the answer has been read to its end, and nothing of the call is under way."""
    return any(line["event"] == "http.request" and line["status"] == 200 for line in gateway.lines())
