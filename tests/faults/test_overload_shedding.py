"""FAULTS row 31 in a whole gateway: what an overload stops, and what it does not."""

from __future__ import annotations

import asyncio

import pytest
from support.gateway import Gateway, eventually, gateway_on

from gateway.core.job import JobState
from gateway.service.inflight import InFlight


async def refused_for_good(answers: list[int]) -> bool:
    """Tell whether the last ten submits were refused."""
    return answers[-10:] == [503] * 10


async def test_r31_settlement_goes_on_while_all_submits_are_refused(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the worst overload a job in flight is polled, settled and its result kept; then everything is as before."""
    async with gateway_on(redis_url, time_scale=1.0) as gateway:
        job_id = (await gateway.post()).json()["request_id"]
        monkeypatch.setattr(InFlight, "share", 1.0)  # as if as many submits as can be were in hand
        answers: list[int] = []

        async def shed() -> bool:
            answer = await gateway.post()
            answers.append(answer.status_code)
            if answer.status_code == 503:
                assert (answer.json()["code"], answer.headers["retry-after"]) == ("overloaded", "1")
            return await refused_for_good(answers)

        await eventually(shed)
        posted = gateway.upstream_posts()
        gateway.end_all()
        job = await gateway.ended(job_id)
        assert (job.state, job.has_result) == (JobState.COMPLETED, True)
        assert [(await gateway.post()).status_code for _ in range(10)] == [503] * 10
        reads = [await gateway.http.get(f"/v2/requests/{job_id}{path}") for path in ("", "/status") * 10]
        assert [read.status_code for read in reads] == [200] * len(reads)
        assert gateway.upstream_posts() == posted
        monkeypatch.undo()

        async def well() -> bool:
            return (await gateway.post()).status_code == 200

        await eventually(well)
        gateway.end_all()
        await eventually(lambda: counted(gateway, answers))
        await eventually(lambda: logged(gateway, answers))


async def logged(gateway: Gateway, answers: list[int]) -> bool:
    """Tell whether the log has every refusal."""
    told = [line for line in gateway.lines() if line["event"] == "http.shed"]
    return sum(int(line["submits"]) for line in told) >= answers.count(503)


async def counted(gateway: Gateway, answers: list[int]) -> bool:
    """Tell whether the metrics have every refusal."""
    return await gateway.metric("gateway_shed_requests_total", kind="submit") >= answers.count(503)


async def test_r31_bodies_are_bounded_in_bytes(redis_url: str) -> None:
    """Bodies that don't fit together are refused 503, unread where announced; what was taken is free afterwards."""
    limit = 64 << 20
    async with gateway_on(redis_url, max_held_bytes=limit, max_body_bytes=16 << 20) as gateway:
        body = b'{"prompt":"%s"}' % (b"x" * (9 << 20))
        refused = await gateway.http.post("/v2/m", content=body, headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "overloaded", "2")
        for _ in range(3):
            answers = await asyncio.gather(*(gateway.post(body={"prompt": "x" * (1 << 20)}) for _ in range(4)))
            assert {answer.status_code for answer in answers} == {200}
        assert gateway.upstream_posts() == 12
