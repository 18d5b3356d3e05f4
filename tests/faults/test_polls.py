"""What the vendor says of running jobs: twice, out of order, never to the end, or that it knows no such job."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from support.gateway import TENANT, Gateway, eventually, gateway_on, settings_for
from support.ledger import assert_audited, entries
from support.vendor import KLING

from gateway.catalogue import load_catalogue
from gateway.cli.serve import serving
from gateway.core.job import JobState
from gateway.core.queue import DueEntry
from gateway.core.schedule import OVERDUE_FACTOR, URGENT_AFTER_S
from gateway.sandbox import Fault
from gateway.service.missing import CONFIRM_S, COUNTED_FROM_S

NEVER_ENDS: Final = Fault(action="outcome", outcome="PROCESSING")
NO_SUCH_JOB: Final = Fault(action="not_found", on=("status",))
NO_HISTORY: Final = Fault(action="respond", on=("history",), status=500, body={"error": "no"})
AGAIN: Final = 3
"""Polls after which one at least has begun and ended, though two processes poll."""


@asynccontextmanager
async def two_gateways(redis_url: str, **options: Any) -> AsyncIterator[tuple[Gateway, str, Callable[[str], int]]]:  # noqa: ANN401
    """Run two that share a store; yield the first, the other's URL, and what counts the lines of both logs."""
    async with gateway_on(redis_url, **options) as gateway:
        log = io.BytesIO()
        async with serving(settings_for(redis_url, gateway.vendor.url), log) as other:

            async def ready() -> bool:
                return not other.readiness.reasons

            def told(event: str) -> int:
                lines = [json.loads(line) for one in (gateway.log, log) for line in one.getvalue().splitlines()]
                return sum(line["event"] == event for line in lines)

            await eventually(ready)
            yield gateway, other.url, told
            await assert_audited(gateway.store.client)


def status_polls(gateway: Gateway) -> int:
    """Count what the vendor was asked."""
    return sum(call.path.endswith("/status") for call in gateway.vendor.sandbox.calls)


async def while_polled(gateway: Gateway, job_id: str, state: Callable[[], Awaitable[bool]]) -> None:
    """Have a job polled at once, again and again, by whoever comes first, until something is so."""

    async def so() -> bool:
        if await state():
            return True
        await gateway.store.due.schedule([DueEntry(TENANT, job_id)])
        return False

    await eventually(so)


async def polled(gateway: Gateway, job_id: str, times: int = AGAIN) -> None:
    """Have a job polled at once, some times more."""
    until = status_polls(gateway) + times

    async def enough() -> bool:
        return status_polls(gateway) >= until

    await while_polled(gateway, job_id, enough)


async def test_r17_failed_twice_and_out_of_order(redis_url: str) -> None:
    """Two processes hear FAILED, an older word before and another after it: one release, one answer ever after."""
    async with two_gateways(redis_url) as (gateway, other, told):
        faults = gateway.vendor.sandbox.faults
        faults.add(NEVER_ENDS)
        submitted = (await gateway.post()).json()
        job_id = submitted["request_id"]

        async def processing() -> bool:
            return (await gateway.job(job_id)).vendor_status == "PROCESSING"

        await while_polled(gateway, job_id, processing)
        faults.replace([Fault(action="regress", on=("status",))])
        await polled(gateway, job_id)
        assert await processing()
        faults.replace([Fault(action="delay", on=("status",), delay_s=10, after=True)])
        gateway.end_all("blocked")
        await polled(gateway, job_id, 2)  # at the same time: each answer takes longer than the other's question
        assert (await gateway.ended(job_id)).state is JobState.FAILED
        faults.replace(())
        for job in gateway.vendor.sandbox.jobs:
            job.error = None  # it reads COMPLETED from now on

        paths = [f"/v2/requests/{job_id}/status", f"/v2/requests/{job_id}"]
        answers = [await gateway.http.get(base + path) for base in (gateway.url, other) for path in paths * 2]
        assert {(a.status_code, a.content) for a in answers} == {(422, answers[0].content)}
        assert (answers[0].json()["status"], answers[0].json()["error"]) == ("FAILED", "blocked")
        kinds = [entry["kind"] for entry in await entries(gateway.store.client, TENANT)]
        assert sorted(kinds) == ["hold", "release"]
        await eventually(lambda: _is(told("job.ended") > 0))
        assert told("job.ended") == 1
        assert await gateway.money() == (0, 0)


