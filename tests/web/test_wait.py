from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import httpx
import pytest
from web.fakes import COMPLETED, JOB, JOB_ID, KEY, QUOTA, Services
from web.raw import connected, read_answer

from gateway.core.job import JobState
from gateway.core.movements import StoredResult
from gateway.errors import StoreUnavailable
from gateway.service.outcomes import Submitted
from gateway.web.wait import preferred_wait_s

STATUS = f"/v2/requests/{JOB_ID}/status"
RESULT = f"/v2/requests/{JOB_ID}"
WAIT = {"prefer": "wait=10"}
FAILED = replace(JOB, state=JobState.FAILED, error="no", finished_ms=1_300)
BODY = StoredResult(body=b'{"output":"https://x"}', content_type="application/json")


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (b"wait=10", 10),
        (b"respond-async, wait=10", 10),
        (b"WAIT = 10 ; x=y, handling=lenient", 10),
        (b"wait=300", 300),
        (b"wait=99999999999999999999", 300),
        (b"wait=5, wait=10", 5),
        (b'note="a, \\" wait=3", wait=10', 10),
        (b'note="wait=3"', None),
        (b'wait="10"', None),
        (b"wait=x, wait=10", None),
        (b"wait=0", None),
        (b"wait=-1", None),
        (b"wait=1.5", None),
        (b"wait", None),
        (b"wait=", None),
        (b'note="a, wait=10', None),
        (b"respond-async", None),
        (b"", None),
        (b"," * 2000 + b"wait=10", None),
    ],
)
def test_what_is_preferred(prefer: bytes, seconds: int | None) -> None:
    """A wait is read as RFC 7240 has it, with 300 s at most; what is malformed is as if it were not there."""
    assert preferred_wait_s(prefer) == seconds


async def waiting(services: Services, answer: Awaitable[httpx.Response]) -> asyncio.Task[httpx.Response]:
    """Send a request and let it come to wait."""
    task = asyncio.ensure_future(answer)
    async with asyncio.timeout(5):
        while not len(services.notifications):  # noqa: ASYNC110  the app runs in this very loop
            await asyncio.sleep(0)
    return task


async def test_a_status_is_held_until_the_end(client: httpx.AsyncClient, services: Services) -> None:
    """A held status answers once the job has ended, as an ordinary status would, and says that it was held."""
    task = await waiting(services, client.get(STATUS, headers=WAIT))
    services.change(replace(JOB, vendor_status="PROCESSING"))
    services.change(COMPLETED)
    answer = await task
    plain = await client.get(STATUS)
    assert (answer.status_code, answer.json()["status"], answer.content) == (200, "COMPLETED", plain.content)
    assert answer.headers["preference-applied"] == "wait=10"
    assert "preference-applied" not in plain.headers
    assert services.requests[0].cost == COMPLETED.cost
    assert len(services.notifications) == 0


async def test_a_status_is_held_no_longer_than_preferred(client: httpx.AsyncClient, services: Services) -> None:
    """When the time is up the answer is how the job stands, even where nobody told of the change."""
    task = await waiting(services, client.get(STATUS, headers=WAIT))
    services.notifications.pass_time(9.9)
    await asyncio.sleep(0)
    assert not task.done()
    services.jobs[JOB_ID] = replace(JOB, vendor_status="PROCESSING")
    services.notifications.pass_time(0.2)
    answer = await task
    assert (answer.json()["status"], answer.headers["preference-applied"]) == ("PROCESSING", "wait=10")
    assert len(services.notifications) == 0


async def test_a_result_is_held_until_the_end(client: httpx.AsyncClient, services: Services) -> None:
    """A held result is the stored body, or the 422 of a job that failed; a job that has ended is not waited for."""
    for ended, status, body in ((COMPLETED, 200, BODY.body), (FAILED, 422, None)):
        services.jobs[JOB_ID] = JOB
        task = await waiting(services, client.get(RESULT, headers=WAIT))
        services.result = BODY
        services.change(ended)
        held, plain = await task, await client.get(RESULT, headers=WAIT)
        assert (held.status_code, held.content) == (status, body or plain.content)
        assert (plain.status_code, plain.content) == (status, held.content)
        assert held.headers["preference-applied"] == plain.headers["preference-applied"] == "wait=10"


async def test_a_submit_is_held_until_the_end(client: httpx.AsyncClient, services: Services) -> None:
    """A held submit answers with the result; it is still one submit, counted and headed as such."""
    task = await waiting(services, client.post("/v2/kling-2.6", json={}, headers=WAIT))
    services.result = BODY
    services.change(COMPLETED)
    answer = await task
    assert (answer.status_code, answer.content) == (200, BODY.body)
    assert (answer.headers["preference-applied"], answer.headers["ratelimit"]) == ("wait=10", '"submit";r=12;t=30')
    assert answer.headers["content-location"].endswith(f"/v2/requests/{JOB_ID}")
    assert "x-credits-held" not in answer.headers
    assert answer.headers["x-credits-remaining"] == "49"
    assert len([seen for seen in services.seen if hasattr(seen, "body")]) == 1


