"""Callers who go away in the middle, and keys that are taken away while they are used."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Final
from urllib.parse import urlsplit

import httpx
from support.gateway import TENANT, Gateway, eventually, gateway_on
from support.ledger import assert_audited

from gateway.core.job import JobState

PATH: Final = "/v2/flux-2-pro"
CUTS: Final = 12


def _request(gateway: Gateway, number: int) -> bytes:
    body = json.dumps({"prompt": f"piece-{number}"}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nx-api-key: {gateway.key}\r\nidempotency-key: piece-{number}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _leave_after(gateway: Gateway, sent: bytes, after_ms: int) -> None:
    """Send some bytes of a request, and go away, at once or a little later."""
    where = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(sent)
    await writer.drain()
    await asyncio.sleep(after_ms / 1000)
    writer.transport.abort()


async def test_r09_a_client_that_disconnects_at_any_byte(redis_url: str) -> None:
    """Whenever a caller leaves, its job is started once or not at all, is recorded, and is found by its key."""
    async with gateway_on(redis_url) as gateway:
        whole = len(_request(gateway, 0))
        cuts = [(cut, 0) for cut in (*range(0, whole, whole // CUTS), whole - 1)]
        cuts += [(whole, after_ms) for after_ms in range(CUTS)]
        await asyncio.gather(
            *(
                _leave_after(gateway, _request(gateway, number)[:cut], after_ms)
                for number, (cut, after_ms) in enumerate(cuts)
            )
        )
        ids = []
        for number in range(len(cuts)):
            again = await eventually(lambda number=number: _replayed(gateway, number))  # type: ignore[misc]  # mypy can't infer a lambda's default
            assert again.status_code == httpx.codes.OK
            ids.append(again.json()["request_id"])
        assert {job.state for job in await asyncio.gather(*map(gateway.ended, ids))} == {JobState.COMPLETED}
        sent = Counter(job["body"]["prompt"] for job in gateway.accepted())
        assert sent == Counter(f"piece-{number}" for number in range(len(cuts)))
        assert await gateway.money() == (gateway.billed_nano(), 0)
        await assert_audited(gateway.store.client)


async def _replayed(gateway: Gateway, number: int) -> httpx.Response | None:
    """Ask by the key; None while the first request with it is under way."""
    answer = await gateway.post(PATH, {"prompt": f"piece-{number}"}, idempotency_key=f"piece-{number}")
    return None if answer.status_code == httpx.codes.CONFLICT else answer


async def _accepted(gateway: Gateway, count: int) -> bool:
    return len(gateway.accepted()) >= count


async def test_r28_a_key_that_is_revoked_under_load(redis_url: str) -> None:
    """From the moment that the revocation is on record no request with the key is let in; what it started goes on."""
    async with gateway_on(redis_url) as gateway:
        revoked = asyncio.Event()
        late: list[int] = []
        started: list[str] = []

        async def caller() -> None:
            while not revoked.is_set():
                answer = await gateway.post(PATH)
                if answer.status_code == 200:
                    started.append(answer.json()["request_id"])
            late.append((await gateway.post(PATH)).status_code)

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        await eventually(lambda: _accepted(gateway, 20))
        await gateway.admin.revoke_key(TENANT, gateway.key.split("_")[2])
        revoked.set()
        await asyncio.gather(*callers)
        assert late == [401] * len(callers)
        assert len(started) == len(gateway.accepted()) >= 20
        assert {(await gateway.ended(job_id)).state for job_id in started} == {JobState.COMPLETED}
        assert await gateway.money() == (gateway.billed_nano(), 0)