async def test_r17_polls_out_of_order(redis_url: str) -> None:
    """An older word of the vendor after a newer one takes nothing back: the job completes and is charged once."""
    async with gateway_on(redis_url) as gateway:
        gateway.vendor.sandbox.faults.add(NEVER_ENDS)
        submitted = (await gateway.post()).json()
        job_id, seen = submitted["request_id"], list[str]()

        async def reads(word: str) -> bool:
            seen.append((await gateway.http.get(submitted["status_url"])).json()["status"])
            return seen[-1] == word

        await while_polled(gateway, job_id, lambda: reads("PROCESSING"))
        seen.clear()
        gateway.vendor.sandbox.faults.replace([Fault(action="regress", on=("status",))])
        await polled(gateway, job_id)
        gateway.vendor.sandbox.faults.replace(())
        gateway.end_all()
        await while_polled(gateway, job_id, lambda: reads("COMPLETED"))
        assert set(seen[:-1]) <= {"PROCESSING"}
        assert await gateway.money() == (gateway.billed_nano(), 0)
        await assert_audited(gateway.store.client)


async def test_r18_nobody_polls(gateway: Gateway) -> None:
    """A job whose caller never asks again is settled and its result kept, all the same."""
    job_id = (await gateway.post()).json()["request_id"]
    job = await gateway.ended(job_id)
    reads = [line for line in gateway.lines() if line["event"] == "http.request" and line.get("job_id") == job_id]
    assert {line["method"] for line in reads} <= {"POST"}
    assert (job.state, job.has_result) == (JobState.COMPLETED, True)
    assert await gateway.money() == (gateway.billed_nano(), 0)


async def test_r19_a_job_that_the_vendor_denies(redis_url: str) -> None:
    """Two 404s, some time apart, and no history to ask: EXPIRED, charged at its hold, one alert; not before."""
    async with two_gateways(redis_url) as (gateway, _, told):
        gateway.vendor.sandbox.faults.replace([NEVER_ENDS, NO_SUCH_JOB, NO_HISTORY])
        submitted = (await gateway.post()).json()
        job_id, hold = submitted["request_id"], (await gateway.job(submitted["request_id"])).hold

        async def doubted() -> bool:
            return (await gateway.job(job_id)).missing_ms is not None

        await polled(gateway, job_id)
        assert not await doubted()  # the first minute is the vendor's own haste
        await gateway.store.pass_time(COUNTED_FROM_S)
        await while_polled(gateway, job_id, doubted)
        await polled(gateway, job_id)
        job = await gateway.job(job_id)
        assert (job.state, await gateway.money(), told("job.expired")) == (JobState.ACCEPTED, (0, hold), 0)

        await gateway.store.pass_time(CONFIRM_S)

        async def over() -> bool:
            return (await gateway.job(job_id)).state.terminal

        await while_polled(gateway, job_id, over)
        job = await gateway.job(job_id)
        assert (job.state, job.cost, job.estimated) == (JobState.EXPIRED, hold, True)
        assert await gateway.money() == (hold, 0)
        answer = await gateway.http.get(submitted["status_url"])
        assert (answer.status_code, answer.json()["status"]) == (422, "FAILED")
        await eventually(lambda: _is(told("job.expired") == 1))


async def test_r20_processing_for_ever(redis_url: str) -> None:
    """Alerts at three times the expected latency and at 50 minutes, one each; the hold stands, and the job goes on."""
    async with two_gateways(redis_url, time_scale=1.0) as (gateway, _, told):
        # Answers take so long that both processes have asked before either hears.
        gateway.vendor.sandbox.faults.add(NEVER_ENDS, Fault(action="delay", on=("status",), delay_s=0.7))
        submitted = (await gateway.post()).json()
        job_id, age_s = submitted["request_id"], 0.0
        gateway.vendor.sandbox.jobs[0].queue_s = 0.0  # by the vendor's own clock it is young all the time
        hold = (await gateway.job(job_id)).hold
        expected_s = next(model.expected_latency_s for model in load_catalogue().models() if model.slug == KLING)
        late_s = OVERDUE_FACTOR * expected_s
        for until_s, alerts in (
            (late_s - 60, 0),
            (late_s, 1),
            (URGENT_AFTER_S - 60, 1),
            (URGENT_AFTER_S, 2),
            (3500, 2),
        ):
            await gateway.store.pass_time(until_s - age_s)
            age_s = until_s
            await while_polled(gateway, job_id, lambda alerts=alerts: _is(told("job.overdue") >= alerts))  # type: ignore[misc]  # mypy can't infer a lambda's default
            await polled(gateway, job_id)
            assert told("job.overdue") == alerts, until_s
            assert ((await gateway.job(job_id)).state, await gateway.money()) == (JobState.ACCEPTED, (0, hold))
        answer = await gateway.http.get(submitted["status_url"])
        assert (answer.status_code, answer.json()["status"]) == (200, "PROCESSING")


async def _is(state: bool) -> bool:
    return state
