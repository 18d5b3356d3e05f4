"""Keys that are taken away while they are used."""

from __future__ import annotations

import asyncio
from typing import Final

from support.gateway import TENANT, Gateway, eventually, gateway_on

from gateway.core.job import JobState

PATH: Final = "/v2/flux-2-pro"


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
