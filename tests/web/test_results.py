"""Large results on their way to callers: they take up so much memory and no more, whoever reads slowly."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import pytest
from web.fakes import COMPLETED, JOB_ID, KEY, QUOTA, Services
from web.raw import ask, connected, read_answer, read_head
from web.server import served

from gateway.core.movements import StoredResult
from gateway.service.outcomes import Submitted
from gateway.service.room import Room

BODY: Final = random.Random(1).randbytes(8 * 2**20)  # noqa: S311 the same in each run
GET: Final = f"GET /v2/requests/{JOB_ID} HTTP/1.1\r\nHost: gw\r\nx-api-key: {KEY}\r\n\r\n"
WAIT: Final = (
    f"POST /v2/m HTTP/1.1\r\nHost: gw\r\nx-api-key: {KEY}\r\nprefer: wait=1\r\n"
    "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
)


@pytest.fixture
def services() -> Services:
    """Have a job that is done, with the largest result there is."""
    services = Services(outcome=Submitted(COMPLETED, QUOTA), result=StoredResult(body=BODY, content_type="video/mp4"))
    services.jobs[JOB_ID] = COMPLETED
    return services


@pytest.mark.parametrize("request_text", [GET, WAIT])
async def test_a_large_result_holds_room_until_its_caller_has_it(services: Services, request_text: str) -> None:
    """While a slow caller has not read it, no other fits; then one does, whole, and the room is free again."""
    room = Room(len(BODY) + 1)
    async with served(services, results=room) as port, connected(port) as (reader, writer):
        writer.write(request_text.encode())
        status, headers = await read_head(reader)
        assert (status, int(headers["content-length"])) == (200, len(BODY))
        refused, refusal, _ = await ask(port, GET)
        assert (refused, refusal["retry-after"]) == (503, "2")
        assert await reader.readexactly(len(BODY)) == BODY
        writer.write(GET.encode())
        assert (await read_answer(reader))[2] == BODY
    assert room.held_bytes == 0


async def test_a_caller_who_takes_nothing_is_cut_off(services: Services) -> None:
    """It finds the answer incomplete; its connection, and the room, are free by then."""
    room = Room(len(BODY))
    async with served(services, results=room, stalled_s=0.05) as port, connected(port) as (reader, writer):
        writer.write(GET.encode())
        await read_head(reader)
        await asyncio.wait_for(services.noted.wait(), 10)
        assert room.held_bytes == 0
        assert len(await reader.read()) < len(BODY)
    assert services.alerts == []
