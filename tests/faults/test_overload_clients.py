"""FAULTS rows 9 and 32: clients that go away, in every way and by the thousand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from urllib.parse import urlsplit

import pytest
from support.gateway import Gateway, eventually, gateway_on
from support.ports import UNLIMITED
from support.vendor import KLING

from gateway.cli.closed_loop import request_bytes

CANCELLED = 10_000
AT_ONCE = 100


def submit(gateway: Gateway, key: str, path: str = f"/v2/{KLING}") -> bytes:
    """Write a submit down."""
    headers = {"x-api-key": gateway.key, "content-type": "application/json", "idempotency-key": key}
    return request_bytes("gw", path, method="POST", headers=headers, body=json.dumps({"prompt": key}).encode())


async def leave(gateway: Gateway, data: bytes, read: int = 0) -> None:
    """Send some bytes, read some of the answer, and go away without a word."""
    url = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(data)
    await writer.drain()
    if read:
        await reader.read(read)
    writer.transport.abort()


async def test_r09_a_client_that_leaves_at_any_byte(redis_url: str) -> None:
    """A submit cut at any byte starts nothing; a whole one is sent once and recovered by its key, whoever stayed."""
    async with gateway_on(redis_url, submit=UNLIMITED, concurrent_jobs=1000) as gateway:
        whole = submit(gateway, "k-cut")
        await asyncio.gather(*(leave(gateway, whole[:cut]) for cut in range(len(whole))))
        await gateway.store.client.ping()
        assert gateway.upstream_posts() == 0
        keys = [f"k-{read}" for read in range(30)]
        await asyncio.gather(*(leave(gateway, submit(gateway, key), read) for read, key in enumerate(keys)))

        async def recovered() -> bool:
            answers = [await gateway.post(body={"prompt": key}, idempotency_key=key) for key in keys]
            return {answer.status_code for answer in answers} == {200}

        await eventually(recovered)
        sent = Counter(str(job["body"]) for job in gateway.accepted())
        assert len(sent) == len(keys)
        assert set(sent.values()) == {1}


@pytest.mark.timeout(300)
async def test_r32_ten_thousand_cancelled_requests(redis_url: str) -> None:
    """After 10,000 requests whose callers left, no call is in hand, and every new one goes through."""
    async with gateway_on(
        redis_url, submit=UNLIMITED, read=UNLIMITED, concurrent_jobs=100_000, budgets={}, upstream_connections=16
    ) as gateway:
        job_id = (await gateway.post()).json()["request_id"]
        read = request_bytes("gw", f"/v2/requests/{job_id}", headers={"x-api-key": gateway.key, "prefer": "wait=300"})
        for start in range(0, CANCELLED, AT_ONCE):
            some = range(start, start + AT_ONCE)
            await asyncio.gather(*(leave(gateway, read if n % 10 else submit(gateway, f"k-{n}")) for n in some))

        async def quiet() -> bool:
            answers = await asyncio.gather(*(gateway.post(body={"prompt": f"after {n}"}) for n in range(32)))
            return {answer.status_code for answer in answers} == {200}

        await eventually(quiet)
        assert not [line for line in gateway.lines() if line.get("outcome") == "unsent"]
        sent = Counter(str(job["body"]) for job in gateway.accepted() if "k-" in str(job["body"]))
        assert set(sent.values()) == {1}
