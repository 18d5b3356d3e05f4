"""Waiting instead of polling: held answers, events and the list, over processes that share nothing but the store."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.clients import opened
from support.gateway import DEADLINE_S, PROMPT, TENANT, Gateway, eventually, nano, settings_for
from support.ledger import admission, open_store
from support.notifications import HOUR_S, listening
from support.vendor import KLING

from gateway.cli.serve import serving
from gateway.core.job import JobState
from gateway.core.movements import Settlement
from gateway.sandbox import Fault
from gateway.service.wait import Waiting
from gateway.store import keys

SLOWER = pytest.mark.parametrize("gateway", [{"time_scale": 250}], indirect=True)
"""A Kling job runs for 1.7 s."""
WAIT = {"prefer": "wait=60"}


@asynccontextmanager
async def another(gateway: Gateway, redis_url: str) -> AsyncIterator[str]:
    """Run a second data plane, which tracks nothing; yield its URL."""
    async with serving(settings_for(redis_url, gateway.vendor.url, role="api"), io.BytesIO()) as served:
        yield served.url


async def follow(gateway: Gateway, url: str, told: list[tuple[str, str]], last_seen: str = "") -> None:
    """Follow a stream of events to its end; note each one's id and status as it comes."""
    headers = {"last-event-id": last_seen} if last_seen else {}
    async with gateway.http.stream("GET", url, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        number = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = value
            elif name == "data":
                told.append((number, json.loads(value)["status"]))


def in_order(told: list[tuple[str, str]], after: str = "0") -> bool:
    """Tell whether events came each once, in order, none that was seen before, up to the end."""
    return told == sorted(set(told)) and told[0][0] > after and told[-1] == ("3", "COMPLETED")


@SLOWER
async def test_a_waiter_elsewhere_wakes(gateway: Gateway, redis_url: str) -> None:
    """A job that one process tracks and settles is told to those who wait at another, held and as events."""
    told: list[tuple[str, str]] = []
    async with another(gateway, redis_url) as elsewhere:
        job_id = (await gateway.post()).json()["request_id"]
        job = f"{elsewhere}/v2/requests/{job_id}"
        held, status, _ = await asyncio.gather(
            gateway.http.get(job, headers=WAIT),
            gateway.http.get(f"{job}/status", headers=WAIT),
            follow(gateway, f"{job}/events", told),
        )
        plain = await gateway.http.get(f"/v2/requests/{job_id}")
    assert (held.status_code, held.content) == (200, plain.content)
    assert (held.headers["preference-applied"], held.json()["status"]) == ("wait=60", "COMPLETED")
    assert nano(str(status.json()["metrics"]["cost"])) == gateway.billed_nano()
    assert in_order(told)


@SLOWER
async def test_word_comes_from_the_tracker(gateway: Gateway, redis_url: str) -> None:
    """The end of a job that a tracker settles is heard, not looked for: here nobody would look for an hour."""
    async with opened(redis_url) as client, listening(client) as notifications:
        job = await gateway.job((await gateway.post()).json()["request_id"])
        async with asyncio.timeout(DEADLINE_S):
            ended = await Waiting(notifications, gateway.store.jobs, limit=1).until_ended(job, HOUR_S)
        assert not job.state.terminal
        assert ended.state is JobState.COMPLETED
        assert len(notifications) == 0


async def test_thousands_wait(redis_url: str) -> None:
    """2,000 waiters on 200 jobs all hear of their job's end from another process, and nothing of them is left."""
    async with open_store(redis_url) as here, open_store(redis_url) as there, listening(here.client) as notifications:
        caller = await there.caller(TENANT, concurrent_jobs=200)
        wanted = [admission(caller) for _ in range(200)]
        await asyncio.gather(*map(there.ledger.admit, wanted))
        jobs = [job for each in wanted if (job := await here.jobs.find(TENANT, each.job_id))] * 10
        waiting, before = Waiting(notifications, here.jobs, limit=2000), len(asyncio.all_tasks())
        tasks = [asyncio.create_task(waiting.until_ended(job, HOUR_S)) for job in jobs]
        await eventually(lambda: _all_wait(waiting))
        assert waiting.full
        for each in wanted:
            done = Settlement(tenant=TENANT, job_id=each.job_id, state=JobState.COMPLETED, cost=1)
            await there.ledger.settle(done)
        async with asyncio.timeout(DEADLINE_S):
            ended = await asyncio.gather(*tasks)
        assert len(ended) == 2000
        assert {job.state for job in ended} == {JobState.COMPLETED}
        assert (len(notifications), notifications._by_job, waiting.full) == (0, {}, False)
        assert len(asyncio.all_tasks()) == before


async def _all_wait(waiting: Waiting) -> bool:
    return waiting.full


@SLOWER
async def test_a_held_submit_is_one_call_for_a_result(gateway: Gateway) -> None:
    """A submit that waits answers with the result of its job: one request, one job, one bill."""
    answer = await gateway.post(prefer="respond-async, wait=60", idempotency_key="clip-42")
    [accepted] = gateway.accepted()
    again = await gateway.post(prefer="wait=60", idempotency_key="clip-42")
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=60")
    assert (answer.json()["status"], answer.json()["output"]) == ("COMPLETED", answer.json()["video"]["url"])
    assert answer.headers["x-upstream-request-id"] == accepted["request_id"]
    assert (again.content, again.headers["idempotent-replayed"]) == (answer.content, "true")
    assert gateway.upstream_posts() == 1
    assert await gateway.money() == (gateway.billed_nano(), 0)


async def test_a_held_submit_that_fails_or_takes_too_long(gateway: Gateway) -> None:
    """A held submit of a job that FAILED is the 422 of its result; one that runs on answers as any submit."""
    faults = gateway.vendor.sandbox.faults
    faults.add(Fault(action="outcome", message="blocked", times=1))
    failed = await gateway.post(prefer="wait=60")
    faults.add(Fault(action="outcome", outcome="PROCESSING"))
    running = await gateway.post(prefer="wait=1")
    assert (failed.status_code, failed.json()["error"]) == (422, "blocked")
    assert (running.status_code, running.json()["status"]) == (200, "QUEUED")
    assert [a.headers["preference-applied"] for a in (failed, running)] == ["wait=60", "wait=1"]


@SLOWER
async def test_events_resume(gateway: Gateway) -> None:
    """A stream that was cut off goes on after the last event seen; who has seen the last is told that it was."""
    job_id = (await gateway.post()).json()["request_id"]
    path = f"/v2/requests/{job_id}/events"
    async with gateway.http.stream("GET", path) as answer:
        first = (await anext(answer.aiter_lines())).removeprefix("id: ")
    told: list[tuple[str, str]] = []
    await follow(gateway, path, told, first)
    assert in_order(told, after=first)
    told.clear()
    await follow(gateway, path, told, "2")
    assert told == [("3", "COMPLETED")]
    assert (await gateway.http.get(path, headers={"last-event-id": "3"})).status_code == 204


async def test_a_process_that_ends_keeps_nobody_waiting(gateway: Gateway, redis_url: str) -> None:
    """At shutdown waiters are answered with what is known and streams end whole, long before their time."""
    gateway.vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    job_id = (await gateway.post()).json()["request_id"]
    told: list[tuple[str, str]] = []
    async with another(gateway, redis_url) as elsewhere:
        job = f"{elsewhere}/v2/requests/{job_id}"
        held = asyncio.create_task(gateway.http.get(job, headers={"prefer": "wait=300"}))
        await eventually(lambda: gateway.store.client.exists(keys.gcra(TENANT, "read")))
        following = asyncio.create_task(follow(gateway, f"{job}/events", told))
        await eventually(lambda: _any(told))
    assert (await held).json()["status"] in {"QUEUED", "PROCESSING"}
    await following
    assert told[-1][1] in {"QUEUED", "PROCESSING"}


async def _any(told: list[tuple[str, str]]) -> bool:
    return bool(told)


async def test_the_list_of_jobs(gateway: Gateway) -> None:
    """The list shows a tenant its jobs with what they cost or hold, and leads from page to page."""
    done = (await gateway.post(x_gateway_labels="team=video")).json()["request_id"]
    await gateway.ended(done)
    gateway.vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    running = (await gateway.post()).json()
    first = (await gateway.http.get("/v2/requests", params={"limit": 1})).json()
    last = (await gateway.http.get("/v2/requests", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    [newer], [older] = first["requests"], last["requests"]
    assert (newer["request_id"], newer["held"], newer["model"]) == (running["request_id"], 0.9415, KLING)
    assert (older["request_id"], older["status"], older["labels"]) == (done, "COMPLETED", {"team": "video"})
    assert nano(str(older["cost"])) == nano(str(gateway.accepted()[0]["billed"]))
    assert last["next_cursor"] is None
    found = await gateway.http.get("/v2/requests", params={"status": "COMPLETED", "model": KLING})
    assert [job["request_id"] for job in found.json()["requests"]] == [done]
    assert (await gateway.http.post("/v2/requests", json=PROMPT)).status_code == 405
