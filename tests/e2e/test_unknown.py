"""Submits whose outcome nobody knows: what becomes of them, held against what the vendor really accepted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import httpx
import pytest
from support.fleet import Fleet, fleet_on
from support.gateway import DEADLINE_S, TIME_SCALE, Gateway, eventually, nano

from gateway.core.job import Job, JobState
from gateway.core.policy import Policy
from gateway.core.tenant import TenantPolicy
from gateway.sandbox import Fault

MODEL: Final = "/v2/flux-2-pro"
INPUTS: Final = {"prompt": "cat and dog are dancing."}
HTML: Final = "<!doctype html><title>Bad Gateway</title>"
QUICK: Final = {"rules": Policy(unknown_after_s=1)}

LOST: Final[dict[str, Fault]] = {
    "dropped": Fault(action="drop", on=("submit",), after=True, times=1),
    "closed": Fault(action="drop", on=("submit",), after=True, how="close", times=1),
    "truncated": Fault(action="truncate", on=("submit",), times=1),
    "no id": Fault(action="no_id", on=("submit",), times=1),
    "502, in HTML": Fault(action="respond", on=("submit",), after=True, status=502, body=HTML, times=1),
}
DROPPED_BEFORE: Final = Fault(action="drop", on=("submit",), times=1)
UNREADABLE: Final = Fault(action="respond", on=("history",), status=200, body={"message": "maintenance"})


async def doubtful(gateway: Gateway, fault: Fault, **headers: str) -> str:
    """Start a job whose answer is lost; return its id."""
    gateway.vendor.sandbox.faults.add(fault)
    answer = await gateway.post(MODEL, INPUTS, **headers)
    assert (answer.status_code, answer.json()["code"]) in {
        (504, "outcome_unknown"), (502, "upstream_invalid_response"),
    }  # fmt: skip
    job_id: str = answer.json()["request_id"]
    assert (await gateway.job(job_id)).state is JobState.UNKNOWN
    return job_id


async def lost(gateway: Gateway, path: str, prompt: str) -> str:
    """Start a job whose answer is lost, again where the store was late, as callers are told to; return its id."""

    async def taken() -> str | None:
        answer = await gateway.post(path, {"prompt": prompt})
        assert answer.json()["code"] in {"outcome_unknown", "store_unavailable"}, answer.text
        job_id: str | None = answer.json().get("request_id")
        return job_id

    return await eventually(taken)


async def completed(gateway: Gateway) -> Job:
    """Run an equal job to its end, so that the history shows the model, and a row that is not the doubtful job's."""
    return await gateway.ended((await gateway.post(MODEL, INPUTS)).json()["request_id"])


@pytest.mark.parametrize("gateway", [QUICK], indirect=True)
@pytest.mark.parametrize("how", LOST)
async def test_lost_after_acceptance(gateway: Gateway, how: str) -> None:
    """A job that the vendor took is adopted from its history, completed, charged once; a replay finds it."""
    job_id = await doubtful(gateway, LOST[how], idempotency_key="once")
    job = await gateway.ended(job_id)
    (accepted,) = gateway.accepted()
    assert (job.state, job.upstream_id, job.has_result) == (JobState.COMPLETED, accepted["request_id"], True)
    assert await gateway.money() == (gateway.billed_nano(), 0)
    replay = await gateway.post(MODEL, INPUTS, idempotency_key="once")
    assert (replay.status_code, replay.json()["request_id"]) == (200, job_id)
    assert gateway.upstream_posts() == 1


@pytest.mark.parametrize("gateway", [QUICK], indirect=True)
async def test_lost_before_acceptance(gateway: Gateway) -> None:
    """A job that the vendor never had is released on the evidence of its history; an equal one's row is not taken."""
    first = await completed(gateway)
    job = await gateway.ended(await doubtful(gateway, DROPPED_BEFORE))
    assert (job.state, job.upstream_id, job.cost) == (JobState.REJECTED, None, None)
    assert "not in its request history" in (job.error or "")
    status = await gateway.http.get(f"/v2/requests/{job.id}/status")
    assert (status.status_code, status.json()["status"], status.json()["error"]) == (422, "FAILED", job.error)
    assert await gateway.money() == (first.cost, 0) == (gateway.billed_nano(), 0)
    assert gateway.upstream_posts() == 2


@pytest.mark.parametrize(
    ("gateway", "state"),
    [
        ({"rules": Policy(unknown_after_s=1, unknown_jobs="charge")}, JobState.EXPIRED),
        ({"rules": Policy(unknown_after_s=1, unknown_jobs="release")}, JobState.REJECTED),
    ],
    indirect=["gateway"],
)
async def test_the_history_is_not_readable(gateway: Gateway, state: JobState) -> None:
    """Where the history can't be read in time, the policy decides, and the tenant is told so."""
    job_id = await doubtful(gateway, LOST["dropped"])
    gateway.vendor.sandbox.faults.add(UNREADABLE)
    job = await gateway.ended(job_id)
    assert (job.state, job.status) == (state, "FAILED")
    assert "by policy" in (job.reason or "")
    assert await gateway.money() == (job.hold if state is JobState.EXPIRED else 0, 0)


