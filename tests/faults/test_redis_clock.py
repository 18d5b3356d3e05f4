"""Replicas whose clocks are an hour off: what counts is Redis's."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import httpx
from support.fleet import Member, fleet_on
from support.gateway import TENANT, eventually
from support.ledger import CREDIT, assert_audited, counters, window_id
from support.vendor import KLING

from gateway.core.job import JobState
from gateway.core.tenant import RateLimit, TenantPolicy
from gateway.sandbox import Fault
from gateway.sandbox.state import Call
from gateway.service.sweep import ORPHANS_S

HOUR_S: Final = 3600.0
BURST: Final = 3
TIME_SCALE: Final = 600.0


async def test_r34_clocks_an_hour_off(redis_url: str, tmp_path: Path) -> None:
    """Replicas an hour ahead and behind share one limit and windows, and take no send for lost and no job for late."""
    async with fleet_on(redis_url, tmp_path, time_scale=TIME_SCALE) as fleet:
        limit = RateLimit(limit=1, period_s=3600, burst=BURST)
        await fleet.store.tenants.put(TenantPolicy(TENANT, submit=limit, budgets={"day": 1000 * CREDIT}))
        ahead, behind = await fleet.start(skew_s=HOUR_S), await fleet.start(skew_s=-HOUR_S)
        # One send lasts for two rounds of the sweep, which the replica an hour ahead makes as well.
        fleet.vendor.sandbox.faults.add(
            Fault(action="delay", on=("submit",), delay_s=2 * ORPHANS_S + 1, times=1),
            Fault(action="outcome", outcome="PROCESSING"),
        )
        began_ms = time.time() * 1000
        slow = asyncio.create_task(fleet.submit(1, behind))
        await eventually(lambda: _sent(fleet.vendor.sandbox.calls))
        ids = [await fleet.submit(2, ahead), await fleet.submit(3, behind)]
        ids.append(await slow)
        refused = await fleet.http.post(f"{ahead.url}/v2/{KLING}", json={"prompt": "one more"})
        assert refused.status_code == httpx.codes.TOO_MANY_REQUESTS
        assert HOUR_S / 2 < int(refused.headers["retry-after"]) <= HOUR_S
        await eventually(lambda: _both_poll(ahead, behind))
        for job in fleet.vendor.sandbox.jobs:
            job.total_s = time.time() - job.submitted_at
        await fleet.all_ended()
        jobs = await fleet.jobs(ids)
        assert [job.state for job in jobs] == [JobState.COMPLETED] * BURST
        assert all(began_ms - 60_000 < job.created_ms < time.time() * 1000 + 60_000 for job in jobs)
        days = {name for name in await counters(fleet.store.client, TENANT) if name.startswith("day:")}
        assert days == {f"{window_id('day', job.created_ms)}:spent" for job in jobs}
        told = [(line["event"], line.get("detail", "")) for member in (ahead, behind) for line in member.lines()]
        assert {"job.unknown", "job.expired"}.isdisjoint(event for event, _ in told)
        late = [detail for event, detail in told if event == "job.overdue"]
        ages_s = [float(re.findall(r"running for (\d+) s", detail)[0]) for detail in late]
        assert max(ages_s, default=0) < HOUR_S / 2
        assert len(fleet.vendor.sandbox.accepted) == BURST
        await assert_audited(fleet.store.client)


async def _both_poll(*members: Member) -> bool:
    return all(member.polls() > 0 for member in members)


async def _sent(calls: Iterable[Call]) -> bool:
    return any(call.method == "POST" for call in calls)
