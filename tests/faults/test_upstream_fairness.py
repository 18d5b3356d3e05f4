"""The vendor's limit shared among tenants by real processes: whatever one tenant does, another keeps its share."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx
from support.fleet import Fleet, Member, fleet_on
from support.gateway import TENANT, TIME_SCALE, scaled
from support.ports import UNLIMITED
from support.vendor import KLING

from gateway.core.policy import Policy
from gateway.core.tenant import TenantPolicy
from gateway.service.tenants import TenantAdmin

LIMIT = 600
"""Of which a tenant that floods leaves 16 places for others at once: more than `SMALL`, however slow the machine is."""
SMALL = 12
RATIO = 10
IDLE = 50


async def keyed(fleet: Fleet, tenant: str, count: int) -> list[str]:
    """Give a tenant keys."""
    admin = TenantAdmin(fleet.store.tenants)
    return [(await admin.create_key(tenant)).text.reveal() for _ in range(count)]


async def floods(fleet: Fleet, member: Member, key: str, answers: asyncio.Queue[httpx.Response]) -> None:
    """Submit job after job, whatever is answered, until the process dies."""
    with suppress(httpx.TransportError):
        while True:
            await answers.put(await submit(fleet, member, key))


async def submit(fleet: Fleet, member: Member, key: str) -> httpx.Response:
    """Submit a job."""
    url = f"{member.url}/v2/{KLING}"
    return await fleet.http.post(url, json={"prompt": "cat and dog are dancing."}, headers={"x-api-key": key})


async def test_r14_ten_to_one_through_two_processes(redis_url: str, tmp_path: Path) -> None:
    """A tenant within its share is always let through while another floods with many keys, and as a process dies."""
    async with fleet_on(redis_url, tmp_path, time_scale=TIME_SCALE) as fleet:
        await fleet.store.tenants.put_rules(scaled(Policy(upstream_rpm=LIMIT), TIME_SCALE))
        for tenant in ("small", *(f"idle-{n}" for n in range(IDLE))):
            await fleet.store.tenants.put(TenantPolicy(tenant, submit=UNLIMITED))
        first, second = await fleet.start(), await fleet.start()
        [small], keys = await keyed(fleet, "small", 1), await keyed(fleet, TENANT, RATIO)
        answers: asyncio.Queue[httpx.Response] = asyncio.Queue(maxsize=RATIO)
        flood = [asyncio.create_task(floods(fleet, (first, second)[n % 2], key, answers)) for n, key in enumerate(keys)]
        told, mine = [], []
        for number in range(SMALL):
            told += [await answers.get() for _ in range(RATIO)]
            if number == SMALL // 2:
                await second.kill()
            mine.append(await submit(fleet, first if number >= SMALL // 2 else (first, second)[number % 2], small))
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        assert [answer.status_code for answer in mine] == [httpx.codes.OK] * SMALL, [one.text for one in mine]
        refused = [answer.json() for answer in told if answer.status_code != httpx.codes.OK]
        assert {(said["code"], said["limited_by"]) for said in refused} == {("upstream_rate_limited", "gateway")}
