"""Whatever keeps a request from leaving: a name, a connection, a handshake, or no free connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from support.gateway import Gateway, eventually, gateway_on
from support.valkey import free_port
from support.vendor import KLING

from gateway.core.job import JobState
from gateway.sandbox import Fault

SUBMIT: Final = f"/v2/{KLING}"
SYNC: Final = "/v1/faceswap-v2"
ATTEMPTS: Final = 3


@asynccontextmanager
async def no_tls() -> AsyncIterator[int]:
    """Listen on a port that hangs up at the greeting."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("what", ["name", "connection", "handshake"])
async def test_r11_unreachable(redis_url: str, what: str) -> None:
    """Three attempts at most; then 503, REJECTED, released, and the key may be used again."""
    async with no_tls() as port:
        urls = {
            "name": "https://api.segmind.invalid",
            "connection": f"http://127.0.0.1:{free_port()}",
            "handshake": f"https://127.0.0.1:{port}",
        }
        async with gateway_on(redis_url, upstream_url=urls[what]) as gateway:
            answers = [await gateway.post(path, idempotency_key=path) for path in (SUBMIT, SYNC, SUBMIT)]
            assert len({await _released(gateway, answer) for answer in answers}) == len(answers)
            assert await gateway.metric("gateway_upstream_calls_total", outcome="unsent") == ATTEMPTS * len(answers)
            assert await gateway.metric("gateway_upstream_calls_total") == ATTEMPTS * len(answers)
            assert await gateway.money() == (0, 0)


async def test_r11_no_free_connection(redis_url: str) -> None:
    """A submit that finds every connection taken is released, and the one that has it is not disturbed."""
    short: dict[str, Any] = {"upstream_pool_timeout_seconds": 0.1, "upstream_connect_timeout_seconds": 0.5}
    async with gateway_on(redis_url, upstream_connections=1, **short) as gateway:
        gateway.vendor.sandbox.faults.add(Fault(action="delay", on=("submit",), delay_s=6, times=1))
        holder = asyncio.create_task(gateway.post())
        await eventually(lambda: _sent(gateway))
        job_id = await _released(gateway, await gateway.post(idempotency_key="k"))
        assert await gateway.metric("gateway_upstream_calls_total", outcome="unsent") == ATTEMPTS
        assert not holder.done()
        first = (await holder).json()["request_id"]
        again = await gateway.post(idempotency_key="k")
        assert again.status_code == httpx.codes.OK
        for started in (first, again.json()["request_id"]):
            assert started != job_id
            assert (await gateway.ended(started)).state is JobState.COMPLETED
        assert gateway.upstream_posts() == 2
        assert await gateway.money() == (gateway.billed_nano(), 0)


async def _released(gateway: Gateway, answer: httpx.Response) -> str:
    """Check that a submit was refused and holds nothing; return its job's id."""
    said = answer.json()
    assert (answer.status_code, said["code"], said["limited_by"]) == (503, "upstream_unavailable", "upstream"), said
    assert int(answer.headers["retry-after"]) >= 1
    job = await gateway.job(said["request_id"])
    assert job.state is JobState.REJECTED
    return job.id


async def _sent(gateway: Gateway) -> bool:
    return gateway.upstream_posts() == 1
