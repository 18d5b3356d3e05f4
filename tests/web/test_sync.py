from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import httpx
import pytest
from web.fakes import JOB, JOB_ID, KEY, QUOTA, Services
from web.raw import connected, read_head

from gateway.core.job import JobState
from gateway.core.movements import Denied
from gateway.errors import UpstreamAmbiguous
from gateway.service.outcomes import Rejected, Submitted, SyncAnswer

SENDING = replace(JOB, state=JobState.SENDING, kind="sync", upstream_id=None)
CALL = (
    f"POST /v1/m HTTP/1.1\r\nHost: gw\r\nx-api-key: {KEY}\r\n"
    "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
)


@dataclass
class Body:
    """A vendor's body that streams: gives what is put in, raises an exception, ends on None."""

    queue: asyncio.Queue[bytes | Exception | None] = field(default_factory=asyncio.Queue)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the parts."""
        return self

    async def __anext__(self) -> bytes:
        """Give the next part."""
        part = await self.queue.get()
        if part is None:
            raise StopAsyncIteration
        if isinstance(part, Exception):
            raise part
        return part

    async def aclose(self) -> None:
        """Give the connection back."""
        self.closed.set()


@pytest.fixture
def body(services: Services) -> Body:
    """Make the vendor's body and let the service answer with it."""
    body = Body()
    headers = {
        "content-type": "image/jpeg",
        "x-cost": "0.05",
        "x-remaining-credits": "49",
        "set-cookie": "a=b",
        "x-bad": "1",
    }
    services.answer = SyncAnswer(200, headers, body, SENDING, QUOTA)
    return body


async def test_bytes_pass_as_they_are(client: httpx.AsyncClient, services: Services, body: Body) -> None:
    """A sync answer is the vendor's bytes, with its cost and without its cookies; the iterator is closed."""
    for part in (b"\xff\xd8", b"\x00jpeg", None):
        body.queue.put_nowait(part)
    answer = await client.post("/v1/m", content=b'{"prompt":"x"}', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.content) == (200, b"\xff\xd8\x00jpeg")
    assert (answer.headers["content-type"], answer.headers["x-cost"]) == ("image/jpeg", "0.05")
    assert (answer.headers["x-remaining-credits"], answer.headers["x-credits-held"]) == ("49", "0.9415")
    assert not {"set-cookie", "x-bad"} & set(answer.headers)
    assert body.closed.is_set()
    assert services.seen[0].body == b'{"prompt":"x"}'
    assert [event.job_id for event in services.requests] == [JOB_ID]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Submitted(replace(JOB, state=JobState.COMPLETED), QUOTA, replayed=True), 200),
        (Denied("budget_exhausted", QUOTA), 406),
        (Rejected("invalid_request", "no", job=SENDING, quota=QUOTA), 400),
    ],
)
async def test_what_does_not_stream(
    client: httpx.AsyncClient, services: Services, outcome: Submitted | Denied | Rejected, status: int
) -> None:
    """A sync call that is refused, or replayed without its body, answers like a submit."""
    services.answer = outcome
    assert (await client.post("/v1/m", json={})).status_code == status


async def test_chunks_are_not_held_back(port: int, body: Body) -> None:
    """A chunk reaches the caller before the vendor has sent the next one."""
    async with connected(port) as (reader, writer):
        writer.write(CALL.encode())
        body.queue.put_nowait(b"first")
        status, headers = await read_head(reader)
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert await reader.readexactly(10) == b"5\r\nfirst\r\n"
        body.queue.put_nowait(b"last")
        body.queue.put_nowait(None)
        assert await reader.readexactly(14) == b"4\r\nlast\r\n0\r\n\r\n"


async def test_a_caller_who_leaves_closes_the_stream(port: int, services: Services, body: Body) -> None:
    """A disconnect closes the vendor's stream at once, also while the vendor is silent."""
    async with connected(port) as (reader, writer):
        writer.write(CALL.encode())
        body.queue.put_nowait(b"first")
        await read_head(reader)
    await asyncio.wait_for(body.closed.wait(), 5)
    await asyncio.wait_for(services.noted.wait(), 5)
    assert (len(services.requests), services.alerts) == (1, [])


@pytest.mark.parametrize(("exc", "alerts"), [(UpstreamAmbiguous("reset"), 0), (ValueError("a bug"), 1)])
async def test_a_stream_that_breaks_off_shows(
    port: int, services: Services, body: Body, exc: Exception, alerts: int
) -> None:
    """A body that breaks off is never ended as if it were whole; only a bug of ours is an alert."""
    async with connected(port) as (reader, writer):
        writer.write(CALL.encode())
        body.queue.put_nowait(b"first")
        body.queue.put_nowait(exc)
        await read_head(reader)
        assert await reader.read() == b"5\r\nfirst\r\n"
    assert body.closed.is_set()
    assert len(services.alerts) == alerts