@pytest.mark.parametrize("gateway", [QUICK], indirect=True)
@pytest.mark.parametrize("accepted_first", [True, False])
async def test_equal_jobs_of_which_one_was_accepted(gateway: Gateway, *, accepted_first: bool) -> None:
    """Of two equal jobs whose answers were lost, exactly one is adopted; the other is released; one is charged."""
    faults = (LOST["dropped"], DROPPED_BEFORE)
    started = [await doubtful(gateway, fault) for fault in (faults if accepted_first else reversed(faults))]
    jobs = await asyncio.gather(*map(gateway.ended, started))
    (accepted,) = gateway.accepted()
    assert sorted(job.state for job in jobs) == [JobState.COMPLETED, JobState.REJECTED]
    assert {job.upstream_id for job in jobs} == {accepted["request_id"], None}
    assert await gateway.money() == (gateway.billed_nano(), 0)


@pytest.mark.parametrize("gateway", [QUICK], indirect=True)
async def test_an_outage(gateway: Gateway) -> None:
    """Forty jobs whose answers were lost, half of them accepted, some equal, take a few readings of the history."""
    paths = [MODEL, "/v2/flux-kontext-pro"] * 20
    for path in paths[:2]:
        await gateway.ended((await gateway.post(path, INPUTS)).json()["request_id"])
    after, before = LOST["dropped"], DROPPED_BEFORE
    gateway.vendor.sandbox.faults.add(
        after.model_copy(update={"times": 20, "model": "flux-2-pro"}),
        before.model_copy(update={"times": 20, "model": "flux-kontext-pro"}),
    )
    started = await asyncio.gather(*(lost(gateway, path, str(number % 30)) for number, path in enumerate(paths)))
    jobs = await asyncio.gather(*map(gateway.ended, started))
    assert [job.state for job in jobs] == [JobState.COMPLETED, JobState.REJECTED] * 20
    adopted = {job.upstream_id for job in jobs if job.upstream_id}
    assert adopted == {accepted["request_id"] for accepted in gateway.accepted()[2:]}
    assert await gateway.money() == (gateway.billed_nano(), 0)
    reads = [call for call in gateway.vendor.sandbox.calls if "request-history" in call.path]
    assert len(reads) <= 8


@pytest.mark.parametrize("gateway", [QUICK], indirect=True)
@pytest.mark.parametrize("accepted", [True, False])
async def test_a_sync_call(gateway: Gateway, *, accepted: bool) -> None:
    """A sync call whose answer was lost is found like a job, and not taken for an equal call that was answered."""
    assert (await gateway.post("/v1/faceswap-v2", INPUTS)).status_code == 200
    gateway.vendor.sandbox.faults.add(Fault(action="drop", on=("sync",), after=accepted, times=1))
    lost = await gateway.post("/v1/faceswap-v2", INPUTS)
    assert lost.status_code == 504
    job = await gateway.ended(lost.json()["request_id"])
    expected = gateway.accepted()[1]["request_id"] if accepted else None
    assert (job.state, job.upstream_id) == (JobState.COMPLETED if accepted else JobState.REJECTED, expected)
    assert await gateway.money() == (gateway.billed_nano(), 0)


@pytest.mark.parametrize("gateway", [QUICK], indirect=True)
async def test_another_tenants_equal_job(gateway: Gateway) -> None:
    """Two tenants' equal jobs have a row each: neither is adopted for the other, nor the other's completed one."""
    await gateway.store.tenants.put(TenantPolicy("other"))
    key = (await gateway.admin.create_key("other")).text.reveal()
    others = await gateway.http.post(MODEL, json=INPUTS, headers={"x-api-key": key})
    mine = await gateway.ended(await doubtful(gateway, DROPPED_BEFORE))
    theirs = await gateway.store.jobs.find("other", others.json()["request_id"])
    assert theirs is not None
    assert (mine.state, theirs.upstream_id) == (JobState.REJECTED, gateway.accepted()[0]["request_id"])
    assert await gateway.money() == (0, 0)


async def test_the_process_is_killed_while_it_sends(redis_url: str, tmp_path: Path) -> None:
    """SIGKILL after the bytes left, before the answer: another process finds the job at the vendor and completes it."""
    async with fleet_on(redis_url, tmp_path, time_scale=TIME_SCALE) as fleet:
        victim, _ = await fleet.start("api"), await fleet.start("tracker")
        fleet.vendor.sandbox.faults.add(Fault(action="delay", on=("submit",), after=True, delay_s=2 * DEADLINE_S))
        sending = asyncio.create_task(fleet.submit(1, victim))
        await eventually(lambda: _accepted(fleet))
        await victim.kill()
        with pytest.raises(httpx.TransportError):
            await sending
        await fleet.all_ended()
        (job,) = await fleet.store.survey.newest(limit=9)
        (accepted,) = fleet.vendor.sandbox.accepted
        assert (job.state, job.upstream_id) == (JobState.COMPLETED, accepted["request_id"])
        assert await fleet.money() == (nano(str(accepted["billed"])), 0)


async def _accepted(fleet: Fleet) -> bool:
    return len(fleet.vendor.sandbox.accepted) == 1