async def test_a_held_submit_that_fails(client: httpx.AsyncClient, services: Services) -> None:
    """A job that FAILED while its submit was held is the 422 that its result would be."""
    task = await waiting(services, client.post("/v2/kling-2.6", json={}, headers=WAIT))
    services.change(FAILED)
    answer = await task
    assert (answer.status_code, answer.json()["error"]) == (422, "no")


async def test_a_submit_that_takes_longer_is_a_submit(client: httpx.AsyncClient, services: Services) -> None:
    """When time is up a held submit answers as any submit does."""
    task = await waiting(services, client.post("/v2/kling-2.6", json={}, headers=WAIT))
    services.notifications.pass_time(11)
    held, plain = await task, await client.post("/v2/kling-2.6", json={})
    assert (held.status_code, held.json()) == (200, plain.json())
    assert held.headers["preference-applied"] == "wait=10"
    assert held.headers["x-credits-held"] == plain.headers["x-credits-held"]


async def test_a_held_submit_never_loses_its_id(client: httpx.AsyncClient, services: Services) -> None:
    """Where the result can't be had after the wait, the answer is the usual one: the job is on record."""

    async def kept(tenant: str, job_id: str) -> StoredResult | None:
        raise StoreUnavailable("down")

    services.outcome = Submitted(COMPLETED, QUOTA, replayed=True)
    lost = await client.post("/v2/kling-2.6", json={}, headers=WAIT)
    services.kept = kept  # type: ignore[method-assign]  # a store that goes away
    down = await client.post("/v2/kling-2.6", json={}, headers=WAIT)
    assert lost.json() == down.json()
    assert (down.status_code, down.json()["request_id"]) == (200, JOB_ID)
    assert down.headers["idempotent-replayed"] == "true"


async def test_a_store_that_is_away_is_waited_for(client: httpx.AsyncClient, services: Services) -> None:
    """A read that fails while waiting ends nothing: the next one may do."""
    task = await waiting(services, client.get(STATUS, headers=WAIT))
    find, failing = services.find, asyncio.Event()

    async def down(tenant: str, job_id: str) -> None:
        failing.set()
        raise StoreUnavailable("down")

    services.find = down  # type: ignore[method-assign]  # a store that goes away
    services.change(COMPLETED)
    await failing.wait()
    services.find = find  # type: ignore[method-assign]  # and comes back
    services.change(COMPLETED)
    assert (await task).json()["status"] == "COMPLETED"


async def test_too_many_waiters(client: httpx.AsyncClient, services: Services) -> None:
    """Where as many wait as may, a preference is ignored and says so by its silence."""
    tasks = [asyncio.ensure_future(client.get(STATUS, headers=WAIT)) for _ in range(services.waiter_limit)]
    while len(services.notifications) < services.waiter_limit:  # noqa: ASYNC110  the app runs in this very loop
        await asyncio.sleep(0)
    answer = await client.get(STATUS, headers=WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "QUEUED")
    assert "preference-applied" not in answer.headers
    services.change(COMPLETED)
    assert {a.json()["status"] for a in await asyncio.gather(*tasks)} == {"COMPLETED"}


async def test_draining_answers_at_once(client: httpx.AsyncClient, services: Services) -> None:
    """A process that is about to end answers its waiters with what is known, and lets nobody wait."""
    tasks = [
        await waiting(services, client.get(STATUS, headers=WAIT)),
        await waiting(services, client.post("/v2/m", json={}, headers=WAIT)),
    ]
    services.waiting.drain()
    answers = [await task for task in tasks] + [await client.get(STATUS, headers=WAIT)]
    assert [answer.json()["status"] for answer in answers] == ["QUEUED"] * 3
    assert len(services.notifications) == 0


async def test_who_may_not_read_does_not_wait(client: httpx.AsyncClient, services: Services) -> None:
    """A caller without a key, or of a job that is not there, is told so at once."""
    services.jobs.clear()
    assert (await client.get(STATUS, headers=WAIT)).status_code == 404
    assert (await client.get(STATUS, headers={"x-api-key": "no"} | WAIT)).status_code == 401


@pytest.mark.parametrize(
    "request_head",
    [
        f"GET {STATUS} HTTP/1.1\r\n",
        "POST /v2/kling-2.6 HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n",
        f"GET {STATUS.replace('/status', '/events')} HTTP/1.1\r\n",
    ],
)
async def test_a_caller_who_leaves_frees_everything(port: int, services: Services, request_head: str) -> None:
    """A disconnect ends the wait at once; the next request on another connection is served."""
    body = "{}" if request_head.startswith("POST") else ""
    async with connected(port) as (_, writer):
        writer.write(f"{request_head}Host: gw\r\nx-api-key: {KEY}\r\nprefer: wait=300\r\n\r\n{body}".encode())
        async with asyncio.timeout(5):
            while not len(services.notifications):  # noqa: ASYNC110  the server runs in this very loop
                await asyncio.sleep(0)
    await asyncio.wait_for(services.noted.wait(), 5)
    assert len(services.notifications) == 0
    assert [event.job_id for event in services.requests] == [JOB_ID]
    assert services.alerts == []
    async with connected(port) as (reader, writer):
        writer.write(f"GET {STATUS} HTTP/1.1\r\nHost: gw\r\nx-api-key: {KEY}\r\n\r\n".encode())
        assert (await read_answer(reader))[0] == 200
