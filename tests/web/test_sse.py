from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from web.fakes import COMPLETED, JOB, JOB_ID, KEY, Services
from web.raw import connected, read_head

from gateway.core.job import Job, JobState
from gateway.core.movements import Denied

EVENTS = f"/v2/requests/{JOB_ID}/events"
PROCESSING = replace(JOB, vendor_status="PROCESSING")
FAILED = replace(JOB, state=JobState.FAILED, error="line\nbreak", finished_ms=1_300)


def parsed(event: str) -> tuple[str, str, dict[str, object]]:
    """Read one event: its id, its type, its data."""
    fields = dict(line.split(": ", 1) for line in event.removesuffix("\r\n\r\n").split("\r\n"))
    return fields["id"], fields["event"], json.loads(fields["data"])


@asynccontextmanager
async def stream(port: int, last_seen: str = "") -> AsyncIterator[tuple[dict[str, str], asyncio.StreamReader]]:
    """Open a stream of events."""
    async with connected(port) as (reader, writer):
        resume = f"last-event-id: {last_seen}\r\n" if last_seen else ""
        writer.write(f"GET {EVENTS} HTTP/1.1\r\nHost: gw\r\nx-api-key: {KEY}\r\n{resume}\r\n".encode())
        status, headers = await read_head(reader)
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        yield headers, reader


async def chunk(reader: asyncio.StreamReader) -> str:
    """Read the next chunk; empty at the end."""
    async with asyncio.timeout(5):
        size = int(await reader.readline(), 16)
        return (await reader.readexactly(size + 2)).decode().removesuffix("\r\n")


async def test_each_change_is_an_event(port: int, services: Services) -> None:
    """A stream tells how the job stands, then each change as it comes, and ends after the last."""
    async with stream(port) as (headers, reader):
        assert headers["content-type"] == "text/event-stream"
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert headers["ratelimit"] == '"read";r=11;t=1'
        first = parsed(await chunk(reader))
        services.change(PROCESSING)
        second = parsed(await chunk(reader))
        services.change(replace(PROCESSING, confirmed_ms=6_000))
        services.change(COMPLETED)
        third = parsed(await chunk(reader))
        assert await chunk(reader) == ""
    assert [(i, kind, data["status"]) for i, kind, data in (first, second, third)] == [
        ("1", "status", "QUEUED"),
        ("2", "status", "PROCESSING"),
        ("3", "status", "COMPLETED"),
    ]
    assert third[2]["metrics"] == {"cost": 0.941512346}
    assert len(services.notifications) == 0
    await asyncio.wait_for(services.noted.wait(), 5)
    [event] = services.requests
    assert (event.route, event.status, event.cost) == ("/v2/requests/{id}/events", 200, COMPLETED.cost)


async def test_an_event_is_the_status(client: httpx.AsyncClient, services: Services) -> None:
    """The data of an event is the very body of the status; a job that has ended is one event."""
    for job in (COMPLETED, FAILED):
        services.jobs[JOB_ID] = job
        events = (await client.get(EVENTS)).text
        assert parsed(events)[2] == (await client.get(f"/v2/requests/{JOB_ID}/status")).json()


@pytest.mark.parametrize(
    ("job", "last_seen", "told"),
    [
        (PROCESSING, "", ["2", "3"]),
        (PROCESSING, "1", ["2", "3"]),
        (PROCESSING, "2", ["3"]),
        (PROCESSING, "x", ["2", "3"]),
        (JOB, "0", ["1", "3"]),
        (COMPLETED, "2", ["3"]),
    ],
)
async def test_a_stream_resumes(port: int, services: Services, job: Job, last_seen: str, told: list[str]) -> None:
    """With the id of the last event seen, a stream goes on with the one after; an id that is not ours is ignored."""
    services.jobs[JOB_ID] = job
    seen = []
    async with stream(port, last_seen) as (_, reader):
        if len(told) == 2:
            seen.append(parsed(await chunk(reader))[0])
        services.change(COMPLETED)
        seen.append(parsed(await chunk(reader))[0])
        assert await chunk(reader) == ""
    assert seen == told


async def test_nothing_left_to_tell(client: httpx.AsyncClient, services: Services) -> None:
    """Who has seen the end gets 204, so that an EventSource stops coming back."""
    services.jobs[JOB_ID] = COMPLETED
    answer = await client.get(EVENTS, headers={"last-event-id": "3"})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_silent_stream_beats(port: int, services: Services) -> None:
    """A stream with nothing to tell says so every 15 s, with a comment, however often the record is read meanwhile."""
    async with stream(port) as (_, reader):
        await chunk(reader)
        for _ in range(2):
            async with asyncio.timeout(5):
                while not len(services.notifications):  # noqa: ASYNC110  the server runs in this very loop
                    await asyncio.sleep(0)
            services.notifications.pass_time(14.9)
            services.notifications.wake_all()
            await asyncio.sleep(0)
            services.notifications.pass_time(0.2)
            beat = await chunk(reader)
            assert beat.startswith(":")
            assert beat.endswith("\r\n\r\n")


async def test_refusals_come_before_the_stream(client: httpx.AsyncClient, services: Services) -> None:
    """No key, no such job, too many reads, too many waiters: each an ordinary problem, not a stream."""
    answers = [await client.get(EVENTS, headers={"x-api-key": "no"})]
    answers.append(await client.get(EVENTS.replace("abcd", "ffff")))
    services.denial = Denied("rate_limited", retry_after_s=0.5)
    answers.append(await client.get(EVENTS))
    services.denial = None
    services.waiting.drain()
    answers.append(await client.get(EVENTS))
    assert [(a.status_code, a.json()["code"]) for a in answers] == [
        (401, "unauthenticated"),
        (404, "not_found"),
        (429, "rate_limited"),
        (503, "draining"),
    ]
    assert {a.headers["content-type"] for a in answers} == {"application/problem+json"}
    assert all("retry-after" in a.headers for a in answers[2:])


async def test_a_full_process_opens_no_stream(client: httpx.AsyncClient, services: Services) -> None:
    """Where as many wait as may, a stream is a 503 that says when to come back."""
    async with AsyncExitStack() as others:
        for n in range(services.waiter_limit):
            await others.enter_async_context(services.notifications.watch("other", str(n)))
        full = await client.get(EVENTS)
    assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (503, "overloaded", "5")


async def test_draining_ends_streams(port: int, services: Services) -> None:
    """A process that is about to end closes its streams properly, so that callers resume elsewhere."""
    async with stream(port) as (_, reader):
        await chunk(reader)
        services.waiting.drain()
        assert await chunk(reader) == ""
    assert len(services.notifications) == 0


async def test_head_has_no_stream(client: httpx.AsyncClient, services: Services) -> None:
    """HEAD is answered with the headers and at once, while the job runs."""
    answer = await client.head(EVENTS)
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "text/event-stream", b"")
    assert len(services.notifications) == 0
